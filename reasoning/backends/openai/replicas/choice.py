"""Who of several servers is asked: who has a thread's keys and values, within reason.

A thread goes on where it wrote; else where most of what it sees was computed; else where a hash of
its prompt puts it, so that several processes agree.  Nobody gets much more than a fair share, by
the tokens a second that each writes: consistent hashing with bounded loads (Mirrokni et al., arXiv
1608.01350).
"""

from __future__ import annotations

import logging
import random
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from weakref import WeakKeyDictionary

import anyio

from reasoning.values.context import Segment

logger = logging.getLogger(__name__)

MOST = 256
REST_S = 5.0
MOST_S = 30.0
SHARE, SLACK = 1.25, 1
"""A replica takes so many times its share of all requests, and so many more, before others do."""
LOYAL = 2.0
"""The same factor for a thread that wrote there, whose keys and values are nowhere else."""
SLOW = 3.0
"""A replica that writes so many times slower than the fastest is not asked."""
FORGET_S, FORGET = 30.0, 10.0
"""A slow one is tried again after so long, or after so many times as long as its answer took."""
LEAST_TOKENS = 8
"""Tokens of an answer from which that is known."""
RECENT = 0.3
"""How much the last answer weighs in that."""


class Replica:
    """One server.

    Attributes:
        most: So many requests may be open there.
        busy: How many are.
        out: Whether it was lost, and has not said that it is well since.
        rate: Tokens a second of one answer there; None where that is not known.
        lost: How often it went out without an answer in between.
    """

    def __init__(self, url: str, client: Any, *, most: int = MOST) -> None:
        self.url = url
        self.client = client
        self.most = most
        self.busy = 0
        self.out = False
        self.lost = 0
        self._resting_until = 0.0
        self._closed_until = 0.0
        self.rate: float | None = None
        self._trusted_until = 0.0

    def wrote(self, tokens: float, seconds: float) -> None:
        """Note how long an answer there has taken so far."""
        if tokens >= LEAST_TOKENS and seconds > 0:
            new, old = tokens / seconds, self.rate
            self.rate = new if old is None else RECENT * new + (1 - RECENT) * old
            self._trusted_until = time.monotonic() + max(FORGET_S, FORGET * seconds)
            self.lost = 0

    @property
    def recent_rate(self) -> float | None:
        """The rate, as long as it is trusted."""
        return self.rate if time.monotonic() <= self._trusted_until else None

    def slower_than(self, rate: float) -> bool:
        """Whether it was lately much slower than one of this rate."""
        recent = self.recent_rate
        return recent is not None and recent * SLOW < rate

    @property
    def resting(self) -> bool:
        return self.out or time.monotonic() < self._resting_until

    @property
    def closed_s(self) -> float:
        """How long it wants nobody to ask it."""
        return max(0.0, self._closed_until - time.monotonic())

    def rest(self, asked: float | None = None) -> None:
        """Let others be asked for a while, or as long as it ``asked`` for."""
        now = time.monotonic()
        self._resting_until = now + max(REST_S, asked or 0.0)
        self._closed_until = max(self._closed_until, now + (asked or 0.0))

    def come_back(self) -> None:
        """It is well again."""
        self.out = False
        self._resting_until = 0.0


class Replicas:
    """Chooses among servers.

    Attributes:
        members: Those that there are now.
    """

    def __init__(
        self, members: Sequence[Replica], *, look: Callable[[], None] = lambda: None
    ) -> None:
        """``look`` is called whenever one is to be chosen, and may change the members soon."""
        self.members = list(members)
        self._look = look
        self._line = anyio.Lock(fast_acquire=True)
        self._changed = anyio.Event()
        self._told = False
        self._holders: WeakKeyDictionary[Segment, list[Replica]] = WeakKeyDictionary()
        self._jitter = random.Random(0)

    def choose(self, own: Segment, prompt: bytes = b"") -> Replica:
        """The replica for the next request of the thread that writes to ``own``.

        It is then known to hold what the thread sees.  ``prompt`` is what tells its problem from
        others, in every process.
        """
        found = self._chosen(self._usable(), own, prompt)
        for segment in _seen(own):
            holders = self._holders.setdefault(segment, [])
            if found not in holders:
                holders.append(found)
        return found

    def _usable(self) -> Sequence[Replica]:
        """Those that can be asked, with room for one more where any has."""
        awake = [one for one in self.members if not one.resting]
        awake = awake or [one for one in self.members if not one.closed_s] or self.members
        quick = _quick(awake)
        return [one for one in quick if one.busy < one.most] or quick

    def _chosen(self, usable: Sequence[Replica], own: Segment, prompt: bytes) -> Replica:
        share = _shares(usable)
        for segment in _seen(own):
            factor = LOYAL if segment is own else SHARE
            holders = self._holders.get(segment, ())
            there = [
                one for one in holders if one in share and one.busy < factor * share[one] + SLACK
            ]
            if there:
                return min(there, key=lambda one: one.busy / share[one])
        ranked = sorted(usable, key=lambda one: zlib.crc32(one.url.encode() + prompt))
        return next((one for one in ranked if one.busy <= share[one]), ranked[0])

    @asynccontextmanager
    async def borrow(self, own: Segment, prompt: bytes = b"") -> AsyncIterator[Replica]:
        """A replica with room for one more request, counted as busy until the block is left.

        Who comes first is served first.
        """
        async with self._line:
            await self._room()
            replica = self.choose(own, prompt)
            replica.busy += 1
        try:
            yield replica
        finally:
            replica.busy -= 1
            self.wake()

    def wake(self) -> None:
        """Somebody has room, or may have: let who waits look."""
        self._changed.set()

    async def _room(self) -> None:
        """Wait until one of them wants to be asked, and has room."""
        while True:
            self._look()
            await self.open()
            if any(one.busy < one.most for one in self._usable()):
                return
            self._tell()
            self._changed = anyio.Event()
            await self._changed.wait()

    def _tell(self) -> None:
        """Say once that requests wait for each other, and why."""
        if self._told:
            return
        self._told = True
        most = self.members[0].most
        if most == 1:
            logger.warning(
                "%s writes one answer at a time; threads wait for each other", self.members[0].url
            )
        else:
            each = "each of " * (len(self.members) > 1)
            logger.warning(
                "max_connections=%d requests are open at %s%s; more wait: raise it by "
                "--engine max_connections=N where the servers take more",
                *(most, each, ", ".join(one.url for one in self.members[:3])),
            )

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


def _seen(own: Segment) -> Iterator[Segment]:
    """What a thread sees, the last first."""
    yield own
    for entry in reversed(own.context.entries):
        yield entry.segment


def _quick(awake: Sequence[Replica]) -> Sequence[Replica]:
    """Those that are not known to be much slower than the fastest."""
    best = max((one.rate or 0.0 for one in awake), default=0.0)
    return [one for one in awake if not one.slower_than(best)]


def _shares(usable: Sequence[Replica]) -> dict[Replica, float]:
    """How many requests each has by its pace, once there is one more; unknown paces are usual."""
    known = [one.rate for one in usable if one.rate is not None]
    usual = sum(known) / len(known) if known else 1.0
    paces = {one: one.rate or usual for one in usable}
    each = (sum(one.busy for one in usable) + 1) / sum(paces.values())
    return {one: pace * each for one, pace in paces.items()}


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
