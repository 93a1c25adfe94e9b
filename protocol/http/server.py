"""The listening socket, the server on it, and how both end."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from orchestrator.errors import InvalidValue
from protocol.http.app import application
from protocol.http.connections import MOST_HEAD, BoundedHttpProtocol
from protocol.http.runs import RequestRunner
from protocol.http.service import Service
from protocol.http.settings import ServerSettings
from protocol.wire.gate import ConnectionGate, backlog, limit_logs


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one.

    Raises:
        InvalidValue: the address is taken, or is none of this machine.
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


def _protocol(settings: ServerSettings) -> type[BoundedHttpProtocol]:
    """The class of connections, with the gate of one server."""
    gate = ConnectionGate(settings.max_connections, settings.max_per_address)
    return type("GatedProtocol", (BoundedHttpProtocol,), {"gate": gate})


class ListeningServer(uvicorn.Server):
    """Serves on a socket that `bind` has opened, until a signal or until ``should_exit`` is set."""

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        *,
        ready: Callable[[], None],
        ending: Callable[[], None],
    ) -> None:
        """``ready`` is called when it listens, and ``ending`` ends what pages are still told."""
        super().__init__(config)
        self._listener = listener
        self._ready = ready
        self._ending = ending

    async def run_until_stopped(self) -> None:
        """Serve until the end."""
        await self.serve([self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)


class PageServer(ListeningServer):
    """Serves an application of pages."""

    def __init__(
        self,
        app: Starlette,
        listener: socket.socket,
        *,
        ready: Callable[[], None],
        ending: Callable[[], None],
    ) -> None:
        config = uvicorn.Config(
            app, log_config=None, log_level="warning", access_log=False, ws="none"
        )
        super().__init__(config, listener, ready=ready, ending=ending)


class HttpServer(ListeningServer):
    """Serves a `Service`.

    At its end it admits nobody, gives runs ``settings.drain`` seconds, and stops those that are
    left; it stops them at once at a second signal, and waits for no client at a third.

    Attributes:
        url: Where it listens.
        signals: Whether SIGINT and SIGTERM end it.
        signal: The one that did.
    """

    def __init__(
        self,
        service: Service,
        settings: ServerSettings,
        listener: socket.socket,
        *,
        signals: bool = False,
        ready: Callable[[], None] = lambda: None,
        pages: Sequence[BaseRoute] = (),
        ending: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve; ``pages`` are for people, and ``ending`` ends what they are still being told."""
        self.url = address(listener)
        self.signals = signals
        self.signal: int | None = None
        runner = RequestRunner(service, settings)
        config = uvicorn.Config(
            application(runner, settings, self.url, pages),
            log_config=None,  # whoever runs it says where records go, and in which form
            log_level="warning",
            access_log=False,  # a proxy's business
            server_header=False,
            lifespan="on",
            http=_protocol(settings),
            ws="none",
            h11_max_incomplete_event_size=MOST_HEAD,
            backlog=backlog(),
            timeout_graceful_shutdown=math.ceil(settings.drain) + 1,
        )
        limit_logs()
        super().__init__(config, listener, ready=ready, ending=ending)
        self._admission = runner.admission
        self._drain = settings.drain
        self._hurry = anyio.Event()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._admission.close()
        async with anyio.create_task_group() as group:
            group.start_soon(self._stop_runs)
            await super().shutdown(sockets)
            group.cancel_scope.cancel()
        if self.force_exit:  # the base class skips it then, and reports the task it leaves behind
            await self.lifespan.shutdown()

    async def _stop_runs(self) -> None:
        with anyio.move_on_after(self._drain):
            await self._hurry.wait()
        self._admission.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals as the base class does, which would end the process with models open."""
        handled = (signal.SIGINT, signal.SIGTERM) if self.signals else ()
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._admission.close()
        if self.should_exit and not self._hurry.is_set():
            self._hurry.set()  # the base class looks every 0.1 s, which wakes the loop
            return
        self.signal = self.signal or sig
        super().handle_exit(sig, frame)


@asynccontextmanager
async def listening(service: Service, settings: ServerSettings) -> AsyncIterator[str]:
    """Serve beside a block, which gets the URL; runs that are left at its end are stopped."""
    up = anyio.Event()
    with bind(settings.host, settings.port) as listener:
        server = HttpServer(service, settings, listener, ready=up.set)
        async with anyio.create_task_group() as group:
            group.start_soon(server.run_until_stopped)
            await up.wait()
            yield server.url
            server.should_exit = True
