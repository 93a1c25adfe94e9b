"""A socket, an event loop's server, and how both come to an end."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette

from orchestrator.errors import InvalidValue
from protocol.http.admission import Gate


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one.

    Raises:
        InvalidValue: the address is taken, foreign or none.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        raise InvalidValue(
            f"port: {port} of {host} can't be listened on ({error.strerror}); choose another"
        ) from error
    # asyncio does this for sockets of its own only; without it an answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address(listener: socket.socket) -> str:
    """Where a socket listens, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Serves an application of `protocol.http.app.build`.

    On its end it lets nobody in, gives runs ``drain`` seconds, and stops those that are left.

    Attributes:
        signals: Whether SIGINT and SIGTERM end it.
        signal: The one that did.
    """

    def __init__(
        self,
        app: Starlette,
        *,
        drain: float = 10.0,
        signals: bool = False,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # a proxy's business
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=round(drain) + 5,
        )
        super().__init__(config)
        self.signals = signals
        self.signal: int | None = None
        self._gate: Gate = app.state.gate
        self._drain = drain
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gate.close()
        async with anyio.create_task_group() as group:
            group.start_soon(self._stop_runs)
            await super().shutdown(sockets)
            group.cancel_scope.cancel()

    async def _stop_runs(self) -> None:
        await anyio.sleep(self._drain)
        self._gate.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As the base class does it, which then kills the process before models are closed."""
        handled = (signal.SIGINT, signal.SIGTERM) if self.signals else ()
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._gate.close()
        self.signal = sig
        super().handle_exit(sig, frame)


@asynccontextmanager
async def listening(app: Starlette, listener: socket.socket) -> AsyncIterator[str]:
    """Serve beside a block, which gets the URL; runs that are left at its end are stopped."""
    up = anyio.Event()
    server = Server(app, drain=0.0, ready=up.set)
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listener])
        await up.wait()
        yield address(listener)
        server.should_exit = True
