"""What ``reason hub`` and ``reason worker`` do."""

from __future__ import annotations

import importlib
import json
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click
from anyio.abc import TaskGroup

from orchestrator.errors import InvalidValue, leaf
from protocol import (
    Hub,
    HubEvent,
    Registry,
    Tls,
    TokenStore,
    Worker,
    WorkerAway,
    WorkerJoined,
    WorkerLeft,
)
from protocol.hub.directory import Directory
from reasoning.cli.hub import read_token, seconds, tokens_path
from reasoning.cli.interrupts import INTERRUPTED, raise_when_interrupted
from reasoning.errors import CapabilityMissing


def certificates(cert: str | None, key: str | None, ca: str | None) -> Tls | None:
    """The files that were given, if any."""
    if cert is key is ca is None:
        return None
    paths = [None if path is None else Path(path) for path in (cert, key, ca)]
    return Tls(cert=paths[0], key=paths[1], ca=paths[2])


# ---- hub -----------------------------------------------------------------------------------------


def run_hub(
    *,
    host: str,
    port: int,
    tokens: str | None,
    lease: float,
    ufo: int | None,
    pilot: str | None,
    backend: str | None,
    base_urls: Sequence[str],
    settings: Sequence[str],
    cert: str | None,
    key: str | None,
    ca: str | None,
    insecure: bool,
    quiet: bool,
) -> int:
    """Serve until a signal, and return the exit code."""
    tls = certificates(cert, key, ca)
    door = None
    if ufo is not None:
        from reasoning.cli.planner import open_door, pilot_model

        model = pilot_model(pilot, backend=backend, base_urls=base_urls, settings=settings)
        door = partial(open_door, model=model, host=host, port=ufo, tls=tls, insecure=insecure)
    elif pilot or backend or base_urls or settings:
        raise InvalidValue("pilot: a model steers devices of UFO³ only; give --ufo PORT as well")
    hub = Hub(
        host=host,
        port=port,
        tokens=TokenStore(tokens_path(tokens)),
        tls=tls,
        insecure=insecure,
        lease_s=lease,
    )
    if not quiet:
        hub.observe(_tell)

    async def main() -> int:
        async with hub, AsyncExitStack() as stack:
            Directory(hub).open()
            click.echo(hub.url)
            if door is not None:
                click.echo(await door(stack, hub))
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for number in signals:
                    return INTERRUPTED if number == signal.SIGINT else 0
        return 0

    raise_when_interrupted()
    return anyio.run(main)


def _tell(event: HubEvent) -> None:
    match event:
        case WorkerJoined(worker="hub"):
            return
        case WorkerJoined(worker=name, profile=profile):
            models = ", ".join(offer.name for offer in profile.models) or "no model"
            click.echo(f"{name} is here: {profile.platform}, {models}", err=True)
        case WorkerAway(worker=name):
            click.echo(f"{name} is not heard of", err=True)
        case WorkerLeft(worker=name, why=why):
            click.echo(f"{name} is gone: {why}", err=True)


# ---- worker --------------------------------------------------------------------------------------


def run_worker(
    url: str,
    *,
    token_file: str | None,
    models: Sequence[str],
    no_model: bool,
    backend: str | None,
    base_urls: Sequence[str],
    settings: Sequence[str],
    threads: int,
    registries: Sequence[str],
    slots: int | None,
    tags: Sequence[str],
    resources: Sequence[str],
    name: str,
    cert: str | None,
    key: str | None,
    ca: str | None,
    insecure: bool,
    patience: str | None,
    quiet: bool,
) -> int:
    """Work until drained, and return the exit code."""
    if no_model and models:
        raise InvalidValue("no-model: a model was given as well; leave one of them out")
    registry = _registry(registries)
    make = partial(
        Worker,
        url,
        read_token(token_file),
        registry,
        slots=slots,
        resources=_resources(resources),
        tags=tags,
        instance=name,
        tls=certificates(cert, key, ca),
        insecure=insecure,
        patience_s=seconds(patience, "patience"),
    )
    make()  # what is wrong is told before a model is loaded
    wanted: Sequence[str | None] = () if no_model else models or (None,)
    load = partial(_load, backend=backend, base_urls=base_urls, settings=settings, threads=threads)
    loaded = [load(model) for model in wanted]

    async def main() -> int:
        async with AsyncExitStack() as stack:
            hosts = [await host(stack) for host in loaded]
            return await _work(make(hosts=hosts), quiet)

    raise_when_interrupted()
    return anyio.run(main)


async def _work(worker: Worker, quiet: bool) -> int:
    code = 0

    async def stop(group: TaskGroup) -> None:
        nonlocal code
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                code = INTERRUPTED if number == signal.SIGINT else 0
                if worker.draining:
                    group.cancel_scope.cancel()
                worker.drain()

    async def greet() -> None:
        await worker.connected.wait()
        if not quiet:
            click.echo(f"{worker.id} works for {worker.url}", err=True)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(stop, group)
            group.start_soon(greet)
            await worker.run()
            group.cancel_scope.cancel()
    except ExceptionGroup as errors:
        raise leaf(errors) from None
    return code


def _load(
    model: str | None,
    *,
    backend: str | None,
    base_urls: Sequence[str],
    settings: Sequence[str],
    threads: int,
) -> Callable[[AsyncExitStack], Any]:
    """What opens a model's backend, and offers it."""
    from reasoning.backends.thread_host import BackendHost
    from reasoning.models.devices import offer_of
    from reasoning.models.loading import load

    found = load(model, backend=backend, base_urls=base_urls, settings=settings)
    opened = found.backend()
    if "token-prompts" not in opened.capabilities:
        raise CapabilityMissing(
            f"{found.name} can't be given tokens by this backend, which threads on devices need; "
            "use --backend embedded or vllm"
        )
    offer = offer_of(model, backend=backend or "embedded", slots=threads)

    async def host(stack: AsyncExitStack) -> BackendHost:
        return BackendHost(await stack.enter_async_context(opened), offer)

    return host


def _registry(names: Sequence[str]) -> Registry:
    """All that the worker offers: what every worker does, and what it is told to."""
    from reasoning.models import devices

    registry = Registry()
    registry.include(devices.registry)
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise InvalidValue(
                f"register: {name} can't be imported ({error}); give MODULE:NAME of an installed "
                "module"
            ) from error
        if not isinstance(found, Registry):
            raise InvalidValue(f"register: {name} is not a protocol.Registry; give one")
        registry.include(found)
    return registry


def _resources(texts: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in texts:
        name, _, amount = text.partition("=")
        if not name or not amount.isdecimal():
            raise InvalidValue(f"resource: {text!r} can't be read; give NAME=N, as gpu=2")
        found[name] = int(amount)
    return found


# ---- tokens --------------------------------------------------------------------------------------


def show_tokens(path: Path, *, as_json: bool) -> int:
    """Print what is known of each token."""
    rows = [
        {
            "name": record.name,
            "scopes": sorted(record.scopes),
            "created": _date(record.created),
            "expires": _date(record.expires),
            "revoked": _date(record.revoked),
        }
        for record in TokenStore(path).list()
    ]
    if as_json:
        click.echo(json.dumps({"schema": "reason.tokens/1", "tokens": rows}, indent=2))
        return 0
    for row in rows:
        scopes = ",".join(row["scopes"] or ())
        state = f"revoked {row['revoked']}" if row["revoked"] else f"until {row['expires'] or '-'}"
        click.echo(f"{row['name']}\t{scopes}\t{row['created']}\t{state}")
    return 0


def _date(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat("T", "seconds")
