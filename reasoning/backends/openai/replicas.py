"""Several servers of one model: the least busy one is asked, and one that fails rests."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from weakref import WeakKeyDictionary

import anyio

from reasoning.values.context import Segment

REST_S = 5.0
MOST_S = 30.0
LEAN = 4
"""So many more requests than the least busy one a replica may have that knows the prefix."""


class Replica:
    """One server."""

    def __init__(self, url: str, client: Any) -> None:
        self.url = url
        self.client = client
        self.busy = 0
        self._resting_until = 0.0
        self._closed_until = 0.0

    @property
    def resting(self) -> bool:
        return time.monotonic() < self._resting_until

    @property
    def closed_s(self) -> float:
        """How long it wants nobody to ask it."""
        return max(0.0, self._closed_until - time.monotonic())

    def rest(self, asked: float | None = None) -> None:
        """Let others be asked for a while, or as long as it ``asked`` for."""
        now = time.monotonic()
        self._resting_until = now + max(REST_S, asked or 0.0)
        self._closed_until = max(self._closed_until, now + (asked or 0.0))


class Replicas:
    """Chooses among servers: a thread's forks go where its prefix is cached, within reason."""

    def __init__(self, members: Sequence[Replica]) -> None:
        self.members = list(members)
        self._homes: WeakKeyDictionary[Segment, Replica] = WeakKeyDictionary()
        self._jitter = random.Random(0)

    def choose(self, prefix: Segment | None) -> Replica:
        awake = [one for one in self.members if not one.resting]
        awake = awake or [one for one in self.members if not one.closed_s] or self.members
        least = min(awake, key=lambda one: one.busy)
        home = self._homes.get(prefix) if prefix is not None else None
        if home in awake and home.busy <= least.busy + LEAN:
            least = home
        if prefix is not None:
            self._homes[prefix] = least
        return least

    @contextmanager
    def borrow(self, prefix: Segment | None) -> Iterator[Replica]:
        """A replica, counted as busy until the block is left."""
        replica = self.choose(prefix)
        replica.busy += 1
        try:
            yield replica
        finally:
            replica.busy -= 1

    async def open(self) -> None:
        """Wait until one of them wants to be asked."""
        while (seconds := min(one.closed_s for one in self.members)) > 0:  # noqa: ASYNC110
            await anyio.sleep(seconds)

    def pause(self, failures: int, backoff: float) -> float:
        """Seconds to wait before a retry: none while another replica is awake."""
        if any(not one.resting for one in self.members):
            return 0.0
        doubled: float = backoff * 2.0 ** min(failures - 1, 30)
        return min(doubled, MOST_S) * self._jitter.uniform(0.75, 1.25)


def asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """How many seconds a refusal asks to wait, as a number or a date; None where it does not."""
    with suppress(ValueError):
        return max(0.0, float(headers.get("retry-after-ms", "")) / 1000)
    said = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(said))
    with suppress(ValueError):
        date = _date(said)
        now = datetime.now(UTC)
        with suppress(ValueError):  # the server's own clock, where it shows it
            now = _date(headers.get("date", ""))
        return max(0.0, (date - now).total_seconds())
    return None


def _date(said: str) -> datetime:
    date = parsedate_to_datetime(said)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
