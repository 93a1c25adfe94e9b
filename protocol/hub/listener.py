"""Where a server of WebSockets listens, and what it refuses before a word is said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InvalidValue
from protocol.wire.connection import Tls, is_loopback, logger, need_websockets
from protocol.wire.gate import ConnectionGate, backlog, limit_logs

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

HELLO_S = 5.0
"""Seconds for the handshake, and for the first message after it."""

MOST_HEAD = 32 << 10
"""Bytes of the request that asks for a WebSocket."""


class WebSocketListener:
    """An address on which connections are taken: no page of a browser, no silent socket, and
    plain text on loopback only.

    Attributes:
        port: The bound one, once it is open; until then the one that was asked for.
    """

    def __init__(self, host: str, port: int, *, tls: Tls | None, insecure: bool) -> None:
        """
        Raises:
            ExtraMissing: the package for WebSockets is not installed.
            InvalidValue: the address may not be bound without TLS.
        """
        need_websockets()
        if tls is None and not insecure and not is_loopback(host):
            raise InvalidValue(
                f"host: {host} can be reached by others, and without TLS all is plain text; give "
                "--cert and --key, or --insecure in a network that you trust"
            )
        self.host, self.port = host, port
        self._tls = tls

    @property
    def url(self) -> str:
        """Its URL, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ws' if self._tls is None else 'wss'}://{host}:{self.port}"

    @asynccontextmanager
    async def open(
        self,
        connection: Callable[[ServerConnection], Awaitable[None]],
        request: Callable[[ServerConnection, Request], Response | None],
        *,
        name: str,
        most: int,
        most_connections: int,
        most_per_address: int,
        ping_s: float | None = None,
    ) -> AsyncIterator[None]:
        """Take connections of frames up to ``most`` bytes; ``name`` is the port's in errors.

        Who connects beyond ``most_connections`` in all, or ``most_per_address``, is cut off.

        Raises:
            InvalidValue: the address can't be bound.
        """
        from websockets.asyncio.server import serve

        limit_logs()
        try:
            server = await serve(
                connection,
                self.host,
                self.port,
                ssl=None if self._tls is None else self._tls.server(),
                ssl_handshake_timeout=None if self._tls is None else HELLO_S,
                origins=[None],
                compression=None,
                process_request=request,
                server_header=None,
                open_timeout=HELLO_S,
                ping_interval=ping_s,
                close_timeout=2,
                max_size=most,
                max_queue=16,
                logger=logger,
                backlog=backlog(),
                create_connection=_gated(most_connections, most_per_address),
            )
        except OSError as error:
            raise InvalidValue(
                f"{name}: {self.host}:{self.port} can't be bound ({error.strerror or error}); "
                "give another port"
            ) from error
        self.port = next(iter(server.sockets)).getsockname()[1]
        async with server:
            yield


def _gated(most: int, per_address: int) -> type[ServerConnection]:
    """Connections of which there are at most so many, those that have not yet spoken included."""
    from websockets.asyncio.server import ServerConnection

    gate = ConnectionGate(most, per_address)

    class GatedConnection(ServerConnection):
        _let_in = False
        _head = 0

        def connection_made(self, transport: Any) -> None:
            self._address = str((transport.get_extra_info("peername") or ("",))[0])
            self._let_in = gate.enter(self._address)
            super().connection_made(transport)
            if not self._let_in:
                transport.abort()

        def data_received(self, data: bytes) -> None:
            if getattr(self, "request", None) is None:  # it has not asked for a WebSocket yet
                self._head += len(data)
                if self._head > MOST_HEAD:
                    self.transport.abort()
                    return
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._let_in:
                gate.leave(self._address)
            super().connection_lost(exc)

    return GatedConnection
