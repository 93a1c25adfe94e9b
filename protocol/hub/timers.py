"""Calls that are due later: the one place where a hub waits for time to pass."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import anyio


class TimerQueue:
    """Calls at given times, made by `run`, which sleeps until the next is due.

    Attributes:
        clock: Seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._earlier = anyio.Event()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something when so many seconds have passed; with 0 soon, but not at once."""
        entry = (self.clock() + seconds, next(self._count), call)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._earlier.set()

    async def run(self) -> None:
        """Make the calls that are due, for ever."""
        while True:
            self._earlier = anyio.Event()
            now = self.clock()
            while self._heap and self._heap[0][0] <= now:
                heapq.heappop(self._heap)[2]()
            left = self._heap[0][0] - self.clock() if self._heap else math.inf
            with anyio.move_on_after(max(0.0, left)):
                await self._earlier.wait()
