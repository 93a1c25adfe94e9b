"""Published families in a stock vLLM with the plugin, against each one's mask and positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from reasoning.values.context import Segment
from reasoning.vllm_plugin import Mode, engine_arguments
from reasoning.vllm_plugin.client import SegmentClient
from tests.support.published import FAMILIES, Laid, Writing, flat
from tests.vllm.comparison import TINY, Runner, environment
from tests.vllm.conftest import Author, Driver

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = pytest.mark.filterwarnings("default")

BOUND = 2e-4
JOINED = [name for name in FAMILIES if name.startswith(("Multiverse", "NPR", "ParaThinker"))]
JOINED.append("Parallel-R1 Unseen, as trained")


def subject(name: str) -> str:
    return "qwen2-gqa+published" if FAMILIES[name].vectors else "qwen2-gqa"


def written(author: Author, name: str) -> Writing:
    """A family's run on an engine."""

    def write(begun: Sequence[Segment], counts: Sequence[int]) -> None:
        ids = [author.start(one, count) for one, count in zip(begun, counts, strict=True)]
        author.driver.run(*ids)
        for segment, id in zip(begun, ids, strict=True):
            author.end(segment, id)

    run = Writing(write)
    FAMILIES[name].run(run)
    return run


def difference(
    author: Author, reference: Any, run: Writing, layout: Callable[[Laid], None]
) -> float:
    """The largest one between vLLM's log-probabilities and those of a layout."""
    laid = Laid({name: segment.tokens for name, segment in run.segments.items()})
    layout(laid)
    assert laid.spans.keys() == run.segments.keys()
    own, paths, starts = flat({name: laid.spans[name] for name in run.segments})
    expected = reference(own, paths).log_softmax(-1)
    names = {segment: name for name, segment in run.segments.items()}
    known = {at: one for at, one in author.logprobs.items() if at[0] in names and at[1]}
    rows = [starts[names[segment]] + index - 1 for segment, index in known]
    tokens = [segment.tokens[index] for segment, index in known]
    assert len(rows) >= 20
    return float((expected[rows, tokens] - torch.tensor([*known.values()])).abs().max())


def compare(author: Author, reference: Any, name: str) -> None:
    run = written(author, name)
    assert difference(author, reference, run, FAMILIES[name].layout) < BOUND
    for other, layout in FAMILIES[name].wrong.items():
        assert difference(author, reference, run, layout) > 1e-2, other
    if FAMILIES[name].vectors:
        whole = reference.identities
        reference.identities = whole.clone()
        reference.identities[:, 0] = 0
        without = difference(author, reference, run, FAMILIES[name].layout)
        reference.identities = whole
        assert without > 1e-2, "row 0 left out"


@pytest.mark.parametrize(
    ("kind", "mode", "name"),
    [
        ("llama", "join", "Multiverse, as trained"),
        ("qwen3-gqa", "live", "NPR, in its engine"),
        ("llama+published", "live", "ParaThinker, as trained"),
        ("qwen3-gqa+published", "join", "ParaThinker, in its engine"),
    ],
)
def test_other_models_compute_the_same(
    start: Callable[..., Any], reference: Callable[[str], Any], kind: str, mode: Mode, name: str
) -> None:
    compare(start(kind, mode), reference(kind), name)


@pytest.mark.parametrize("mode", ["join", "live"])
@pytest.mark.parametrize("name", sorted(JOINED, key=subject))
def test_a_familys_run_equals_its_authors_computation(
    start: Callable[..., Any], reference: Callable[[str], Any], name: str, mode: Mode
) -> None:
    compare(start(subject(name), mode), reference(subject(name)), name)


@pytest.fixture(params=["qwen2-gqa", "qwen2-gqa+published"])
def second(
    request: pytest.FixtureRequest,
    model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[str, Driver]]:
    """vLLM's second model runner, which this process need not have; its child interprets Triton."""
    runner: Runner = 2
    for name, value in environment(runner).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", True)
    driver = Driver(model(request.param), engine_arguments("live") | TINY)
    yield request.param, driver
    driver.close()


@pytest.mark.slow
def test_the_second_model_runner_computes_the_same(
    second: tuple[str, Driver], reference: Callable[[str], Any]
) -> None:
    model, driver = second
    for name in JOINED:
        if subject(name) == model:
            compare(Author(driver, SegmentClient("live")), reference(model), name)
