"""ParaThinker's path identities in a stock vLLM: marked keys and values, joined and attended to."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator.errors import InvalidValue
from reasoning.values.context import Context, Segment
from reasoning.vllm_plugin import Mode

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = pytest.mark.filterwarnings("default")

MODEL = "qwen3-gqa+paths"
PUBLISHED = "qwen2-gqa+published"
LENGTHS = 70, 41, 96


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 256) for _ in range(length)]


def thought(author: Any, seed: int, live: bool, numbers: tuple[int, ...] = (1, 3, 2)) -> list[Any]:
    """Paths with these identities from one prompt, and a summary that sees all of them."""
    base = Context.given(prompt(45, seed))
    paths = [Segment(base, [10 + number, 7], path=number) for number in numbers]
    if live:
        ids = author.gang(paths, LENGTHS[: len(paths)])
    else:
        ids = [author.start(path, count) for path, count in zip(paths, LENGTHS, strict=False)]
    author.driver.run(*ids)
    for path, id in zip(paths, ids, strict=True):
        author.end(path, id)
    summary = Segment(base.join([base.after(path) for path in paths]), [9])
    author.write([summary], 40)
    segments = [base.entries[0].segment, *paths, summary]
    author.steps(segments)
    return segments


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *[("llama+paths", "join"), ("yarn+paths", "live"), (MODEL, "live")],
        *[("qwen2-gqa+published", "join"), ("yarn+published", "live"), (PUBLISHED, "live")],
    ],
)
def test_paths_and_their_summary_equal_a_flat_forward_pass(
    start: Callable[..., Any], reference: Callable[[str], Any], name: str, mode: Mode
) -> None:
    author = start(name, mode)
    count, worst = author.compare(reference(name), thought(author, 1, mode == "live"))
    assert count == sum(LENGTHS) + 40
    assert worst < 1e-4


def test_what_is_no_paths_has_row_0_of_published_vectors(
    start: Callable[..., Any], reference: Callable[[str], Any]
) -> None:
    author = start(PUBLISHED, "live")
    text = Segment(Context(), prompt(60, 5))
    author.write([text], 40)
    author.steps([text])
    count, worst = author.compare(reference(PUBLISHED), [text])
    assert count == 40
    assert worst < 1e-4


def test_control_without_row_0_a_plain_text_is_another(
    start: Callable[..., Any], reference: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasoning.vllm_plugin.connector import SegmentConnector

    author = start(PUBLISHED, "live")
    monkeypatch.setattr(SegmentConnector, "_marked", lambda self, scheduled, active: {})
    text = Segment(Context(), prompt(60, 5 + 1))
    author.write([text], 40)
    author.steps([text])
    count, worst = author.compare(reference(PUBLISHED), [text])
    assert count < 0 or worst > 1e-2


def test_one_path_and_its_summary_are_no_ordinary_text(
    start: Callable[..., Any], reference: Callable[[str], Any]
) -> None:
    author = start(MODEL, "live")
    count, worst = author.compare(reference(MODEL), thought(author, 2, False, (3,)))
    assert count == LENGTHS[0] + 40
    assert worst < 1e-4


def test_steps_without_notes_run_vllms_own_methods(start: Callable[..., Any]) -> None:
    author = start(MODEL, "live")
    layers = author.driver.engine.vllm_config.compilation_config.static_forward_context.values()

    def replaced() -> set[str]:
        found = [vars(author.driver.scheduler.kv_cache_manager), *(vars(o.impl) for o in layers)]
        names = ("allocate_slots", "forward", "do_kv_cache_update")
        return {name for name in names for one in found if name in one}

    text = author.driver.add(prompt(20), 200)
    author.driver.step()
    assert not replaced()
    base = Context.given(prompt(20))
    (id,) = author.gang([path := Segment(base, [10], path=1)], [20])
    while not author.driver.written[id].tokens:
        author.driver.step()
    assert replaced() == {"forward", "do_kv_cache_update"}
    author.driver.run(id)
    author.end(path, id)
    author.driver.step()
    assert not replaced()
    author.driver.run(text)


@pytest.mark.parametrize("dropped", ["keys", "values", "turns"])
def test_control_without_a_part_of_the_identity_the_paths_are_others(
    start: Callable[..., Any],
    reference: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    dropped: str,
) -> None:
    from reasoning.vllm_plugin.attention.paths import Marks

    add = Marks.add

    def drop(self: Marks, vectors: Any, key: Any, value: Any) -> tuple[Any, Any]:
        if dropped == "turns":
            self = self._replace(cosine=self.cosine * 0 + 1, sine=self.sine * 0)
        marked = add(self, vectors, key, value)
        return (
            key if dropped == "keys" else marked[0],
            value if dropped == "values" else marked[1],
        )

    monkeypatch.setattr(Marks, "add", drop)
    author = start(MODEL, "live")
    count, _ = author.compare(reference(MODEL), thought(author, 3, True))
    assert count < 0


@pytest.mark.parametrize("apart", [True, False], ids=["apart", "control: not apart"])
def test_an_ordinary_request_with_a_paths_text_is_not_given_its_keys(
    start: Callable[..., Any],
    reference: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    apart: bool,
) -> None:
    from reasoning.vllm_plugin.connector import SegmentConnector

    if not apart:
        monkeypatch.setattr(SegmentConnector, "_separate", lambda self, one: None)
    author = start(MODEL, "join")
    head, path, *_ = thought(author, 4 + apart, False, (1,))
    same = Segment(Context(), head.tokens + path.tokens)
    written = author.driver.add(same.tokens, 10)
    author.driver.run(written)
    author.end(same, written)
    author.steps([same])
    count, worst = author.compare(reference(MODEL), [same])
    assert (count == 10 and worst < 1e-4) == apart


def test_a_path_that_is_preempted_is_marked_again(
    start: Callable[..., Any], reference: Callable[[str], Any]
) -> None:
    author = start(MODEL, "join")
    base = Context.given(prompt(45, 6))
    path = Segment(base, [11, 7], path=2)
    id = author.start(path, 60)
    while len(author.driver.written[id].tokens) < 20:
        author.driver.step()
    scheduler = author.driver.scheduler
    (request,) = scheduler.running
    scheduler.running.remove(request)
    scheduler._preempt_request(request, 0.0)
    author.driver.run(id)
    author.end(path, id)
    segments = [base.entries[0].segment, path]
    author.steps(segments)
    count, worst = author.compare(reference(MODEL), segments)
    assert request.num_preemptions == 1
    assert count == 60
    assert worst < 1e-4


def test_a_path_without_an_identity_fails_by_name(
    start: Callable[..., Any],
) -> None:
    author = start(MODEL, "join")
    own = Segment(Context.given(prompt(20, 8)), [11], path=4)
    id = author.start(own, 5)
    (one,) = (o for o in author.driver.scheduler.connector.segments.active.values() if o.note.path)
    assert one.failure == "path: 4, and the model has identities for 3; use fewer"
    assert [one.finish for one in author.driver.run(id)] == ["error"]
    author.client.ended(own)


def test_a_model_without_identities_ignores_paths(
    start: Callable[..., Any], reference: Callable[[str], Any]
) -> None:
    author = start("qwen3-gqa", "live")
    count, worst = author.compare(reference("qwen3-gqa"), thought(author, 9, True))
    assert count == sum(LENGTHS) + 40
    assert worst < 1e-4


def hub(folder: Path, load_format: str = "auto") -> Any:
    """The settings of an engine whose model is a name on a hub."""
    model = SimpleNamespace(
        model="Leslie04/ParaThinker-1.5B",
        revision=None,
        get_total_num_hidden_layers=lambda: 2,
        get_head_size=lambda: 32,
    )
    loading = SimpleNamespace(load_format=load_format, download_dir=str(folder))
    return SimpleNamespace(model_config=model, load_config=loading)


def test_a_name_on_a_hub_has_its_vectors_in_its_snapshot(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from reasoning.engine.identities import VECTORS
    from reasoning.vllm_plugin.attention.paths import identities_of

    cached = tmp_path / "models--Leslie04--ParaThinker-1.5B"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0a1b")
    (cached / "snapshots" / "0a1b").mkdir(parents=True)
    rows = {VECTORS.format(layer): torch.full((9, 32), layer + 1.0) for layer in range(2)}
    save_file(rows, cached / "snapshots" / "0a1b" / "model.safetensors")
    found = identities_of(hub(tmp_path))
    assert found is not None
    assert found.shape == (2, 9, 32)
    assert found[:, 0, 0].tolist() == [1, 2]


def test_a_name_whose_weights_nobody_knows_is_refused(tmp_path: Path) -> None:
    from reasoning.vllm_plugin.attention.paths import identities_of

    with pytest.raises(InvalidValue, match=r"ParaThinker-1\.5B are in no folder that is known"):
        identities_of(hub(tmp_path))
    assert identities_of(hub(tmp_path, "dummy")) is None


def test_a_name_on_a_hub_is_loaded_without_what_marks_paths(tmp_path: Path) -> None:
    from reasoning.vllm_plugin.runners.loading import without_vectors

    config = hub(tmp_path)
    with without_vectors(config):
        assert config.load_config.load_format == "reason-auto"
    assert config.load_config.load_format == "auto"
    other = hub(tmp_path, "runai_streamer")
    with without_vectors(other):
        assert other.load_config.load_format == "runai_streamer"
