"""Published tongues in a stock vLLM with the plugin: threads write what they do in the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reasoning import Reasoner, Solution, load_model
from reasoning.language.native.catalog import family
from reasoning.language.native.description import PlanRule
from reasoning.language.native.dialect import NativeDialect
from reasoning.models.loaded import LoadedModel
from reasoning.models.server import ServerSource
from reasoning.models.vllm import VllmSource
from reasoning.vllm_plugin import Mode
from tests.support.flat_reference import Reference
from tests.support.model_hub import model_hub
from tests.support.native_tools import write_tokenizer
from tests.support.watched_engine import random_model
from tests.vllm.comparison import serving

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default"), pytest.mark.slow]

SIZES = {
    "vocab_size": 320,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
LAYERS = 3


def spoken(folder: Path, name: str) -> NativeDialect:
    """A family's tongue for a model that knows nothing: three branches wherever it asks."""
    format = family(name)
    fork = format.fork.model_copy(update={"stray": "serial"})
    if fork.plan.width == "plan":
        more = {"plan": PlanRule(count=3, width="constant"), "requires": (), "forbids": ()}
        fork = fork.model_copy(update={**more, "room": 20})
    return NativeDialect(
        folder, frozenset(), format.model_copy(update={"fork": fork}), layers=LAYERS
    )


async def solved(model: LoadedModel, questions: Sequence[str], positions: str) -> list[Solution]:
    async with Reasoner(model) as reasoner:
        return [
            await reasoner.solve(
                question,
                temperature=0.0,
                max_tokens=900,
                allow_repetition=True,
                strategy=f"native:depth=2,positions={positions}",
            )
            for question in questions
        ]


def built(root: Path, name: str) -> Path:
    """A random model with a family's tokenizer and vectors."""
    folder = random_model(root / "model", "Qwen2", **SIZES)
    write_tokenizer(folder, [control.text for control in family(name).controls])
    marked = bool(family(name).tensors)
    return Reference(folder).identify(folder, 3, published=True) if marked else folder


def assert_equal(wanted: Sequence[Solution], found: Sequence[Solution]) -> None:
    for one, other in zip(wanted, found, strict=True):
        assert (one.forked, other.emulated, other.errors) == (True, (), ())
        texts = ({t.id: t.text for t in solution.threads} for solution in (one, other))
        assert next(texts) == next(texts)
        own = {thread.id: thread.logprob or 0.0 for thread in one.threads}
        assert max(abs(own[t.id] - (t.logprob or 0.0)) for t in other.threads) < 1e-4
        assert one.parallel == other.parallel


@pytest.mark.parametrize(
    ("name", "mode", "positions", "questions"),
    [
        ("multiverse", "join", "trained", ("Why?", "How?")),
        ("npr", "live", "engine", ("Where?", "When?")),
        ("parathinker", "live", "trained", ("How?", "Who?", "Where?")),
        ("parathinker", "live", "engine", ("How?", "Who?", "Where?")),
    ],
)
async def test_a_tongue_is_spoken_on_vllm_as_in_the_embedded_engine(
    tmp_path: Path, name: str, mode: Mode, positions: str, questions: tuple[str, ...]
) -> None:
    folder = built(tmp_path, name)
    dialect = spoken(folder, name)
    here = replace(load_model(folder), dialect=dialect)
    there = VllmSource(dtype="float32", plugin=mode, kv_cache_gib=1).load(folder)
    wanted = await solved(here, questions, positions)
    assert_equal(wanted, await solved(replace(there, dialect=dialect), questions, positions))


@pytest.mark.parametrize(
    ("name", "questions"), [("parathinker", ("How?", "Where?")), ("multiverse", ("Why?",))]
)
async def test_a_tongue_is_spoken_by_a_server_as_in_the_embedded_engine(
    tmp_path: Path, name: str, questions: tuple[str, ...]
) -> None:
    folder = built(tmp_path, name)
    dialect = spoken(folder, name)
    wanted = await solved(replace(load_model(folder), dialect=dialect), questions, "trained")
    with serving(folder, tmp_path / "log", 1, "--max-model-len", "2048") as url:
        there = await ServerSource(
            base_urls=(url,), tokenizer=str(folder), probe_timeout=60
        ).connect()
        found = await solved(replace(there, dialect=dialect), questions, "trained")
    assert_equal(wanted, found)


async def test_a_name_on_a_hub_is_served_as_a_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, questions = "org/Thinker-tiny", ("How?", "Where?")
    folder = built(tmp_path, "parathinker")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with model_hub({name: folder}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with serving(Path(name), tmp_path / "log", 1, "--max-model-len", "2048") as url:
            source = ServerSource(base_urls=(url,), tokenizer=name, probe_timeout=60)
            there = await source.connect()
            found = await solved(there, questions, "trained")
    here = load_model(name)  # out of the cache that the server has filled
    for model in (here, there):
        assert isinstance(model.dialect, NativeDialect)
        assert model.dialect.recognised == "dialect: parathinker (by its 21 control tokens)"
    assert_equal(await solved(here, questions, "trained"), found)
