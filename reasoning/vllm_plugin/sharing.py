"""Threads that see, join and follow each other's segments, on whatever engine runs the plugin."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import anyio

from reasoning.backends.base import Token
from reasoning.backends.prompted import PromptedBackend, PromptedGeneration
from reasoning.errors import BackendLost
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import Sampling
from reasoning.vllm_plugin import Mode
from reasoning.vllm_plugin.client import PlannedRequest, SegmentClient, is_plain
from reasoning.vllm_plugin.note import Member, Note

IDLE_S = 0.05
"""What nobody needs is released with the next request, or after so long without one."""


@dataclass(eq=False)
class _OpenGang:
    """A gang on this engine; its requests are sent when all that it starts with are open."""

    gang: Gang
    name: str
    threads: dict[int, SharedGeneration] = field(default_factory=dict)
    complete: anyio.Event = field(default_factory=anyio.Event)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def others(self, own: SharedGeneration) -> list[Segment]:
        return [one.segment for one in self.threads.values() if one is not own]


class SharedGeneration(PromptedGeneration):
    """One thread; each of its requests carries a note that says what it sees."""

    cohort: _OpenGang | None = None
    member: Member | None = None
    note: Note | None = None
    gang_room = 0
    """How many tokens its present request may write."""

    def __init__(self, backend: PromptedBackend, *args: Any, **options: Any) -> None:
        assert isinstance(backend, SharedThreads)
        super().__init__(backend, *args, **options)
        self._shared = backend

    def join(self, cohort: _OpenGang) -> None:
        """Take a place in a gang."""
        size = max(cohort.gang.size, 1)
        self.cohort = cohort
        self.member = Member(gang=cohort.name, size=size, member=next(cohort.numbers))
        cohort.threads[self.member.member] = self
        self._shared.client.reserve(self.segment)
        if cohort.gang.opened >= size:
            cohort.complete.set()

    def measure(self, prompt: int) -> None:
        """Set how many tokens it may still write at most."""
        self.gang_room = min(self.room, self._shared.context - prompt)

    def left_in(self, segment: Segment) -> int:
        """As many as there are positions left: branches that were joined overlap in theirs."""
        return self.limit - segment.position

    def full_after(self, token: Token) -> Token:
        """A token that it wrote, with its reason where the others have taken all that was left."""
        return token if token.reason or self.context_room > 1 else token._replace(reason="length")

    def extend(self, tokens: Sequence[int]) -> None:
        super().extend(tokens)
        if self.cohort is not None:
            self._shared.client.reserve(self.segment)

    def resume(self, segment: Segment) -> None:
        super().resume(segment)
        if self.cohort is not None:
            self._shared.client.reserve(segment)

    def found_cached(self, count: int) -> None:
        if self.note is None or self.note.view is None:
            super().found_cached(count)
        else:
            self.cached = (self.cached or 0) + count

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        self._shared.closed(self)


class SharedThreads(PromptedBackend):
    """What a backend has whose engine runs the plugin; it stands before the class that it adds to.

    Attributes:
        half: Which half of the plugin the engine runs.
        client: Says what each request must ask for.
    """

    generation = SharedGeneration
    stops_anywhere = False  # the others of a gang see what is written behind
    half: Mode
    client: SegmentClient

    def share(self, half: Mode) -> None:
        """Begin with an engine that holds nothing."""
        self.half, self.client = half, SegmentClient(half)
        self._cohorts: dict[Gang, _OpenGang] = {}
        self.capabilities |= {"kv-join"}
        if half == "live":  # which is first come, first served
            self.capabilities = self.capabilities - {"priorities"} | {"live-contexts"}

    @property
    @abstractmethod
    def reachable(self) -> bool:
        """Whether there is an engine that could be told something."""

    @abstractmethod
    async def wake(self) -> None:
        """Wait until there is an engine."""

    @abstractmethod
    async def compute(self, prompt: list[int], note: Note) -> None:
        """Send a request whose token is not wanted, and wait for its end, however it ends."""

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> PromptedGeneration:
        opened = super().open(segment, sampling, stop=stop, limit=limit, gang=gang)
        assert isinstance(opened, SharedGeneration)
        if gang is not None:
            gang.opened += 1
            name = self.client.name()
            opened.join(self._cohorts.setdefault(gang, _OpenGang(gang, name)))
        return opened

    async def request(
        self, generation: PromptedGeneration, prompt: list[int]
    ) -> AsyncGenerator[Token, None]:
        assert isinstance(generation, SharedGeneration)
        cohort = generation.cohort
        if cohort is not None:
            await cohort.complete.wait()
        await self.wake()
        segment = generation.segment
        # Nothing is awaited from here until the request is sent, so that later views overtake none.
        others = cohort.others(generation) if cohort else []
        *fills, asked = self.client.plan_requests(segment, generation.member, others)
        generation.note = asked.note
        generation.prompted += len(asked.prompt) - len(prompt)
        generation.measure(len(asked.prompt))
        for fill in fills:
            self._tasks.start_soon(self.compute, fill.prompt, fill.note)
        client, last = self.client, None
        try:
            if generation.gang_room < 1:
                raise BackendLost(
                    f"a thread sees {len(asked.prompt):,} tokens at once and vLLM's context is "
                    f"{self.context:,}; raise it with --engine context=N, or use fewer threads"
                )
            answer = super().request(generation, asked.prompt)  # type: ignore[safe-super]
            async with aclosing(answer) as stream:
                async for token in stream:
                    last = generation.full_after(token)
                    yield last
        finally:
            if last is None:
                client.lost(segment, asked.note)
            client.ended(segment)
            over = last is not None and last.reason and last.token not in generation.stop
            if over and not (cohort and cohort.gang.lockstep):
                self._depart(generation)

    def closed(self, generation: SharedGeneration) -> None:
        """Tell the engine that a thread will not go on."""
        self.client.ended(generation.segment)
        self._depart(generation)
        if not self.open_threads:
            self._tasks.start_soon(self._flush)

    def _depart(self, generation: SharedGeneration) -> None:
        """Tell a thread's gang, once, that it will not go on."""
        cohort, member = generation.cohort, generation.member
        if cohort is None or member is None or cohort.threads.pop(member.member, None) is None:
            return
        if not cohort.threads:
            self._cohorts.pop(cohort.gang, None)
        self._tasks.start_soon(self._leave, cohort, member)

    async def _leave(self, cohort: _OpenGang, member: Member) -> None:
        others = [one.segment for one in cohort.threads.values()]
        await self._part(*self.client.farewell(member, others))

    async def _flush(self) -> None:
        await anyio.sleep(IDLE_S)
        await self._part(*self.client.farewell())

    async def _part(self, fills: list[PlannedRequest], note: Note | None) -> None:
        if not self.reachable:
            return
        async with anyio.create_task_group() as tasks:
            if note is not None:
                tasks.start_soon(self.compute, [0], note)
            for fill in fills:
                tasks.start_soon(self.compute, fill.prompt, fill.note)

    def release(self, segments: Sequence[Segment]) -> None:
        super().release(segments)
        self.client.release(segments)
        if self.reachable and not self.open_threads:
            self._tasks.start_soon(self._flush)

    async def recover(
        self, generation: PromptedGeneration, error: BackendLost, failures: int
    ) -> bool:
        assert isinstance(generation, SharedGeneration)
        if generation.cohort is not None:
            return False  # what a gang saw as it was written can't be computed again
        if not await super().recover(generation, error, failures):  # type: ignore[safe-super]
            return False
        if not is_plain(generation.segment):
            self.client.release([entry.segment for entry in generation.segment.context.entries])
        return True
