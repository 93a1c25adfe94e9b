"""The vLLM backend with the plugin generates what the embedded engine does."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from reasoning.backends.base import Token
from reasoning.backends.embedded import EmbeddedBackend
from reasoning.engine.config import read_config
from reasoning.engine.engine import Engine
from reasoning.language import markup
from reasoning.models.vllm import VllmSource
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import Sampling
from tests.support.reading import reading

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default"), pytest.mark.slow]

END = markup.VOCABULARY.index(markup.EOS)


def prompt(length: int) -> list[int]:
    rng = random.Random(0)
    return [rng.randrange(3, 900) for _ in range(length)]


async def read(generation: Any, segment: Segment) -> list[Token]:
    return [token async for token in reading(generation, segment)]


async def multiverse(backend: Any) -> list[list[Token]]:
    """Three branches, a conclusion from all of them, and another join by the same thread."""
    base = Context.given(prompt(70))
    branches = [Segment(base, [10 + index]) for index in range(3)]
    stop = range(300, 600)
    threads = [backend.open(one, Sampling(), stop=stop, limit=400) for one in branches]
    written: dict[int, list[Token]] = {}

    async def one(index: int) -> None:
        written[index] = await read(threads[index], branches[index])

    async with anyio.create_task_group() as group:
        for index in range(3):
            group.start_soon(one, index)
    conclusion = Segment(base.join([base.after(branch) for branch in branches]), [12])
    thread = backend.open(conclusion, Sampling(), stop=stop, limit=300)
    for branch in threads:
        branch.close()
    last = await read(thread, conclusion)
    if last[-1].token in stop:
        more = Segment(conclusion.context.after(conclusion), [13])
        thread.resume(more)
        last += await read(thread, more)
    thread.close()
    return [written[index] for index in range(3)] + [last]


class Steps:
    """Has those who stopped in one and the same step go on in their order."""

    def __init__(self, live: Collection[int]) -> None:
        self._live = live
        self._heard = [0] * len(live)
        self._stopped: set[int] = set()

    async def read(self, index: int, generation: Any, segment: Segment) -> list[Token]:
        got = []
        async for token in reading(generation, segment):
            got.append(token)
            self._heard[index] += 1
            if token.reason is not None:
                self._stopped.add(index)
        while self._ahead(index):
            await anyio.lowlevel.checkpoint()
        self._stopped.discard(index)
        return got

    def _ahead(self, index: int) -> bool:
        """Whether a token of the step is to come, or one before it has yet to go on."""
        late = any(self._heard[one] < self._heard[index] for one in self._live)
        return late or min(self._stopped) < index


async def hogwild(backend: Any) -> list[list[Token]]:
    """Workers whose steps move into the history, one that is given words, and who leave."""
    head, gang = Segment(Context(), prompt(45)), Gang(size=3)
    history, written = [head], {}
    live = {index: Segment(Context.flow([head]), [60 + index, 7]) for index in range(3)}

    def look() -> None:
        for own in live.values():
            others = [one for one in live.values() if one is not own]
            own.look(Context.flow([*history, *others]))

    steps = Steps(live)

    async def work(index: int) -> None:
        stop = {*range(350), END}  # whoever ends keeps the others standing until it has left
        thread = backend.open(live[index], Sampling(), stop=stop, limit=260, gang=gang)
        got: list[Token] = []
        for turn in range(6):
            got += await steps.read(index, thread, live[index])
            if got[-1].token == END or turn == 5:
                break
            if index == 1:
                thread.extend([5])
                live[index].tokens.append(5)
            else:
                history.append(live[index])
                live[index] = Segment(Context.flow(history), [70 + index])
                look()
                thread.resume(live[index])
        history.append(live.pop(index))
        look()
        thread.close()
        written[index] = got

    look()
    async with anyio.create_task_group() as group:
        for index in range(3):
            group.start_soon(work, index)
    return [written[index] for index in range(3)]


async def group_think(backend: Any) -> list[list[Token]]:
    """Thinkers in slots, which end one after the other, one of them by itself."""
    base, gang = Context.given(prompt(50)), Gang(size=3)
    slots = [
        Segment(Context(entries=base.entries, position=50 + 200 * index), [50 + index])
        for index in range(3)
    ]
    for own in slots:
        own.look(own.context.seeing(*(one for one in slots if one is not own)))
    written = {}

    async def work(index: int) -> None:
        stop = range(200)
        thread = backend.open(slots[index], Sampling(), stop=stop, limit=600, gang=gang)
        got: list[Token] = []
        for turn in range(4 + index):
            got += await read(thread, slots[index])
            if got[-1].token not in stop or turn == 3 + index:
                break
            thread.extend([])
        thread.close()
        written[index] = got

    async with anyio.create_task_group() as group:
        for index in range(3):
            group.start_soon(work, index)
    return [written[index] for index in range(3)]


async def test_every_paradigm_generates_the_same_on_vllm(model: Callable[[str], Path]) -> None:
    from reasoning.vllm_plugin.backend import SharedVllmBackend

    folder = model("shipped")
    kinds: list[Callable[[Any], Awaitable[list[list[Token]]]]] = [multiverse, hogwild, group_think]
    async with EmbeddedBackend(Engine.load(folder)) as here:
        wanted = [await kind(here) for kind in kinds]
    settings = VllmSource(context=2048, plugin="live", kv_cache_gib=1)
    async with SharedVllmBackend(folder, read_config(folder), settings) as there:
        assert {"kv-join", "live-contexts"} <= there.capabilities
        for kind, threads in zip(kinds, wanted, strict=True):
            with anyio.fail_after(120):
                written = await kind(there)
            for one, other in zip(threads, written, strict=True):
                assert [token.token for token in one] == [token.token for token in other]
                assert one[-1].reason == other[-1].reason
                assert (
                    max(abs(a.logprob - b.logprob) for a, b in zip(one, other, strict=True)) < 1e-4
                )
        assert there.leaked == 0
