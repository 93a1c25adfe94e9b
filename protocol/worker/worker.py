"""A worker: connects to a hub, and runs what it is asked to."""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Iterable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from orchestrator.errors import InvalidValue
from protocol.errors import ConnectionRefused, HubUnreachable, first
from protocol.settings import WorkerSettings
from protocol.wire.framing import Hello, to_worker
from protocol.wire.messages import MAX_FRAME, Drain, Profile
from protocol.worker.guard import guard_tasks
from protocol.worker.machine import own_cores, this_machine
from protocol.worker.reconnecting import ReconnectingConnection, SessionSide
from protocol.worker.registry import Registry
from protocol.worker.task_runner import TaskRunner, in_function
from protocol.worker.threads import ThreadHost

MAX_PROFILE = MAX_FRAME // 2
"""Bytes of what a worker tells of itself; the rest of its hello is for what it holds."""

FAREWELL_S = 5.0
"""How long a worker that has drained waits for a hub that it can't reach."""


class Worker:
    """Runs registered functions, tools, and threads of reasoning for a hub::

    worker = Worker("ws://127.0.0.1:8765", token, registry)
    await worker.run()

    It connects again after each break.  What it was doing goes on meanwhile, until its lease ends:
    by then the hub has given it to others.

    Attributes:
        url: The hub's.
        profile: What it can do.
    """

    def __init__(
        self,
        url: str,
        token: str,
        registry: Registry | None = None,
        *,
        hosts: Iterable[ThreadHost] = (),
        settings: WorkerSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare a worker.

        Args:
            url: The hub's, ``ws://`` or ``wss://``.
            token: From ``reason token create``.
            registry: What it can call.
            hosts: Models that it can generate with, already open.
            settings: See `WorkerSettings`.
            rng: Draws the pauses between attempts to connect.

        Raises:
            InvalidValue: the URL or a certificate can't be used.
        """
        settings = settings or WorkerSettings()
        registry = registry or Registry()
        models = {host.offer.name: host for host in hosts}
        self.url = url
        self.profile = Profile(
            platform=platform.system().lower(),
            machine=settings.machine or this_machine(),
            cores=frozenset() if settings.machine else own_cores(),
            slots=settings.slots or os.cpu_count() or 1,
            resources=dict(settings.resources),
            tags=settings.tags,
            functions=tuple(callee.offer for callee in registry.functions.values()),
            tools=tuple(callee.offer for callee in registry.tools.values()),
            models=tuple(host.offer for host in models.values()),
        )
        if len(self.profile.model_dump_json()) > MAX_PROFILE:
            raise InvalidValue(
                f"registry: what it offers takes more than {MAX_PROFILE} bytes; shorten "
                "descriptions, or register less"
            )
        self._instance = settings.instance
        side = SessionSide(
            reader=to_worker,
            hello=self._hello,
            joined=self._joined,
            handle=self._handle,
            refuse=self._refuse,
        )
        self._connection = ReconnectingConnection(url, token, side, settings, rng)
        self._runner = TaskRunner(registry, models, self.profile.slots, self._connection.channel)
        self._group: TaskGroup | None = None

    async def run(self) -> None:
        """Work until drained or cancelled.

        Raises:
            ConnectionRefused: the hub does not want this worker.
            HubUnreachable: it could not be reached for ``patience_s``.
        """
        guard_tasks(in_function)
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                group.start_soon(self._watch_lease)
                group.start_soon(self._leave_when_drained)
                await self._connection.run()
        except* (ConnectionRefused, HubUnreachable) as group_of_errors:
            refused: Exception = first(group_of_errors)
        else:
            return
        raise refused

    @property
    def id(self) -> str:
        """What the hub calls it, once it has said so."""
        return self._connection.id

    async def connected(self) -> None:
        """Wait until a hub has taken it in."""
        await self._connection.connected.wait()

    @property
    def busy(self) -> bool:
        """Whether it runs a task."""
        return self._runner.busy

    @property
    def draining(self) -> bool:
        """Whether it takes no more tasks."""
        return self._runner.draining

    def drain(self) -> None:
        """Take no more tasks, finish those that run, and let `run` end."""
        self._runner.drain()
        self._connection.channel.put_anyway(Drain())

    def _hello(self) -> Hello:
        return Hello(
            role="worker",
            instance=self._instance,
            profile=self.profile,
            holding=self._runner.holding,
        )

    def _joined(self, resumed: bool) -> None:
        if not resumed:
            self._runner.stop_all(threads_only=True)

    def _handle(self, message: Any) -> None:
        assert self._group is not None
        if isinstance(message, Drain):
            self._runner.drain()
        else:
            self._runner.handle(message, self._group)

    def _refuse(self, message: Any, why: str) -> None:
        self._runner.refuse(message, why)

    async def _watch_lease(self) -> None:
        """Stop what runs when the hub must have given it to others."""
        await self.connected()
        connection = self._connection
        while True:
            connection.lease_news = anyio.Event()
            left = connection.lease_left_s
            if left <= 0:
                self._runner.stop_all()
            with anyio.move_on_after(left if left > 0 else connection.lease_s):
                await connection.lease_news.wait()

    async def _leave_when_drained(self) -> None:
        """Leave when all is done and told; a hub that is gone need not be told."""
        await self._runner.drained()
        silent_since = time.monotonic()
        while time.monotonic() - silent_since <= FAREWELL_S:
            with anyio.move_on_after(FAREWELL_S):
                await self._connection.channel.settle()
                break
            silent_since = max(silent_since, self._connection.heard)
        assert self._group is not None
        self._group.cancel_scope.cancel()
