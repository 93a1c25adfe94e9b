"""How many branches run at once, how many requests wait, and when to come back."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from protocol.http.errors import Refusal

BRANCHES = 1024


@dataclass(eq=False, kw_only=True)
class Place:
    """A request's place: so many branches of one run.

    Attributes:
        wanted: How many branches it would have.
        elastic: Whether fewer will do.
        width: How many it has; 0 while it waits.
    """

    wanted: int = 1
    elastic: bool = False
    width: int = 0
    free: anyio.Event = field(default_factory=anyio.Event)


class AdmissionControl:
    """Admits ``most`` runs at once, makes ``queue`` more wait in order, and refuses the rest.

    While runs are under way an elastic one gets at most half of the ``branches`` that are free, so
    that widths shrink before anybody has to wait.  A refused request is told how many seconds a
    place in the queue will take to become free, from how long recent runs took.

    Attributes:
        closed: Whether nobody is admitted any more.
        running: The number of runs at this moment.
        branches: How many branches these have places for.
    """

    def __init__(self, most: int, queue: int, branches: int = BRANCHES) -> None:
        self.closed = False
        self.running = 0
        self.branches = 0
        self._most = most
        self._queue = queue
        self._most_branches = branches
        self._waiting: deque[Place] = deque()
        self._scopes: set[anyio.CancelScope] = set()
        self._typical_s = 1.0
        """A moving average of how long a run takes."""

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def admitted(
        self, wanted: int = 1, *, elastic: bool = False, within: float = math.inf
    ) -> AsyncIterator[int]:
        """Wait for a place, hold it during the block, and give it back; gives its width.

        Raises:
            Refusal: the queue is full, or nothing came free ``within`` seconds (429); or the
                server is shutting down (503).
        """
        place = Place(wanted=wanted, elastic=elastic)
        await self._enter(place, within)
        started = time.monotonic()
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                yield place.width
        finally:
            self._scopes.discard(scope)
            self._leave(place)
            self._typical_s += 0.2 * (time.monotonic() - started - self._typical_s)
        if scope.cancelled_caught:
            raise self._shutting_down()

    async def _enter(self, place: Place, within: float) -> None:
        if self.closed:
            raise self._shutting_down()
        if not self._waiting and self._take(place):
            return
        if len(self._waiting) >= self._queue:
            raise self._busy(f"{self.running} runs and {self.waiting} waiting are all")
        self._waiting.append(place)
        try:
            with anyio.move_on_after(within):
                await place.free.wait()
        except BaseException:
            self._give_up(place)
            raise
        if not place.width:
            self._give_up(place)
            raise self._busy("no place came free within the request's timeout")

    def _give_up(self, place: Place) -> None:
        if place.width:
            self._leave(place)
        else:
            self._waiting.remove(place)

    def _take(self, place: Place) -> bool:
        """Give a place its width, if there is room for it."""
        left = self._most_branches - self.branches
        need = 1 if place.elastic else min(place.wanted, self._most_branches)
        if self.running >= self._most or left < need:
            return False
        most = left if not self.running else max(1, left // 2)
        place.width = min(place.wanted, most) if place.elastic else need
        self.running += 1
        self.branches += place.width
        return True

    def _leave(self, place: Place) -> None:
        self.running -= 1
        self.branches -= place.width
        while self._waiting and self._take(self._waiting[0]):
            self._waiting.popleft().free.set()

    def close(self) -> None:
        """Admit nobody any more."""
        self.closed = True

    def stop(self) -> None:
        """Close, and stop the runs that there are."""
        self.close()
        for scope in self._scopes:
            scope.cancel()

    def _shutting_down(self) -> Refusal:
        return self._refusal(503, "shutting_down", "the server is shutting down")

    def _busy(self, why: str) -> Refusal:
        return self._refusal(429, "too_many_requests", why)

    def _refusal(self, status: int, code: str, message: str) -> Refusal:
        wait = max(1, min(60, math.ceil(self._typical_s * (self.waiting + 1) / self._most)))
        return Refusal(
            status, code, f"{message}; come back in {wait} s", headers={"Retry-After": str(wait)}
        )
