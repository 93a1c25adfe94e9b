"""``reason hub``: workers connect, and clients have it spread tasks over them."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

import click
from click import IntRange

from orchestrator.errors import InvalidValue
from reasoning.cli.interrupts import INTERRUPTED, raise_when_interrupted
from reasoning.cli.options import (
    HUB_PORT,
    BackendOptions,
    Duration,
    SecretStoreOptions,
    TlsOptions,
    TokenStoreOptions,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import one_line, say

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from protocol import Hub, HubEvent, Tls
    from reasoning.models.loaded import LoadedModel


@settings_class
class HubCommandSettings:
    """Where a hub listens, and to whom."""

    host: str = option("The address to listen on.", default="127.0.0.1")
    port: int = option(
        "The port; 0 takes a free one and prints it.", type=IntRange(0, 65535), default=HUB_PORT
    )
    store: TokenStoreOptions = field(default_factory=TokenStoreOptions)
    lease: float = option(
        "How long a worker that is not heard of keeps its tasks.",
        type=Duration(least=0.5, most=3600),
        default=15.0,
    )
    ufo: int | None = option(
        "Let clients of UFO³ in as well, on this port; 0 takes a free one.",
        type=IntRange(0, 65535),
        metavar="PORT",
    )
    pilot: str | None = option(
        "The chat model that carries out requests on their devices.", metavar="NAME|PATH"
    )
    backend: BackendOptions = field(default_factory=BackendOptions)
    secrets: SecretStoreOptions = field(default_factory=SecretStoreOptions)
    tls: TlsOptions = field(default_factory=TlsOptions)
    quiet: bool = option(
        "Nothing on stderr when workers come and go.", "--quiet", "-q", is_flag=True
    )


@click.command()
@options(HubCommandSettings)
def hub(settings: HubCommandSettings) -> int:
    """Run a hub: workers connect, and clients have it spread tasks over them.

    Its URL goes to stdout, with --ufo followed by that for UFO³'s clients.  Who may connect is
    said by `reason token`.

    \b
    reason token create laptop > laptop.token
    reason hub
    """
    import anyio

    from protocol import Hub, HubSettings

    tls, pilot = settings.tls.load(), _load_pilot(settings)
    own = HubSettings(
        host=settings.host,
        port=settings.port,
        tls=tls,
        insecure=settings.tls.insecure,
        lease_s=settings.lease,
    )
    found = Hub(own, tokens=settings.store.open())
    if not settings.quiet:
        found.observe(_show)
    raise_when_interrupted()
    return anyio.run(_serve, settings, found, tls, pilot)


def _load_pilot(settings: HubCommandSettings) -> LoadedModel | None:
    """The model that steers UFO³'s devices, if one is asked for.

    Raises:
        InvalidValue: one is asked for, but no port for such devices.
    """
    if settings.pilot is None and not settings.backend.given:
        return None
    if settings.ufo is None:
        raise InvalidValue("pilot: a model steers devices of UFO³ only; give --ufo PORT as well")
    return settings.backend.load(settings.pilot)


async def _serve(
    settings: HubCommandSettings, hub: Hub, tls: Tls | None, pilot: LoadedModel | None
) -> int:
    """Serve until a signal, and return the exit code."""
    import signal
    from contextlib import AsyncExitStack

    import anyio

    from protocol.hub.directory import Directory

    async with hub, AsyncExitStack() as stack:
        Directory(hub).open()
        say(hub.url, err=False)
        if settings.ufo is not None:
            say(await _open_ufo(stack, settings, hub, tls, pilot), err=False)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                return INTERRUPTED if number == signal.SIGINT else 0
    return 0


async def _open_ufo(
    stack: AsyncExitStack,
    settings: HubCommandSettings,
    hub: Hub,
    tls: Tls | None,
    model: LoadedModel | None,
) -> str:
    """Let UFO³'s clients in until ``stack`` is closed; returns what they dial."""
    from protocol.ufo import UfoServer, UfoSettings
    from reasoning.planning import ChatClient, ModelPilot

    pilot = None
    if model is not None:
        pilot = ModelPilot(await stack.enter_async_context(ChatClient(model)))
    assert settings.ufo is not None
    listening = UfoSettings(
        host=settings.host, port=settings.ufo, tls=tls, insecure=settings.tls.insecure
    )
    server = UfoServer(hub, listening, pilot=pilot, secrets=settings.secrets.open())
    return (await stack.enter_async_context(server)).url


def _show(event: HubEvent) -> None:
    from protocol import WorkerAway, WorkerJoined, WorkerLeft

    match event:
        case WorkerJoined(worker="hub"):
            return
        case WorkerJoined(worker=name, profile=profile):
            models = ", ".join(offer.name for offer in profile.models) or "no model"
            say(f"{name} is here: {profile.platform}, {models}")
        case WorkerAway(worker=name):
            say(f"{name} is not heard of")
        case WorkerLeft(worker=name, why=why):
            say(f"{name} is gone: {one_line(why)}")
