"""``reason serve``: load models, listen, and stop every run on the way out."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.errors import ExtraMissing, InvalidValue

try:
    import uvicorn

    from protocol.http.admission import Gate
    from protocol.http.app import Policy, build
    from protocol.http.keys import Keys
except ImportError as error:
    raise ExtraMissing(
        f"the server needs {error.name}; pip install 'parallel-reason[serve]'"
    ) from error

LOOPBACK = ("127.0.0.1", "::1", "localhost")
INTERRUPTED = 130


def run(
    models: Sequence[str],
    *,
    host: str,
    port: int,
    api_key_file: str | None,
    insecure: bool,
    origins: Sequence[str],
    max_concurrent: int,
    max_queued: int,
    timeout: float,
    drain: float,
    a2a: bool,
    public_url: str | None,
    backend: str | None,
    base_urls: Sequence[str],
    settings: Sequence[str],
) -> int:
    """Serve until a signal, and return the exit code."""
    _hush()
    loopback = host in LOOPBACK
    keys = Keys.read(Path(api_key_file)) if api_key_file else Keys()
    if not loopback and not keys and not insecure:
        raise InvalidValue(
            f"host: {host} can be reached by others, and no key is asked for; "
            "give --api-key-file FILE, or --insecure if that is meant"
        )
    with _bind(host, port) as listener:
        address = _address(listener)
        policy = Policy(
            keys=keys,
            loopback=loopback,
            origins=frozenset(origins),
            most=max_concurrent,
            queue=max_queued,
            timeout=timeout,
            version=metadata.version("parallel-reason"),
            agent_url=(public_url or address).rstrip("/") if a2a else None,
        )
        from reasoning.loading import load
        from reasoning.serving import ReasoningService

        names: Sequence[str | None] = models or (None,)
        loaded = [
            load(name, backend=backend, base_urls=base_urls, settings=settings) for name in names
        ]
        service = ReasoningService(loaded)

        async def main() -> int:
            app = build(service, policy)
            server = _Server(app, app.state.gate, drain)
            async with service:
                await server.serve(sockets=[listener])
            return server.exit_code

        return anyio.run(main)


def _hush() -> None:
    """a2a-sdk logs each request that it can't read, with a traceback; that is the client's."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: not record.getMessage().startswith("Failed to "))
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("a2a")
    logger.addHandler(handler)
    logger.propagate = False


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket, before anything is loaded."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        raise InvalidValue(
            f"port: {port} of {host} can't be listened on ({error.strerror}); choose another"
        ) from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Says where it listens; on a signal lets nobody in, and after ``drain`` seconds stops runs."""

    def __init__(self, app: Any, gate: Gate, drain: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,  # a proxy's business
                server_header=False,
                lifespan="on",
                timeout_graceful_shutdown=round(drain) + 5,
            )
        )
        self._gate = gate
        self._drain = drain
        self.exit_code = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            click.echo(f"reason: listening on {_address(listener)}", err=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
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
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._gate.close()
        self.exit_code = INTERRUPTED if sig == signal.SIGINT else 0
        super().handle_exit(sig, frame)
