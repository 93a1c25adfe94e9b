"""``reason serve``: load models, listen, and stop every run on the way out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.errors import ExtraMissing, InvalidValue

try:
    import uvicorn

    from protocol.http.app import Policy, build
    from protocol.http.keys import Keys
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
    drain: float,
) -> int:
    """Serve until a signal, and return the exit code."""
    loopback = host in LOOPBACK
    keys = Keys.read(Path(api_key_file)) if api_key_file else Keys()
    if not loopback and not keys and not insecure:
        raise InvalidValue(
            f"host: {host} can be reached by others, and no key is asked for; "
            "give --api-key-file FILE, or --insecure if that is meant"
        )
    policy = Policy(
        keys=keys,
        loopback=loopback,
        origins=frozenset(origins),
        most=max_concurrent,
        queue=max_queued,
    )
    from reasoning.model import DEFAULT, Model
    from reasoning.serving import ReasoningService

    service = ReasoningService([Model.load(name) for name in models or [DEFAULT]])

    async def main() -> None:
        app = build(service, policy)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,  # a proxy's business; paths and addresses are nobody else's
            server_header=False,
            timeout_graceful_shutdown=max(1, round(drain)),
            lifespan="off",
        )
        server = _Server(config, app.state.gate)
        async with service:
            await server.serve()

    with contextlib.suppress(KeyboardInterrupt):
        anyio.run(main)
    return 0


class _Server(uvicorn.Server):
    """Says where it listens, and lets nobody in while it stops."""

    def __init__(self, config: uvicorn.Config, gate: Any) -> None:
        super().__init__(config)
        self._gate = gate

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                name = f"[{host}]" if ":" in host else host
                click.echo(f"reason: listening on http://{name}:{port}", err=True)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._gate.closed = True
        super().handle_exit(sig, frame)
