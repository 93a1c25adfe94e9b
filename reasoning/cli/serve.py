"""``reason serve``: load models, listen, and stop every run on the way out."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import anyio
import click

from orchestrator.errors import ExtraMissing, InvalidValue
from reasoning.cli.interrupts import INTERRUPTED, raise_when_interrupted

try:
    from protocol.http.app import Policy, build
    from protocol.http.keys import Keys
    from protocol.http.server import Server, address, bind
except ImportError as error:
    raise ExtraMissing(
        f"the server needs {error.name}; pip install 'parallel-reason[serve]'"
    ) from error

LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
    with bind(host, port) as listener:
        url = address(listener)
        policy = Policy(
            keys=keys,
            loopback=loopback,
            origins=frozenset(origins),
            most=max_concurrent,
            queue=max_queued,
            timeout=timeout,
            version=metadata.version("parallel-reason"),
            agent_url=(public_url or url).rstrip("/") if a2a else None,
        )
        from reasoning.models.loading import load
        from reasoning.serving import ReasoningService

        names: Sequence[str | None] = models or (None,)
        loaded = [
            load(name, backend=backend, base_urls=base_urls, settings=settings) for name in names
        ]
        service = ReasoningService(loaded)

        async def main() -> int:
            def announce() -> None:
                click.echo(f"reason: listening on {url}", err=True)

            server = Server(build(service, policy), drain=drain, signals=True, ready=announce)
            async with service:
                await server.serve(sockets=[listener])
            return INTERRUPTED if server.signal == signal.SIGINT else 0

        raise_when_interrupted()
        return anyio.run(main)


def _hush() -> None:
    """a2a-sdk logs each request that it can't read, with a traceback; that is the client's."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: not record.getMessage().startswith("Failed to "))
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("a2a")
    logger.addHandler(handler)
    logger.propagate = False
