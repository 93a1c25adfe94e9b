"""How many runs there are at once, how many wait, and when to come back."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from orchestrator.errors import InvalidValue
from protocol.http.errors import Refusal


class Gate:
    """Lets ``most`` runs in at once, makes ``queue`` more wait in order, and refuses the rest.

    A run that is refused is told how long a place in the queue will take to become free, from how
    long recent runs took.
    """

    def __init__(self, most: int, queue: int) -> None:
        if most < 1:
            raise InvalidValue(f"max-concurrent: {most} lets nobody in; give at least 1")
        if queue < 0:
            raise InvalidValue(f"max-queued: {queue} is not a number of places; give 0 or more")
        self.most = most
        self.queue = queue
        self.closed = False
        self.waiting = 0
        self._scopes: set[anyio.CancelScope] = set()
        self._limiter = anyio.CapacityLimiter(most)
        self._typical_s = 1.0
        """A moving average of how long a run takes."""

    @property
    def running(self) -> int:
        return self._limiter.borrowed_tokens

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until a place is likely to be free, 1 to 60."""
        return max(1, min(60, math.ceil(self._typical_s * (self.waiting + 1) / self.most)))

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a place, hold it, and give it back.

        Raises:
            Refusal: the queue is full (429), or the server is shutting down (503).
        """
        if self.closed:
            raise self._refuse(503, "shutting_down", "the server is shutting down")
        if self.running >= self.most and self.waiting >= self.queue:
            raise self._refuse(
                429, "too_many_requests", f"{self.running} runs and {self.waiting} waiting are all"
            )
        self.waiting += 1
        try:
            await self._limiter.acquire_on_behalf_of(ticket := object())
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
            self._limiter.release_on_behalf_of(ticket)
            self._typical_s += 0.2 * (time.monotonic() - started - self._typical_s)
        if scope.cancelled_caught:
            raise self._refuse(503, "shutting_down", "the server is shutting down")

    def close(self) -> None:
        """Let nobody in any more."""
        self.closed = True

    def stop(self) -> None:
        """Close, and stop what is in."""
        self.close()
        for scope in self._scopes:
            scope.cancel()

    def _refuse(self, status: int, code: str, message: str) -> Refusal:
        wait = self.retry_after_s
        return Refusal(
            status,
            code,
            f"{message}; come back in {wait} s",
            headers={"Retry-After": str(wait)},
        )
