"""How a task waits for others of its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from orchestrator.node import current_node

if TYPE_CHECKING:
    from orchestrator.graph import TaskGraph


class Wakeup:
    """An event of a graph; a task of that graph that waits for it lends its slot to others.

    Whoever else waits, outside of the graph's tasks, holds no slot and only waits.
    """

    __slots__ = ("_event", "_node")

    def __init__(self, graph: TaskGraph) -> None:
        node = current_node.get()
        self._node = node if node is not None and node.graph is graph else None
        self._event = anyio.Event()

    def set(self, _: object = None) -> None:
        """Wake whoever waits."""
        if not self._event.is_set():
            self._event.set()
            if self._node is not None:
                self._node.scheduler.woken(self._node)

    async def wait(self, *, timed: bool = False) -> None:
        """Wait until it is set; ``timed`` if the wait ends by itself at some time."""
        if self._event.is_set():
            return
        if self._node is None:
            await self._event.wait()
        else:
            await self._node.scheduler.wait(self._node, self._event, timed)

    async def settle(self) -> None:
        """Wait for a slot, if the wait was cut short while none was free."""
        if self._node is not None:
            await self._node.scheduler.settle(self._node)
