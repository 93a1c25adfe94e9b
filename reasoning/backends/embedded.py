"""The embedded backend: our engine in a thread of its own, behind an async interface.

The engine's thread steps as long as any thread of reasoning runs, so no time is lost on the
event loop between steps; commands are taken between two steps.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from orchestrator.errors import InvalidValue
from reasoning.backends.base import Backend, Generation, Token
from reasoning.engine.engine import Engine
from reasoning.engine.threads import SampledToken, ThreadFailure
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import Sampling

Delivery = tuple["EmbeddedGeneration", Token | Exception]
Command = Callable[[Engine], None]


class EmbeddedGeneration(Generation):
    """One thread on the embedded engine."""

    def __init__(self, backend: EmbeddedBackend, segment: Segment) -> None:
        self._backend = backend
        self._segment = segment
        self.engine_id: int | None = None
        """Set and read by the engine's thread only."""
        self._inbox: deque[Token | Exception] = deque()
        self._arrived = asyncio.Event()
        self.closed = False
        self.leaked = 0

    async def tokens(self) -> AsyncIterator[Token]:
        while True:
            while not self._inbox:
                self._arrived.clear()
                await self._arrived.wait()
            item = self._inbox.popleft()
            if isinstance(item, Exception):
                raise item
            yield item
            if item.reason is not None:
                return

    def extend(self, tokens: Sequence[int]) -> None:
        self._submit(lambda engine, id: engine.extend(id, tokens))

    def resume(self, segment: Segment) -> None:
        self._segment = segment
        self._submit(lambda engine, id: engine.resume(id, segment))

    def hold(self, until: int | None) -> None:
        self._submit(lambda engine, id: engine.hold(id, until))

    def _submit(self, command: Callable[[Engine, int], None]) -> None:
        """Have the engine do something with the thread, if it is there by then."""

        def submitted(engine: Engine) -> None:
            if self.engine_id is not None:
                command(engine, self.engine_id)

        self._backend.submit(self, submitted)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._backend.open_threads -= 1
            self.leak(*self._inbox)
            read, self._segment = len(self._segment), Segment(Context())  # held no longer
            self._backend.submit(self, lambda engine: self._backend.forget(engine, self, read))

    def leak(self, *items: Token | Exception) -> None:
        """Count tokens that nobody will read."""
        count = sum(isinstance(item, Token) for item in items)
        self.leaked += count
        self._backend.leaked += count

    def receive(self, item: Token | Exception) -> None:
        """Take a delivery, on the event loop."""
        self._inbox.append(item)
        self._arrived.set()


class EmbeddedBackend(Backend):
    """An `Engine` behind the `Backend` interface::

    async with EmbeddedBackend(engine) as backend:
        segment = Segment(Context.given(prompt))
        generation = backend.open(segment, Sampling(temperature=0.7))
        async for token in generation.tokens():
            segment.tokens.append(token.token)
    """

    capabilities: frozenset[Capability] = frozenset(
        {
            *("token-prompts", "logprobs", "prefix-sharing", "kv-join", "live-contexts"),
            *("confidence", "holding", "scoring"),
        }
    )

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.leaked = 0
        self._commands: deque[tuple[EmbeddedGeneration | None, Command]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._open: dict[int, EmbeddedGeneration] = {}
        self._thread = threading.Thread()

    async def __aenter__(self) -> Self:
        self.engine.claim()
        self.leaked = 0
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="reason-engine")
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        with anyio.CancelScope(shield=True):  # at most one step
            await anyio.to_thread.run_sync(self._thread.join)
        self.engine.release()

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> EmbeddedGeneration:
        return self._start(
            segment,
            lambda engine: engine.open(segment, sampling, stop=stop, limit=limit, gang=gang),
        )

    def _start(self, segment: Segment, begin: Callable[[Engine], int]) -> EmbeddedGeneration:
        """A thread that the engine begins between two steps."""
        generation = EmbeddedGeneration(self, segment)
        self.open_threads += 1

        def command(engine: Engine) -> None:
            generation.engine_id = id = begin(engine)
            self._open[id] = generation

        self.submit(generation, command)
        return generation

    async def score(self, segment: Segment) -> list[float]:
        generation = self._start(segment, lambda engine: engine.score(segment))
        try:
            return [token.logprob async for token in generation.tokens()]
        finally:
            generation.close()

    def release(self, segments: Sequence[Segment]) -> None:
        if self._thread.is_alive():
            self.submit(None, lambda engine: engine.segments.release(segments))

    async def settle(self) -> None:
        settled = anyio.Event()

        def command(engine: Engine) -> None:  # what it delivered before is on its way already
            self._loop.call_soon_threadsafe(settled.set)

        self.submit(None, command)
        while self._thread.is_alive() and not settled.is_set():
            with anyio.move_on_after(1.0):
                await settled.wait()

    def submit(
        self, generation: EmbeddedGeneration | None, command: Callable[[Engine], None]
    ) -> None:
        """Have the engine's thread run ``command`` before its next step."""
        with self._wake:
            if not self._thread.is_alive():
                if generation is None or generation.closed:
                    return
                raise InvalidValue("the backend is not open; enter it with 'async with' first")
            self._commands.append((generation, command))
            self._wake.notify()

    def forget(self, engine: Engine, generation: EmbeddedGeneration, read: int) -> None:
        """Free a closed generation's slot, in the engine's thread, and what was not read of it."""
        if generation.engine_id is not None:
            engine.close(generation.engine_id, read)
            del self._open[generation.engine_id]
            generation.engine_id = None

    def _run(self) -> None:
        """The engine's thread."""
        while self._await_work():
            out: list[Delivery] = []
            while self._commands:
                generation, command = self._commands.popleft()
                try:
                    command(self.engine)
                except Exception as error:  # it belongs to the generation that asked
                    if generation is None:
                        raise
                    out.append((generation, error))
            try:
                stepped = self.engine.step()
                out += [(self._open[item.thread], _delivered(item)) for item in stepped]
            except Exception as error:  # every running thread is lost; all are told
                for id, generation in list(self._open.items()):
                    self.engine.close(id)
                    out.append((generation, error))
            if out:
                self._loop.call_soon_threadsafe(self._deliver, out)
        self._end()

    def _end(self) -> None:
        """Tell all threads that are left that the backend was closed, and free what they hold."""
        stopped = InvalidValue("the backend was closed while the thread ran; keep it open longer")
        out: list[Delivery] = [(generation, stopped) for generation in self._open.values()]
        out += [(generation, stopped) for generation, _ in self._commands if generation]
        self._loop.call_soon_threadsafe(self._deliver, out)
        for id in list(self._open):
            self.engine.close(id)
        self._open.clear()
        for generation, command in self._commands:
            if generation is None:  # runs that ended just now free what they stored
                command(self.engine)
        self._commands.clear()

    def _await_work(self) -> bool:
        """Wait until there is something to do; False when closing."""
        with self._wake:
            while not (self._closing or self._commands or self.engine.running):
                self._wake.wait()
            return not self._closing

    def _deliver(self, out: list[Delivery]) -> None:
        for generation, item in out:
            if generation.closed:
                generation.leak(item)
            else:
                generation.receive(item)


def _delivered(item: SampledToken | ThreadFailure) -> Token | Exception:
    if isinstance(item, ThreadFailure):
        return item.error
    return Token(item.token, item.logprob, item.reason, item.confidence)
