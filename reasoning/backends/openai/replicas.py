"""Several servers of one model: the least busy one is asked, and one that fails rests."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

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
        self.resting_until = 0.0

    @property
    def resting(self) -> bool:
        return time.monotonic() < self.resting_until

    def rest(self, seconds: float = REST_S) -> None:
        self.resting_until = time.monotonic() + seconds


class Replicas:
    """Chooses among servers: a thread's forks go where its prefix is cached, within reason."""

    def __init__(self, members: Sequence[Replica]) -> None:
        self.members = list(members)
        self._homes: WeakKeyDictionary[Segment, Replica] = WeakKeyDictionary()
        self._jitter = random.Random(0)

    def choose(self, prefix: Segment | None) -> Replica:
        awake = [one for one in self.members if not one.resting] or self.members
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

    def pause(self, failures: int, backoff: float, asked: float | None) -> float:
        """Seconds to wait before a retry: none while another replica is awake."""
        if any(not one.resting for one in self.members) and asked is None:
            return 0.0
        if asked is not None:
            return min(asked, MOST_S)
        doubled: float = backoff * 2.0 ** (failures - 1)
        return min(doubled, MOST_S) * self._jitter.uniform(0.75, 1.25)
