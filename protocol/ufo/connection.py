"""One connection of a UFO³ client: frames out of a bounded queue, frames in under limits."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio

from protocol.errors import BadMessage
from protocol.ufo.frames import ClientFrame, ServerFrame, failed, from_client
from protocol.wire.connection import STALL_S, ConnectionLimits, RateLimiter

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

MOST_WAITING = 1000
"""Frames that may wait to be sent; a client that reads more slowly is disconnected."""


TOO_LARGE = 1009
"""The code with which WebSockets close on a frame that is too large."""


class UfoConnection:
    """A WebSocket connection of a UFO³ client.

    Attributes:
        why: Why it ended, for the error of a task that was lost with it.
    """

    def __init__(self, socket: ServerConnection, limits: ConnectionLimits) -> None:
        self.why = "its connection ended"
        self._socket = socket
        self._limits = limits
        self._waiting: deque[str] = deque()
        self._news = anyio.Event()
        self._scope = anyio.CancelScope()

    def say(self, frame: ServerFrame) -> None:
        """Send a frame, in order, without waiting."""
        if len(self._waiting) >= MOST_WAITING:
            self.close()
        else:
            self._waiting.append(frame.model_dump_json())
            self._news.set()

    def close(self) -> None:
        """End the connection."""
        self._scope.cancel()

    async def answers(self, seconds: float) -> bool:
        """Whether the other side answers a ping, which their clients do at any time."""
        from websockets.exceptions import ConnectionClosed

        with anyio.move_on_after(seconds):
            try:
                await (await self._socket.ping())
            except ConnectionClosed:
                return False
            return True
        return False

    async def hello(self) -> ClientFrame:
        """The first frame.

        Raises:
            BadMessage: it is not AIP.
        """
        return from_client.read(_text(await self._socket.recv()))

    async def frames(self) -> AsyncIterator[ClientFrame]:
        """The frames that come; anything else is answered by an error."""
        number = RateLimiter(per_s=self._limits.frames_per_s, burst=2 * self._limits.frames_per_s)
        size = RateLimiter(per_s=self._limits.bytes_per_s, burst=2 * self._limits.bytes_per_s)
        while True:
            data = await self._receive()
            await number.take(1)
            await size.take(len(data))
            try:
                frame = from_client.read(_text(data))
            except BadMessage as error:
                self.say(failed(str(error)))
                continue
            yield frame

    async def _receive(self) -> str | bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._socket.recv()
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == TOO_LARGE:
                self.why = "it sent a frame that is too large; have its tool return less"
            raise

    async def serve(self, hear: Callable[[ClientFrame], None]) -> None:
        """Exchange frames until the connection ends."""
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._write)
                async for frame in self.frames():
                    hear(frame)

    async def _write(self) -> None:
        while True:
            while self._waiting:
                with anyio.fail_after(STALL_S):
                    await self._socket.send(self._waiting.popleft())
            self._news = anyio.Event()
            await self._news.wait()


def _text(data: str | bytes) -> bytes:
    if isinstance(data, bytes):
        raise BadMessage("frame: files and other binary frames are not taken; send JSON text")
    return data.encode()
