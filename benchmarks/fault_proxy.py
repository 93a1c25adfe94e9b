"""A WebSocket proxy that does to frames what networks do, by a seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The probability of each fault, for each frame.

    Attributes:
        cut: Both connections end at once.
        mute: This direction swallows everything for up to ``longest_s``: a one-way cut.
        drop: The frame is lost.
        double: It comes twice, the second time a little later.
        swap: It comes after the frame that follows it.
        delay: It and all behind it wait for up to a twentieth of ``longest_s``.
    """

    cut: float = 0.0
    mute: float = 0.0
    drop: float = 0.0
    double: float = 0.0
    swap: float = 0.0
    delay: float = 0.0
    longest_s: float = 1.5

    @classmethod
    def drawn(cls, rng: random.Random) -> Faults:
        """A network of some kind: from quiet to very bad."""

        def chance(most: float) -> float:
            return rng.choice((0.0, rng.uniform(0, most)))

        return cls(
            cut=chance(0.02),
            mute=chance(0.008),
            drop=chance(0.05),
            double=chance(0.1),
            swap=chance(0.1),
            delay=chance(0.2),
        )


class Proxy:
    """Stands between workers and a hub.

    Attributes:
        done: How often each fault was done.
    """

    def __init__(self, target: str, faults: Faults, seed: str, *, port: int = 0) -> None:
        self.target = target
        self.faults = faults
        self.seed = seed
        self.port = port
        self.done: Counter[str] = Counter()
        self._connections = 0

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled."""
        server = serve(
            self._serve, "127.0.0.1", self.port, compression=None, max_size=None, ping_interval=None
        )
        async with server as listening:
            self.port = next(iter(listening.sockets)).getsockname()[1]
            ready()
            await asyncio.get_running_loop().create_future()

    async def _serve(self, near: ServerConnection) -> None:
        self._connections += 1
        assert near.request is not None
        headers = {"Authorization": near.request.headers["Authorization"]}
        seed = f"{self.seed}/{self._connections}"
        try:
            async with connect(
                self.target,
                additional_headers=headers,
                compression=None,
                max_size=None,
                ping_interval=None,
                close_timeout=0.2,
                proxy=None,
            ) as far:
                pumps = [
                    asyncio.ensure_future(self._pump(near, far, random.Random(f"{seed}/up"))),
                    asyncio.ensure_future(self._pump(far, near, random.Random(f"{seed}/down"))),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
                    far.transport.abort()
                    near.transport.abort()
        except (OSError, WebSocketException, TimeoutError):
            near.transport.abort()

    async def _pump(self, source: Connection, target: Connection, rng: random.Random) -> None:
        faults, loop = self.faults, asyncio.get_running_loop()
        muted_until, held = 0.0, None
        while True:
            frame = await source.recv()
            if loop.time() < muted_until:
                continue
            if self._happens("cut", faults.cut, rng):
                return
            if self._happens("mute", faults.mute, rng):
                muted_until = loop.time() + rng.uniform(0, faults.longest_s)
                continue
            if self._happens("drop", faults.drop, rng):
                continue
            if self._happens("delay", faults.delay, rng):
                await asyncio.sleep(rng.uniform(0, faults.longest_s / 20))
            if held is None and self._happens("swap", faults.swap, rng):
                held = frame
                continue
            await target.send(frame)
            if held is not None:
                await target.send(held)
                held = None
            if self._happens("double", faults.double, rng):
                loop.call_later(rng.uniform(0, 0.05), _again, target.send, frame)

    def _happens(self, name: str, chance: float, rng: random.Random) -> bool:
        happens = rng.random() < chance
        self.done[name] += happens
        return happens


def _again(send: Callable[[Any], Awaitable[None]], frame: Any) -> None:
    async def late() -> None:
        try:
            await send(frame)
        except WebSocketException:
            return

    task = asyncio.ensure_future(late())
    _late.add(task)
    task.add_done_callback(_late.discard)


_late: set[asyncio.Future[None]] = set()
