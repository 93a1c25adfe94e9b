"""``reason serve``: load models, listen, and stop every run on the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import click
from click import IntRange

from orchestrator.errors import importing
from protocol.http import ServerSettings
from reasoning.cli.interrupts import INTERRUPTED, raise_when_interrupted
from reasoning.cli.options import (
    BackendOptions,
    Duration,
    KeepOptions,
    model_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import VisibleFormatter, say

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from reasoning.runs.live.served import ServedRuns


@settings_class
class KeepServedOptions(KeepOptions):
    """Whether runs of a server, whose words are others', are kept."""

    keep: bool = option(
        "Keep the runs on this machine, for reason runs and reason view.",
        "--keep/--no-keep",
        default=False,
    )


@settings_class
class ServeSettings:
    """Models, where they are served, and to whom."""

    models: tuple[str, ...] = model_option(
        "A shipped model (reason-5m), a Hugging Face folder, or a model's name on a server; "
        "may be repeated.",
        "--model",
        multiple=True,
    )
    backend: BackendOptions = field(default_factory=BackendOptions)
    default: str | None = option(
        "What a model's bare name stands for, as self-consistency:n=8,policy=async.",
        metavar="STRATEGY[:n=8,policy=…]",
    )
    keeping: KeepServedOptions = field(default_factory=KeepServedOptions)
    ui: bool = option(
        "Show runs as they happen, and those that are kept, at /ui, to whoever has the first key.",
        is_flag=True,
    )
    a2a: bool = option("Be an A2A agent too: strategies are its skills.", is_flag=True)
    public_url: str | None = option(
        "Where others reach the server, for the A2A card; by default the address it listens on.",
        metavar="URL",
    )
    host: str = option("The address to listen on.", default=ServerSettings.host)
    port: int = option(
        "The port; 0 takes a free one and prints it.",
        type=IntRange(0, 65535),
        default=ServerSettings.port,
    )
    api_key_file: str | None = option(
        "One bearer key, or sha256: and its hash, a line; without it nobody is asked for one.",
        metavar="FILE",
    )
    insecure: bool = option("Listen beyond this machine without a key.", is_flag=True)
    origins: tuple[str, ...] = option(
        "A web origin, as http://localhost:3000, whose pages may ask; may be repeated.",
        "--allow-origin",
        multiple=True,
        metavar="ORIGIN",
    )
    max_concurrent: int = option(
        "Runs at once.", type=IntRange(1, 1024), default=ServerSettings.max_concurrent
    )
    max_branches: int = option(
        "Branches of all runs at once; as they get few, each run gets fewer, and only then waits.",
        type=IntRange(1, 65_536),
        default=ServerSettings.max_branches,
    )
    max_queued: int = option(
        "Requests that wait for their turn; more are told to come back.",
        type=IntRange(0, 10_000),
        default=ServerSettings.max_queued,
    )
    plain_tokens: int = option(
        "Requests for at most so many tokens, as for titles, get one plain sample; 0 for none.",
        type=IntRange(0, 1 << 20),
        default=ServerSettings.plain_tokens,
    )
    plain_models: tuple[str, ...] = option(
        "A name of /v1/models that always gets one plain sample; may be repeated.",
        "--plain-model",
        multiple=True,
        metavar="NAME",
    )
    timeout: float = option(
        "How long a run may take; it then answers with what there is.",
        type=Duration(most=86_400),
        default=ServerSettings.timeout,
    )
    drain: float = option(
        "How long runs may go on after a signal to stop.",
        type=Duration(least=1, most=3600),
        default=ServerSettings.drain,
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

    with importing("serve", "the server"):
        from protocol.http.access import PAGES
        from protocol.http.server import HttpServer, address, bind

    _silence_a2a()
    serving = _server_settings(settings)
    with bind(serving.host, serving.port) as listener:
        from reasoning.serving import ReasoningService

        shown = _shown(settings)
        service = ReasoningService(
            [settings.backend.load(name) for name in settings.models or (None,)],
            default=settings.default,
            watch=shown.runs,
        )

        def announce() -> None:
            if settings.ui:
                say(f"reason: runs are shown at {address(listener)}{PAGES}")
            say(f"reason: listening on {address(listener)}")

        async def main() -> int:
            server = HttpServer(
                service,
                serving,
                listener,
                signals=True,
                ready=announce,
                pages=shown.routes,
                ending=shown.close,
            )
            async with service:
                await server.run_until_stopped()
            shown.end()
            return INTERRUPTED if server.signal == signal.SIGINT else 0

        raise_when_interrupted()
        return anyio.run(main)


@dataclass(frozen=True, kw_only=True)
class ShownRuns:
    """What the server does with its runs beside answering.

    Attributes:
        runs: None where they are neither kept nor shown.
        routes: Of the pages that show them.
    """

    runs: ServedRuns | None = None
    routes: Sequence[BaseRoute] = ()

    def close(self) -> None:
        """Nobody is told of runs any more."""
        if self.runs is not None and self.runs.live is not None:
            self.runs.live.close()

    def end(self) -> None:
        """Write what still waits to be kept."""
        if self.runs is not None:
            self.runs.keeper.close()


def _shown(settings: ServeSettings) -> ShownRuns:
    if not (settings.keeping.keep or settings.ui):
        return ShownRuns()
    from reasoning.runs.keeper import RunKeeper
    from reasoning.runs.live.live_runs import LiveRuns
    from reasoning.runs.live.routes import page_routes
    from reasoning.runs.live.served import ServedRuns

    store = settings.keeping.store if settings.keeping.keep else None
    live = LiveRuns(keeps=store is not None) if settings.ui else None
    return ShownRuns(
        runs=ServedRuns(RunKeeper(store, command="serve"), live),
        routes=() if live is None else page_routes(live, store),
    )


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
    handler.setFormatter(VisibleFormatter())
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("a2a")
    logger.addHandler(handler)
    logger.propagate = False
