"""How many runs there are at once, how many requests wait, and when to come back."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from protocol.http.errors import Refusal


class AdmissionControl:
    """Admits ``most`` runs at once, makes ``queue`` more wait in order, and refuses the rest.

    A refused request is told how many seconds a place in the queue will take to become free, from
    how long recent runs took.

    Attributes:
        closed: Whether nobody is admitted any more.
        waiting: The number of requests that wait.
    """

    def __init__(self, most: int, queue: int) -> None:
        self.closed = False
        self.waiting = 0
        self._most = most
        self._queue = queue
        self._scopes: set[anyio.CancelScope] = set()
        self._limiter = anyio.CapacityLimiter(most)
        self._typical_s = 1.0
        """A moving average of how long a run takes."""

    @property
    def running(self) -> int:
        """The number of runs at this moment."""
        return self._limiter.borrowed_tokens

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Wait for a place, hold it during the block, and give it back.

        Raises:
            Refusal: the queue is full (429), or the server is shutting down (503).
        """
        if self.closed:
            raise self._shutting_down()
        if self.running >= self._most and self.waiting >= self._queue:
            raise self._refusal(
                429, "too_many_requests", f"{self.running} runs and {self.waiting} waiting are all"
            )
        self.waiting += 1
        try:
            await self._limiter.acquire_on_behalf_of(place := object())
        finally:
            self.waiting -= 1
        started = time.monotonic()
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                yield
        finally:
            self._scopes.discard(scope)
            self._limiter.release_on_behalf_of(place)
            self._typical_s += 0.2 * (time.monotonic() - started - self._typical_s)
        if scope.cancelled_caught:
            raise self._shutting_down()

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

    def _refusal(self, status: int, code: str, message: str) -> Refusal:
        wait = max(1, min(60, math.ceil(self._typical_s * (self.waiting + 1) / self._most)))
        return Refusal(
            status, code, f"{message}; come back in {wait} s", headers={"Retry-After": str(wait)}
        )
