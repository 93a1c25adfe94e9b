"""Calls that are due later: the one place where a hub waits for time to pass."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections.abc import Callable

import anyio

log = logging.getLogger(__name__)


class Timer:
    """A call that is due later, unless it is cancelled."""

    __slots__ = ("_queue", "call")

    def __init__(self, queue: TimerQueue, call: Callable[[], None]) -> None:
        self._queue = queue
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Don't make the call; what it would need is free at once."""
        if self.call is not None:
            self.call = None
            self._queue.note_cancelled()


class TimerQueue:
    """Calls at given times, made by `run`, which sleeps until the next is due.

    Attributes:
        clock: Seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        self._count = itertools.count()
        self._earlier = anyio.Event()

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call something when so many seconds have passed; with 0 soon, but not at once."""
        timer = Timer(self, call)
        entry = (self.clock() + seconds, next(self._count), timer)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._earlier.set()
        return timer

    def note_cancelled(self) -> None:
        """Forget cancelled timers once they are the most."""
        self._cancelled += 1
        if self._cancelled > 64 and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def run(self) -> None:
        """Make the calls that are due, for ever; one that fails is logged."""
        while True:
            self._earlier = anyio.Event()
            now = self.clock()
            while self._heap and self._heap[0][0] <= now:
                self._make(heapq.heappop(self._heap)[2])
            left = self._heap[0][0] - self.clock() if self._heap else math.inf
            with anyio.move_on_after(max(0.0, left)):
                await self._earlier.wait()

    def _make(self, timer: Timer) -> None:
        call, timer.call = timer.call, None
        if call is None:
            self._cancelled = max(0, self._cancelled - 1)
            return
        try:
            call()
        except Exception:
            log.exception("a call that was due has failed; this is an error of the hub, report it")
