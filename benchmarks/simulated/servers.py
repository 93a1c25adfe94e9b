"""A model server as a discrete-event model: lanes that decode in step, a queue, a prefix cache.

Nothing here knows HTTP; `network` shows it to clients.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

BLOCK = 16
"""Tokens of a block of the prefix cache."""
STANDING = 1e-6
"""Whose speed is less than that stands still."""


class ServerDied(Exception):
    """The server was killed while it worked on a request."""


@dataclass(frozen=True, kw_only=True)
class BatchCurve:
    """How fast a server is: a step writes a token in each lane and takes ``step_s + n · lane_s``.

    Attributes:
        step_s: What a step takes whatever its lanes, in seconds; weights are read once.
        lane_s: What each lane adds.
        prefill: Prompt tokens a second; nothing is written meanwhile.
        lanes: The most at once; more requests wait, first come, first served.
        cache: Tokens that the prefix cache holds; those used longest ago are let go.
    """

    step_s: float
    lane_s: float
    prefill: float
    lanes: int
    cache: int

    def rate(self, lanes: int) -> float:
        """Tokens a second of one lane among so many."""
        return 1 / (self.step_s + lanes * self.lane_s)


class PrefixCache:
    """Blocks of tokens by all that stands before them."""

    def __init__(self, blocks: int) -> None:
        self._most = blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def found(self, text: str, size: int) -> int:
        """How many leading blocks of ``size`` characters are held, which are now used last."""
        held = 0
        for block in _blocks(text, size):
            if block not in self._blocks:
                break
            self._blocks.move_to_end(block)
            held += 1
        return held

    def keep(self, text: str, size: int) -> None:
        for block in _blocks(text, size):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)

    def clear(self) -> None:
        self._blocks.clear()


def _blocks(text: str, size: int) -> Iterator[int]:
    before = 0
    for start in range(0, len(text) - size + 1, size):
        before = hash((before, text[start : start + size]))
        yield before


@dataclass(kw_only=True)
class ServerCounts:
    """What a server did: tokens and requests, and the lanes that were taken, times seconds."""

    requests: int = 0
    prefilled: int = 0
    cached: int = 0
    written: float = 0.0
    most_waiting: int = 0


class Server:
    """One server in virtual time, on the running loop.

    Attributes:
        up: Whether it lives; a killed one has lost its cache and breaks its requests off.
        counts: What it has done.
    """

    def __init__(self, curve: BatchCurve, *, characters: int, speed: float = 1.0) -> None:
        """``characters`` make a token; ``speed`` is a factor, below 1 for a straggler."""
        self.curve = curve
        self.up = True
        self.counts = ServerCounts()
        self._size = BLOCK * characters
        self._speed = speed
        self._cache = PrefixCache(curve.cache // BLOCK)
        self._loop = asyncio.get_running_loop()
        self._open: set[ServedRequest] = set()
        self._lanes = asyncio.Semaphore(curve.lanes)
        self._waiting = 0
        self._life = 0
        self._marks: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._each = 0.0  # tokens that a lane has written that was there from the beginning
        self._at = self._loop.time()
        self._filling_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # What happens to it.

    def kill(self) -> None:
        """Break off all requests and forget the cache."""
        self._advance()
        self.up = False
        self._cache.clear()
        self._life += 1
        for _, _, mark in self._marks:
            if not mark.done():
                mark.set_exception(ServerDied())
        self._marks.clear()
        self._open.clear()
        self._arm()

    def restart(self) -> None:
        self._advance()
        self.up, self._filling_until = True, 0.0

    @property
    def stands(self) -> bool:
        """Whether it stands still, and answers nobody."""
        return self._speed < STANDING

    def slow_down(self, speed: float) -> None:
        """Go at another speed from now on."""
        self._advance()
        self._speed = speed
        self._arm()

    # What clients ask for.

    async def admit(self, prompt: str, tokens: int) -> ServedRequest:
        """A lane for a prompt of so many tokens, once there is one; its prefill is then begun.

        Raises:
            ServerDied: the server was killed before that.
        """
        life = self._life
        self._waiting += 1
        self.counts.most_waiting = max(self.counts.most_waiting, self._waiting)
        try:
            await self._lanes.acquire()
        finally:
            self._waiting -= 1
        if not self.up or life != self._life:
            self._lanes.release()
            raise ServerDied
        self._advance()
        cached = min(self._cache.found(prompt, self._size) * BLOCK, tokens - 1)
        self._cache.keep(prompt, self._size)
        self.counts.requests += 1
        self.counts.cached += cached
        self.counts.prefilled += tokens - cached
        begins = max(self._loop.time(), self._filling_until)
        self._filling_until = begins + (tokens - cached) / (self.curve.prefill * self._speed)
        request = ServedRequest(self, begins=self._each, prompt=prompt, cached=cached)
        self._open.add(request)
        self._arm()
        return request

    async def wait(self, request: ServedRequest, each: float) -> None:
        """Wait until a lane that was there from the beginning has written so many tokens.

        Raises:
            ServerDied: the server was killed before that.
        """
        if request not in self._open:
            raise ServerDied
        await self.mark(each)

    def mark(self, each: float) -> asyncio.Future[None]:
        """Done when a lane that was there from the beginning has written so many tokens."""
        self._advance()
        mark: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._marks, (each, next(self._order), mark))
        self._arm()
        return mark

    def leave(self, request: ServedRequest, text: str) -> None:
        """Free a request's lane; what it has written stays in the cache."""
        self._lanes.release()
        if request in self._open:
            self._advance()
            self._open.discard(request)
            self._cache.keep(request.prompt + text, self._size)
            self._arm()

    # Its own time.

    @property
    def _rate(self) -> float:
        """Tokens a second of each lane now."""
        return self.curve.rate(len(self._open)) * self._speed if self._open and self.up else 0.0

    def _advance(self) -> None:
        """Count what was written since the last change."""
        now = self._loop.time()
        wrote = max(0.0, now - max(self._at, self._filling_until)) * self._rate
        self._each += wrote
        self.counts.written += wrote * len(self._open)
        self._at = now

    def _arm(self) -> None:
        """Set the timer to the next mark that somebody waits for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._marks and self._marks[0][2].done():
            heapq.heappop(self._marks)
        if self._marks and self._rate:
            left = max(0.0, self._marks[0][0] - self._each) / self._rate
            when = max(self._loop.time(), self._filling_until) + left
            self._timer = self._loop.call_at(when, self._reach)

    def _reach(self) -> None:
        self._timer = None
        self._advance()
        while self._marks and self._marks[0][0] <= self._each + 1e-6:
            _, _, mark = heapq.heappop(self._marks)
            if not mark.done():
                mark.set_result(None)
        self._arm()


class ServedRequest:
    """A request that has a lane."""

    def __init__(self, server: Server, *, begins: float, prompt: str, cached: int) -> None:
        self.prompt = prompt
        self.cached = cached
        self._server = server
        self._begins = begins
        self._left = self._ended = False

    def end_behind(self, tokens: int, text: str) -> None:
        """Have it end by itself, however late its client reads what it wrote."""

        def end(mark: asyncio.Future[None]) -> None:
            if mark.exception() is None:
                self._ended = True
                self.leave(text)

        self._server.mark(self._begins + tokens).add_done_callback(end)

    async def written(self, tokens: int) -> None:
        """Wait until it has written so many tokens.

        Raises:
            ServerDied: its server was killed.
        """
        if not self._ended:
            await self._server.wait(self, self._begins + tokens)

    def leave(self, text: str = "") -> None:
        """Give its lane back; more calls do nothing."""
        if not self._left:
            self._left = True
            self._server.leave(self, text)


def in_total(servers: Sequence[Server]) -> ServerCounts:
    """What all of them did together."""
    counts = [one.counts for one in servers]
    return ServerCounts(
        requests=sum(one.requests for one in counts),
        prefilled=sum(one.prefilled for one in counts),
        cached=sum(one.cached for one in counts),
        written=sum(one.written for one in counts),
        most_waiting=max(one.most_waiting for one in counts),
    )
