"""``reason serve``: load models, listen, and stop every run on the way out."""

from __future__ import annotations

from dataclasses import field, fields

import click

from orchestrator.errors import ExtraMissing
from protocol.http import ServerSettings
from reasoning.cli.interrupts import INTERRUPTED, raise_when_interrupted
from reasoning.cli.options import BackendOptions, Duration, option, options, settings_class


@settings_class
class ServeSettings:
    """Models, where they are served, and to whom."""

    models: tuple[str, ...] = option(
        "--model",
        multiple=True,
        metavar="NAME|PATH",
        help="A shipped model (reason-5m), a Hugging Face folder, or a model's name on a server; "
        "may be repeated.",
    )
    backend: BackendOptions = field(default_factory=BackendOptions)
    a2a: bool = option(
        "--a2a", is_flag=True, help="Be an A2A agent too: strategies are its skills."
    )
    public_url: str | None = option(
        "--public-url",
        metavar="URL",
        help="Where others reach the server, for the A2A card; by default the address it listens "
        "on.",
    )
    host: str = option("--host", default=ServerSettings.host, help="The address to listen on.")
    port: int = option(
        "--port",
        type=click.IntRange(0, 65535),
        default=ServerSettings.port,
        help="The port; 0 takes a free one and prints it.",
    )
    api_key_file: str | None = option(
        "--api-key-file",
        metavar="FILE",
        help="One bearer key, or sha256: and its hash, a line; without it nobody is asked for one.",
    )
    insecure: bool = option(
        "--insecure", is_flag=True, help="Listen beyond this machine without a key."
    )
    origins: tuple[str, ...] = option(
        "--allow-origin",
        multiple=True,
        metavar="ORIGIN",
        help="A web origin, as http://localhost:3000, whose pages may ask; may be repeated.",
    )
    max_concurrent: int = option(
        "--max-concurrent",
        type=click.IntRange(1, 1024),
        default=ServerSettings.max_concurrent,
        help="Runs at once.",
    )
    max_queued: int = option(
        "--max-queued",
        type=click.IntRange(0, 10_000),
        default=ServerSettings.max_queued,
        help="Requests that wait for their turn; more are told to come back.",
    )
    timeout: float = option(
        "--timeout",
        type=Duration(most=86_400),
        default=ServerSettings.timeout,
        help="How long a run may take; it then answers with what there is.",
    )
    drain: float = option(
        "--drain",
        type=Duration(least=1, most=3600),
        default=ServerSettings.drain,
        help="How long runs may go on after a signal to stop.",
    )


@click.command()
@options(ServeSettings)
def serve(settings: ServeSettings) -> int:
    """Serve an OpenAI-compatible API: every strategy on every model is a model of its own.

    \b
    reason serve --port 8000
    curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{
      "model": "reason-5m/apr",
      "messages": [{"role": "user", "content": "Use 3, 10, 21 and 23 to make 50"}]}'
    """
    import signal

    import anyio

    try:
        from protocol.http.server import HttpServer, address, bind
    except ImportError as error:
        raise ExtraMissing(
            f"the server needs {error.name}; pip install 'parallel-reason[serve]'"
        ) from error

    _silence_a2a()
    serving = _server_settings(settings)
    with bind(serving.host, serving.port) as listener:
        from reasoning.serving import ReasoningService

        service = ReasoningService(
            [settings.backend.load(name) for name in settings.models or (None,)]
        )

        def announce() -> None:
            click.echo(f"reason: listening on {address(listener)}", err=True)

        async def main() -> int:
            server = HttpServer(service, serving, listener, signals=True, ready=announce)
            async with service:
                await server.run_until_stopped()
            return INTERRUPTED if server.signal == signal.SIGINT else 0

        raise_when_interrupted()
        return anyio.run(main)


def _server_settings(settings: ServeSettings) -> ServerSettings:
    """What the server needs to know of the settings.

    Raises:
        InvalidValue: the host can be reached by others without a key, or the keys can't be read.
    """
    from importlib import metadata
    from pathlib import Path

    from protocol.http.access import ApiKeys

    shared = {f.name for f in fields(ServerSettings)} & {f.name for f in fields(ServeSettings)}
    return ServerSettings(
        keys=ApiKeys.read(Path(settings.api_key_file)) if settings.api_key_file else None,
        version=metadata.version("parallel-reason"),
        **{name: getattr(settings, name) for name in shared},
    )


def _silence_a2a() -> None:
    """Keep a2a-sdk from logging a traceback for each request that it can't read."""
    import logging

    handler = logging.StreamHandler()
    handler.addFilter(lambda record: not record.getMessage().startswith("Failed to "))
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("a2a")
    logger.addHandler(handler)
    logger.propagate = False
