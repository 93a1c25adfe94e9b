"""A worker: dials a hub, and runs what it is asked to."""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Iterable, Mapping
from typing import Any

import anyio
from anyio.abc import TaskGroup

from protocol.errors import Congested, ConnectionRefused, HubUnreachable, first
from protocol.wire.connection import Tls
from protocol.wire.framing import Hello, to_worker
from protocol.wire.messages import Drain, Message, Profile, Progress
from protocol.worker.reconnecting import ReconnectingConnection
from protocol.worker.registry import Registry
from protocol.worker.task_runner import TaskRunner
from protocol.worker.threads import ThreadHost

FAREWELL_S = 5.0
"""How long a worker that has drained waits for a hub that it can't reach."""


class Worker(ReconnectingConnection):
    """Runs registered functions, tools, and threads of reasoning for a hub::

    worker = Worker("ws://127.0.0.1:8765", token, registry, slots=4)
    await worker.run()

    It comes again after each break.  What it was doing goes on meanwhile, until its lease ends: by
    then the hub has given it to others.
    """

    def __init__(
        self,
        url: str,
        token: str,
        registry: Registry | None = None,
        *,
        hosts: Iterable[ThreadHost] = (),
        slots: int | None = None,
        resources: Mapping[str, int] | None = None,
        tags: Iterable[str] = (),
        instance: str = "",
        tls: Tls | None = None,
        insecure: bool = False,
        patience_s: float | None = None,
        slowest_s: float = 10.0,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare a worker.

        Args:
            url: The hub's, ``ws://`` or ``wss://``.
            token: From ``reason token create``.
            registry: What it can call.
            hosts: Models that it can generate with, already open.
            slots: Functions and tools at once; by default as many as there are cores.
            resources: Named amounts, such as ``{"gpu": 1}``, that tasks can ask for.
            tags: Words that tasks can ask for.
            instance: Tells apart workers that share a token.
            tls: Certificates.
            insecure: Whether another machine may be dialled in plain text.
            patience_s: How long the hub may be unreachable; None for ever.
            slowest_s: The longest pause between two dials.
            rng: Of the pauses.

        Raises:
            InvalidValue: the URL or a certificate can't be used.
        """
        super().__init__(
            url,
            token,
            to_worker,
            tls=tls,
            insecure=insecure,
            patience_s=patience_s,
            slowest_s=slowest_s,
            rng=rng,
        )
        self._registry = registry or Registry()
        self._hosts = {host.offer.name: host for host in hosts}
        self._instance = instance
        self.profile = Profile(
            platform=platform.system().lower(),
            slots=slots or os.cpu_count() or 1,
            resources=dict(resources or {}),
            tags=frozenset(tags),
            functions=tuple(callee.offer for callee in self._registry.functions.values()),
            tools=tuple(callee.offer for callee in self._registry.tools.values()),
            models=tuple(host.offer for host in self._hosts.values()),
        )
        self._group: TaskGroup | None = None
        self._desk = TaskRunner(
            self._registry,
            self._hosts,
            self.profile.slots,
            self._say,
            lambda messages: self.channel.put_lazily(messages),
            lambda: self.channel.room(),
        )

    async def run(self) -> None:
        """Work until drained or cancelled.

        Raises:
            ConnectionRefused: the hub does not want this worker.
            HubUnreachable: it was dialled in vain for ``patience_s``.
        """
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                group.start_soon(self._watch_lease)
                group.start_soon(self._leave_when_drained)
                await self.dial()
        except* (ConnectionRefused, HubUnreachable) as group_of_errors:
            refused: Exception = first(group_of_errors)
        else:
            return
        raise refused

    @property
    def draining(self) -> bool:
        """Whether it takes no more tasks."""
        return self._desk.draining

    def drain(self) -> None:
        """Take no more tasks, finish those that run, and let `run` end."""
        self._desk.draining = True
        self._say(Drain())

    def hello(self) -> Hello:
        """See `ReconnectingConnection.hello`."""
        return Hello(
            role="worker",
            instance=self._instance,
            profile=self.profile,
            holding=self._desk.holding,
        )

    def joined(self, resumed: bool) -> None:
        """See `ReconnectingConnection.joined`."""
        if not resumed:
            self._desk.stop_all(threads_only=True)

    def handle(self, message: Any) -> None:
        """See `ReconnectingConnection.handle`."""
        assert self._group is not None
        if isinstance(message, Drain):
            self._desk.draining = True
        else:
            self._desk.handle(message, self._group)

    def _say(self, message: Message) -> None:
        try:
            self.channel.put(message)
        except Congested:
            if not isinstance(message, Progress):
                self.channel.put_lazily([message])

    async def _watch_lease(self) -> None:
        """Stop what runs when the hub must have given it to others."""
        while True:
            await anyio.sleep(min(0.25, self.lease_s / 8))
            if time.monotonic() - self.renewed > self.lease_s:
                self._desk.stop_all()

    async def _leave_when_drained(self) -> None:
        """Leave when all is done and told; a hub that is gone need not be told."""
        done_since = None
        while True:
            await anyio.sleep(0.05)
            now = time.monotonic()
            if not self._desk.draining or self._desk.busy:
                continue
            done_since = done_since or now
            if self.channel.settled or now - max(done_since, self._heard) > FAREWELL_S:
                assert self._group is not None
                self._group.cancel_scope.cancel()
