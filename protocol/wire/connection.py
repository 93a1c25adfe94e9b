"""One WebSocket connection: frames out of a channel, frames in, under limits of size and rate."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import anyio
from pydantic import BaseModel, Field

from orchestrator.errors import InvalidValue, importing
from protocol.wire.channel import Channel
from protocol.wire.checked import CheckedModel
from protocol.wire.framing import FrameReader, Refused

M = TypeVar("M")
FilePath = Annotated[Path, Field(strict=False)]

STALL_S = 20.0
"""How long a frame may take to leave before the connection counts as dead."""

logger = logging.getLogger("protocol.websockets")
"""For the library below.  It would log headers, tokens included, at DEBUG: so it never does."""
logger.setLevel(logging.WARNING)
logger.propagate = False
logger.addHandler(logging.NullHandler())


class WebSocket(Protocol):
    """What is needed of a WebSocket connection."""

    async def send(self, message: bytes, *, text: bool | None = None) -> None: ...

    async def recv(self, decode: Literal[False]) -> bytes: ...

    async def close(self, code: int = 1000, reason: str = "") -> None: ...


@dataclass(kw_only=True)
class RateLimiter:
    """A bucket of permits that fills at ``per_s``; it holds ``burst``."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        self._left = self.burst
        self._at = time.monotonic()

    async def take(self, amount: float) -> None:
        """Take permits, and wait until they are there."""
        now = time.monotonic()
        self._left = min(self.burst, self._left + (now - self._at) * self.per_s) - amount
        self._at = now
        if self._left < 0:
            await anyio.sleep(-self._left / self.per_s)


class ConnectionLimits(CheckedModel):
    """What one connection may do; who does more is slowed down, not cut.

    Attributes:
        frames_per_s: Frames a second, with bursts of twice as many.
        bytes_per_s: Bytes a second, with bursts of twice as many.
    """

    frames_per_s: Annotated[float, Field(gt=0)] = 5_000.0
    bytes_per_s: Annotated[float, Field(gt=0)] = 64.0 * (1 << 20)


async def receive(socket: WebSocket, reader: FrameReader[M]) -> M:
    """The next message, read."""
    return reader.read(await socket.recv(decode=False))


async def say(socket: WebSocket, message: BaseModel) -> None:
    """Send a message that is not numbered."""
    await socket.send(message.model_dump_json(exclude_none=True).encode(), text=True)


async def refuse(socket: WebSocket, refused: Refused) -> None:
    """Say why, and close; whether it arrives or not."""
    with anyio.move_on_after(1, shield=True):
        try:
            await say(socket, refused)
            await socket.close()
        except Exception:  # it is closed already
            return


async def write(socket: WebSocket, channel: Channel) -> None:
    """Send what the channel has, until the connection breaks."""
    while True:
        frame = channel.take()
        if frame is None:
            channel.news = anyio.Event()
            await channel.news.wait()
            continue
        with anyio.fail_after(STALL_S):
            await socket.send(frame, text=True)


async def frames(
    socket: WebSocket, reader: FrameReader[M], limits: ConnectionLimits, heard: Callable[[], None]
) -> AsyncIterator[M]:
    """What comes, at most at the given rates."""
    number = RateLimiter(per_s=limits.frames_per_s, burst=2 * limits.frames_per_s)
    size = RateLimiter(per_s=limits.bytes_per_s, burst=2 * limits.bytes_per_s)
    while True:
        data = await socket.recv(decode=False)
        heard()
        await number.take(1)
        await size.take(len(data))
        yield reader.read(data)


# ---- where and how to connect --------------------------------------------------------------------


class Tls(CheckedModel):
    """Certificates, as files in PEM.

    Attributes:
        cert: This side's certificate; a hub needs one, a worker only if the hub asks for it.
        key: The certificate's private key.
        ca: Whom to believe.  A hub with one asks every worker for a certificate (mutual TLS); a
            worker without one believes the system's.
    """

    cert: FilePath | None = None
    key: FilePath | None = None
    ca: FilePath | None = None

    def server(self) -> ssl.SSLContext:
        """For a hub.

        Raises:
            InvalidValue: a file can't be used.
        """
        if self.cert is None:
            raise InvalidValue("cert: a hub with TLS needs a certificate; give one, and its key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(context)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self) -> ssl.SSLContext:
        """For a worker or a client.

        Raises:
            InvalidValue: a file can't be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is None:
            context.load_default_certs()
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise InvalidValue(f"tls: a file can't be used ({error}); give PEM files") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(url: str, *, insecure: bool) -> bool:
    """Whether the URL of a hub asks for TLS.

    Raises:
        InvalidValue: it is not the URL of a hub, holds a secret, or would go in plain text over
            a network.
    """
    try:
        found = urlsplit(url)
        host, _ = found.hostname, found.port
    except ValueError as error:
        raise InvalidValue(f"hub: {url!r} is no URL ({error}); give ws://HOST:PORT") from error
    if found.scheme not in ("ws", "wss") or not host:
        raise InvalidValue("hub: not the URL of a hub; give ws://HOST:PORT or wss://HOST:PORT")
    if found.query or found.username or found.password or found.fragment:
        raise InvalidValue(
            "hub: a URL is logged everywhere, so it may hold no secret; give the token apart"
        )
    if found.scheme == "ws" and not insecure and not is_loopback(host):
        raise InvalidValue(
            f"hub: {host} is another machine, and ws:// is plain text; use wss://, or --insecure "
            "in a network that you trust"
        )
    return found.scheme == "wss"


def need_websockets() -> None:
    """Check that the library is there.

    Raises:
        ExtraMissing: it is not.
    """
    with importing("devices", "a hub or worker"):
        import websockets  # noqa: F401
