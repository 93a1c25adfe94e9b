"""``reason worker``: generate threads, call functions and tools for a hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import click
from click import IntRange

from orchestrator.errors import InvalidValue, leaf
from reasoning.cli.interrupts import INTERRUPTED, raise_when_interrupted
from reasoning.cli.options import (
    BackendOptions,
    Duration,
    TlsOptions,
    TokenFileOptions,
    model_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import say
from reasoning.errors import CapabilityMissing

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from anyio.abc import TaskGroup

    from protocol import Registry, Worker
    from reasoning.backends.thread_host import BackendHost

OpenHost = Callable[["AsyncExitStack"], Any]


@settings_class
class WorkerCommandSettings:
    """A hub, and what is done for it."""

    url: str = option("The hub's.", "--hub", metavar="URL", envvar="REASON_HUB", required=True)
    token: TokenFileOptions = field(default_factory=TokenFileOptions)
    models: tuple[str, ...] = model_option(
        "A model to generate with, by default reason-5m; may be repeated.",
        "--model",
        multiple=True,
    )
    no_model: bool = option("Only functions and tools.", is_flag=True)
    backend: BackendOptions = field(default_factory=BackendOptions)
    threads: int = option(
        "Threads of reasoning at once on each model.", type=IntRange(1, 4096), default=64
    )
    registries: tuple[str, ...] = option(
        "A protocol.Registry of functions and tools to offer; may be repeated.",
        "--register",
        multiple=True,
        metavar="MODULE:NAME",
    )
    slots: int | None = option("Functions and tools at once.", type=IntRange(1, 100_000))
    tags: tuple[str, ...] = option(
        "A word that tasks can ask for.", "--tag", multiple=True, metavar="WORD"
    )
    resources: tuple[str, ...] = option(
        "An amount that tasks can ask for, as gpu=2; may be repeated.",
        "--resource",
        multiple=True,
        metavar="NAME=N",
    )
    machine: str = option(
        "What it computes on, where that is a part of this machine: workers that name different "
        "ones are taken to share nothing.",
        default="",
        show_default=False,
        metavar="NAME",
    )
    name: str = option(
        "Tells apart workers that share a token.", default="", show_default=False, metavar="NAME"
    )
    tls: TlsOptions = field(default_factory=TlsOptions)
    patience: float | None = option(
        "Give up on a hub that is gone so long, as 10m.", type=Duration()
    )
    quiet: bool = option("Nothing on stderr.", "--quiet", "-q", is_flag=True)

    def worker(self, hosts: Sequence[BackendHost] = ()) -> Worker:
        """The worker, with the models of ``hosts``.

        Raises:
            InvalidValue: a setting can't be used.
        """
        from protocol import Worker, WorkerSettings

        settings = WorkerSettings(
            slots=self.slots,
            resources=_amounts(self.resources),
            tags=frozenset(self.tags),
            machine=self.machine,
            instance=self.name,
            tls=self.tls.load(),
            insecure=self.tls.insecure,
            patience_s=self.patience,
        )
        registry = _registry(self.registries)
        return Worker(self.url, self.token.read(), registry, hosts=hosts, settings=settings)


@click.command()
@options(WorkerCommandSettings)
def worker(settings: WorkerCommandSettings) -> int:
    """Work for a hub: generate threads of reasoning, call functions and tools.

    It connects to the hub, and again after each break.  The first Ctrl-C lets it finish what it
    has; the second stops it at once.

    \b
    reason worker --hub ws://127.0.0.1:8765 --token-file laptop.token
    """
    import anyio

    if settings.no_model and settings.models:
        raise InvalidValue("no-model: a model was given as well; leave one of them out")
    settings.worker()  # what is wrong is told before a model is loaded
    models: Sequence[str | None] = () if settings.no_model else settings.models or (None,)
    openers = [_load(model, settings) for model in models]
    raise_when_interrupted()
    return anyio.run(_work, settings, openers)


async def _work(settings: WorkerCommandSettings, openers: Sequence[OpenHost]) -> int:
    """Work until drained, and return the exit code."""
    import signal
    from contextlib import AsyncExitStack

    import anyio

    code = 0

    async def stop_on_signal(group: TaskGroup, worker: Worker) -> None:
        nonlocal code
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                code = INTERRUPTED if number == signal.SIGINT else 0
                if worker.draining:
                    group.cancel_scope.cancel()
                worker.drain()

    async def greet(worker: Worker) -> None:
        await worker.connected()
        if not settings.quiet:
            say(f"{worker.id} works for {worker.url}")

    async with AsyncExitStack() as stack:
        worker = settings.worker([await open_host(stack) for open_host in openers])
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(stop_on_signal, group, worker)
                group.start_soon(greet, worker)
                await worker.run()
                group.cancel_scope.cancel()
        except ExceptionGroup as errors:
            raise leaf(errors) from None
    return code


def _load(model: str | None, settings: WorkerCommandSettings) -> OpenHost:
    """Load a model; what it returns opens its backend, and offers it.

    Raises:
        CapabilityMissing: the backend can't be given tokens.
    """
    from reasoning.backends.thread_host import BackendHost
    from reasoning.models.devices import offer_of

    found = settings.backend.load(model)
    backend = found.backend
    if "token-prompts" not in backend.capabilities:
        raise CapabilityMissing(f"{found.name} takes no tokens; use --backend embedded or vllm")
    name = (settings.backend.backend or "embedded").partition(":")[0]
    offer = offer_of(model, backend=backend, kind=name, slots=settings.threads)

    async def open_host(stack: AsyncExitStack) -> BackendHost:
        return BackendHost(await stack.enter_async_context(backend), offer)

    return open_host


def _registry(names: Sequence[str]) -> Registry:
    """All that the worker offers: what every worker does, and what it is told to.

    Raises:
        InvalidValue: a name is not that of a registry.
    """
    import importlib

    from protocol import Registry
    from reasoning.models import devices

    registry = Registry()
    registry.include(devices.registry)
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise InvalidValue(f"register: {name}: {error}; give MODULE:NAME") from error
        if not isinstance(found, Registry):
            raise InvalidValue(f"register: {name} is not a protocol.Registry; give one")
        registry.include(found)
    return registry


def _amounts(texts: Sequence[str]) -> dict[str, int]:
    """Amounts by name, out of ``NAME=N``."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, amount = text.partition("=")
        if not name or not amount.isdecimal():
            raise InvalidValue(f"resource: {text!r} can't be read; give NAME=N, as gpu=2")
        found[name] = int(amount)
    return found
