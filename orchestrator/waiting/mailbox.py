"""Values from outside that tasks wait for, by name; see `TaskGraph.receive`."""

from __future__ import annotations

import math
import time
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute

from orchestrator.errors import AlreadyCompleted, InvalidValue, TimeLimitReached
from orchestrator.events import ValueAwaited
from orchestrator.journal.identity import IDENTITY
from orchestrator.node import Node, current_node
from orchestrator.waiting.wakeup import Wakeup

if TYPE_CHECKING:
    from orchestrator.journal.outside import Outside
    from orchestrator.scheduler.scheduler import Scheduler

LOOK_S = 10.0
"""How often the file is looked at although nobody has rung: from another machine, none can."""

Read = Callable[[Any], Any]
"""Gives a value as an annotation wants it; raises `InvalidValue` if it does not fit."""


class Mailbox:
    """Brings values from outside to the tasks of one run that wait for them.

    With a journal, values may come from other processes.  These write them into its file, and ring:
    they send a datagram to a port of this machine, which the run has noted there.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._values: dict[str, Read] = {}
        self._waiting: dict[str, list[tuple[Any, Wakeup]]] = defaultdict(list)
        self._outside: Outside | None = None
        self._listening: anyio.CancelScope | None = None

    def connect(self, outside: Outside) -> None:
        """From now on, keep values in a journal's file, and take those that come there."""
        for name, read in self._values.items():  # given before the run began
            outside.complete(name, read(Any))
        self._outside = outside

    def function(self, name: str, hint: Any, within: float | None) -> Callable[[], Awaitable[Any]]:
        """What a task does that waits for a value."""

        async def receive() -> Any:
            node = current_node.get()
            assert node is not None
            return await self._receive(node, name, hint, within)

        receive.__annotations__["return"] = hint
        setattr(receive, IDENTITY, ("receive", _given, name, repr(hint)))
        return receive

    @property
    def awaited(self) -> dict[str, Any]:
        """The names that are waited for, each with the annotation of its value."""
        return {name: waits[0][0] for name, waits in self._waiting.items() if waits}

    def complete(self, name: str, value: Any) -> None:
        """Give a value to those that wait for it, or will.

        Raises:
            AlreadyCompleted: somebody was faster.
            InvalidValue: it does not fit.
        """
        if name in self._values:
            raise AlreadyCompleted(f"{name!r} has its value already; the first one counts")
        for hint, _ in self._waiting.get(name, ()):
            value = _fitting(name, value, hint)
        if self._outside is not None:
            self._outside.complete(name, value)
        self._deliver(name, lambda hint: _fitting(name, value, hint))

    def _deliver(self, name: str, read: Read) -> None:
        self._values[name] = read
        for _, wakeup in self._waiting.pop(name, ()):
            wakeup.set()

    async def _receive(self, node: Node, name: str, hint: Any, within: float | None) -> Any:
        until = math.inf if within is None else time.time() + within
        if self._outside is not None:
            since = await anyio.to_thread.run_sync(self._outside.expect, name, node.id, hint)
            until = math.inf if within is None else since + within
            await self._look()
            if self._listening is None:
                self._listening = anyio.CancelScope()
                self._scheduler.beside(self._listen)
        while True:
            if name not in self._values:
                await self._wait(node, name, hint, until)
            try:
                return self._values[name](hint)
            except InvalidValue as error:
                await self._refuse(name, error)

    async def _wait(self, node: Node, name: str, hint: Any, until: float) -> None:
        wakeup = Wakeup(node.graph)
        entry = (hint, wakeup)
        self._waiting[name].append(entry)
        if self._scheduler.events.heard:
            self._scheduler.tell_all(ValueAwaited, node.id, name=name)
        try:
            with anyio.move_on_after(max(0.0, until - time.time())):
                await wakeup.wait(timed=True)
        finally:
            if entry in self._waiting.get(name, ()):
                self._waiting[name].remove(entry)
        if name not in self._values:
            raise TimeLimitReached(
                f"{node.label} got no value for {name!r} in its time; give it earlier, or raise "
                "the timeout"
            )
        await wakeup.settle()

    async def _refuse(self, name: str, error: Exception) -> None:
        self._values.pop(name, None)
        if self._outside is not None:
            await anyio.to_thread.run_sync(self._outside.refuse, name)
        warnings.warn(f"a value was refused: {error}", RuntimeWarning, stacklevel=2)

    # ---- from other processes ------------------------------------------------------------------

    def close(self) -> None:
        """Look for values no more."""
        if self._listening is not None:
            self._listening.cancel()

    async def _listen(self) -> None:
        assert self._outside is not None
        assert self._listening is not None
        with self._listening:
            try:
                async with await anyio.create_udp_socket(local_host="127.0.0.1") as bell:
                    port = bell.extra(SocketAttribute.local_port)
                    await anyio.to_thread.run_sync(self._outside.note_bell, port)
                    await self._look_after(bell.receive)
            except OSError:  # no sockets here
                await self._look_after(anyio.sleep_forever)

    async def _look_after(self, rung: Callable[[], Awaitable[Any]]) -> None:
        while True:
            await self._look()
            with anyio.move_on_after(LOOK_S):
                await rung()

    async def _look(self) -> None:
        """Take what has come into the journal's file."""
        assert self._outside is not None
        for name, read in (await anyio.to_thread.run_sync(self._outside.news)).items():
            if name in self._values:
                continue
            try:
                for hint, _ in self._waiting.get(name, ()):
                    read(hint)
            except InvalidValue as error:
                await self._refuse(name, error)
            else:
                self._deliver(name, read)


def _fitting(name: str, value: Any, hint: Any) -> Any:
    if hint is Any:
        return value
    from orchestrator.journal.outside import fitting  # pydantic, for those who give a type

    return fitting(name, value, hint)


def _given() -> None:
    """Stands for the function of a task that waits for a value from outside."""
