"""Where the engine computes: every table is made on the model's device, in its type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from orchestrator.errors import InvalidValue
from reasoning import Context, Segment
from reasoning.engine.engine import Engine
from reasoning.models.catalog import find
from reasoning.models.embedded import EmbeddedSource
from reasoning.models.loading import load_model
from reasoning.values.sampling import Sampling
from tests.support.reading import ReadEngine

PROMPT = [7, 11, 300, 12]


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """What is created without a word about its device is not where the model is."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def run(engine: Engine, temperature: float) -> list[list[int]]:
    """Branches of one prompt, and a thread that sees two of them in turned positions."""
    base = Context.given(PROMPT)
    branches = [Segment(base, [20 + i]) for i in range(3)]
    ids = [engine.open(b, Sampling(temperature=temperature, seed=1), limit=12) for b in branches]
    while engine.running:
        engine.step()
    reader = Segment(Context.flow([base.entries[0].segment, *branches[:2]]), [5])
    ids.append(engine.open(reader, Sampling(), limit=40))
    while engine.running:
        engine.step()
    for id in ids:
        engine.close(id)
    return [segment.tokens for segment in (*branches, reader)]


def test_every_table_of_a_step_is_made_on_the_models_device(
    monkeypatch: pytest.MonkeyPatch, elsewhere: None
) -> None:
    monkeypatch.setenv("REASON_COMPILE", "0")
    engine = ReadEngine.load(find("reason-5m"))
    assert {str(engine.pool.store.device), engine.decoder.device} == {"cpu"}
    assert all(len(tokens) > 4 for tokens in run(engine, 0.8))


def test_bfloat16_gives_nearly_the_log_probabilities_of_float32() -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        engine = ReadEngine.load(find("reason-5m"), dtype=dtype)
        assert engine.pool.store.dtype == dtype
        given = Segment(Context(), PROMPT)
        engine.open(given, Sampling())
        found.append(engine.step()[0])
    assert abs(found[0].logprob - found[1].logprob) < 0.1  # type: ignore[union-attr]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(
        InvalidValue, match=r"device: 'cuda' is not there; give cpu, for this torch"
    ):
        load_model("reason-5m", settings=["device=cuda"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_writes_what_the_cpu_writes() -> None:
    cpu = run(ReadEngine.load(find("reason-5m")), 0.0)
    assert run(ReadEngine.load(find("reason-5m"), device="cuda"), 0.0) == cpu


def test_settings_of_the_embedded_engine_are_checked_by_name() -> None:
    with pytest.raises(InvalidValue, match="dtype: 'int4' does not fit"):
        load_model("reason-5m", settings=["dtype=int4"])
    model = EmbeddedSource(dtype="bfloat16").load("reason-5m")
    assert model.backend.engine.decoder.dtype == torch.bfloat16
