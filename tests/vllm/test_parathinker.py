"""ParaThinker with the shipped path identities: vLLM writes what the embedded engine does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from reasoning.backends.base import Token
from reasoning.backends.embedded import EmbeddedBackend
from reasoning.engine.config import read_config
from reasoning.engine.engine import Engine
from reasoning.evaluation import draw_problems
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model
from reasoning.models.vllm import VllmSource
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import Sampling
from reasoning.vllm_plugin import Mode
from tests.support.reading import reading

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default"), pytest.mark.slow]

PATHS = 4


async def solved(backend: Any, model: LoadedModel, gang: Gang | None) -> list[list[Token]]:
    """What the paths of a problem and their summary write, the first of them cut short."""
    dialect = model.dialect
    (problem,) = draw_problems("countdown", 1, numbers=4, seed=5)
    form = dialect.forms(problem).paths()
    paths = [
        Segment(form.prompt, dialect.encode(form.opening(number)), path=number)
        for number in range(1, PATHS + 1)
    ]
    stop = dialect.stop | form.stop
    threads = [
        backend.open(one, Sampling(), stop=stop, limit=120 if one is paths[0] else 400, gang=gang)
        for one in paths
    ]
    written: dict[int, list[Token]] = {}

    async def read(index: int) -> None:
        written[index] = [token async for token in reading(threads[index], paths[index])]
        threads[index].close()

    async with anyio.create_task_group() as group:
        for index in range(PATHS):
            group.start_soon(read, index)
    context: Context = form.prompt.join([form.prompt.after(path) for path in paths])
    summary = Segment(context, dialect.encode(form.summary))
    thread = backend.open(summary, Sampling(), stop=dialect.stop, limit=512)
    last = [token async for token in reading(thread, summary)]
    thread.close()
    return [*(written[index] for index in range(PATHS)), last]


@pytest.mark.parametrize("mode", ["join", "live"])
async def test_parathinker_generates_the_same_on_vllm(
    model: Callable[[str], Path], mode: Mode
) -> None:
    from reasoning.vllm_plugin.backend import SharedVllmBackend

    folder, loaded = model("shipped"), load_model("reason-5m")

    def gang() -> Gang | None:
        return Gang(size=PATHS, lockstep=True) if mode == "live" else None

    async with EmbeddedBackend(Engine.load(folder)) as here:
        wanted = await solved(here, loaded, gang())
    settings = VllmSource(context=1024, plugin=mode, kv_cache_gib=1)
    async with SharedVllmBackend(folder, read_config(folder), settings) as there:
        with anyio.fail_after(120):
            found = await solved(there, loaded, gang())
    assert sum(map(len, wanted)) > 300
    for one, other in zip(wanted, found, strict=True):
        assert [token.token for token in one] == [token.token for token in other]
        assert max(abs(a.logprob - b.logprob) for a, b in zip(one, other, strict=True)) < 1e-4
