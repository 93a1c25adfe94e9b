"""The states of tasks, and how the end of one reaches those that wait for it.

Everything here happens on the event loop, between two awaits, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from orchestrator.errors import InvalidValue, text_of
from orchestrator.events import Event, EventStream, TaskEnded, TaskReady
from orchestrator.node import Edge, Node
from orchestrator.scheduler import limit_messages as limits
from orchestrator.scheduler.conditions import SUCCESS
from orchestrator.scheduler.ready_queue import ReadyQueue
from orchestrator.views.record import FINAL, TaskState

if TYPE_CHECKING:
    from orchestrator.journal.store import Journal
    from orchestrator.task import Task


class Timers:
    """What is to happen to tasks later; true while something is."""

    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()

    def __bool__(self) -> bool:
        return bool(self._handles)

    def after(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``do()`` in so many seconds, unless it is forgotten."""

        def fire() -> None:
            self._handles.discard(handle)
            do()

        handle = asyncio.get_running_loop().call_later(seconds, fire)
        self._handles.add(handle)
        return handle

    def forget(self, handle: asyncio.TimerHandle | None) -> None:
        """Call it no more."""
        if handle is not None:
            handle.cancel()
            self._handles.discard(handle)

    def clear(self) -> None:
        """Forget all."""
        for handle in list(self._handles):
            self.forget(handle)


class States(ABC):
    """Moves the tasks of one graph through their states; a subclass runs what is ready.

    Attributes:
        unfinished: How many tasks have not ended.
        journal: Where ends are recorded, if anywhere.
        starved: Tasks that wait for nothing but their budget.
        run: Names the run, in events.
        graph: The name of its graph.
        freeing: Whether values that nobody needs any more are let go.
        wanted: Tasks whose values are kept all the same.
    """

    def __init__(self, events: EventStream, queue: ReadyQueue) -> None:
        self.events = events
        self.queue = queue
        self.unfinished = 0
        self.journal: Journal | None = None
        self.timers = Timers()
        self.starved: dict[Node, None] = {}
        self.run = self.graph = ""
        self.freeing = False
        self.wanted: set[Node] = set()
        self._takers: dict[Node, int] = {}
        """How many takers of a value have not ended, at least."""
        self._drained: anyio.Event | None = None

    @abstractmethod
    def pump(self) -> None:
        """Make sure that somebody comes for what is ready."""

    @abstractmethod
    def look_for_stall(self) -> None:
        """Fail what can never end."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether the run has begun and not ended."""

    def tell_all(self, kind: type[Event], task: str, **what: Any) -> None:
        """Make an event of this run and emit it; whoever calls looks first whether it is heard."""
        self.events.emit(kind(task=task, run=self.run, graph=self.graph, **what))

    def reconsider(self, node: Node, *, fresh: bool = False) -> None:
        """Take in a new task, or one that has not started and whose edges were edited."""
        self.unfinished += fresh
        node.unresolved = 0
        ends: list[tuple[Node, TaskState]] = []
        for edge in node.inbound:
            if edge.resolved:
                continue
            node.unresolved += 1
            if edge.source.state in FINAL:
                self._resolve(edge, ends, settle=False)
        for end, state in ends:
            self.finish(end, state)
        if node.state in FINAL:
            return
        if not node.unresolved and node.state == "waiting":
            self.make_ready(node)
            self.pump()
        elif node.unresolved and node.state == "ready":
            self.timers.forget(node.queue_timer)
            node.state = "waiting"
        elif node.state == "ready":  # its place in the queue may be another now
            self.queue.push(node)

    def forget(self, node: Node) -> None:
        """A task that has not started was removed from the graph."""
        self.timers.forget(node.queue_timer)
        node.state = "cancelled"
        self.unfinished -= 1
        if not self.unfinished and self._drained is not None:
            self._drained.set()

    def make_ready(self, node: Node) -> None:
        """Let a task queue whose predecessors have all ended as it wants."""
        node.state = "ready"
        if not node.attempts:  # else it queues for a retry
            node.ready_at = time.monotonic()
        if self.running:
            self.watch_queueing(node)
        if self.events.heard:
            self.tell_all(TaskReady, node.id)
        self.queue.push(node)

    def finish(self, node: Node, state: TaskState) -> None:
        """Put a task into a final state, and all that follows from it."""
        ends: list[tuple[Node, TaskState]] = [(node, state)]
        while ends:
            node, state = ends.pop()
            if node.state in FINAL:
                continue
            self._end(node, state)
            for edge in node.outbound:
                self._resolve(edge, ends)
            parent = node.parent
            if parent is not None:
                parent.unended -= 1
                if not parent.unended and parent.outcome is not None:
                    ends.append((parent, parent.outcome))
        if not self.unfinished:
            if self._drained is not None:
                self._drained.set()
        else:
            self.pump()
            self.look_for_stall()

    def _end(self, node: Node, state: TaskState) -> None:
        node.state = state
        node.ended_at = time.monotonic()
        if state == "succeeded":
            for child in node.children:
                if child.state == "succeeded":
                    node.follow(child)
        self.unfinished -= 1
        if self.events.heard:
            error = node.error_line if state == "failed" else None
            self.tell_all(TaskEnded, node.id, state=state, work=node.work, error=error)
        if self.journal is not None:
            self.journal.ended(node)
        if self.freeing:
            self._free_around(node)
        if node.watchers is not None:
            for watcher in node.watchers:
                self.tell(watcher, node)

    def _free_around(self, node: Node) -> None:
        """Let go of the values that nobody needs now that this task has ended."""
        for edge in node.inbound:
            self._free(edge.source)
        for child in node.children:
            self._free(child)
        self._free(node)

    def _free(self, node: Node) -> None:
        """Let go of a value that all have taken, but not of one that no task was to take."""
        if node.state not in FINAL or node in self.wanted or node.value is None:
            return
        if node.parent is None and not node.outbound:
            return
        if node.parent is not None and node.parent.state not in FINAL:
            return
        left = self._takers.get(node, 0) - 1
        if left <= 0:
            left = sum(edge.target.state not in FINAL for edge in node.outbound)
        self._takers[node] = left
        if not left:
            del self._takers[node]
            node.value, node.freed = None, True

    def watch(self, node: Node, listener: Callable[[Task[Any]], None]) -> None:
        """See `Task.on_end`."""
        if node.state in FINAL:
            self.tell(listener, node)
        elif node.watchers is None:
            node.watchers = [listener]
        else:
            node.watchers.append(listener)

    def tell(self, listener: Callable[[Task[Any]], None], node: Node) -> None:
        """Call a listener; what it raises is reported, and changes nothing."""
        try:
            listener(node.task)
        except BaseException as error:  # whatever it is, the task has ended
            self.events.failed(error, node.id)

    def spend(self, node: Node, **amounts: float) -> None:
        """See `Task.spend`."""
        if node.reservation is not None:
            node.reservation.spend(**amounts)
            if self.journal is not None:
                self.journal.spent(node, amounts)

    def _resolve(
        self, edge: Edge, ends: list[tuple[Node, TaskState]], *, settle: bool = True
    ) -> None:
        source, target = edge.source, edge.target
        if edge.resolved or target.state in FINAL:
            return
        edge.resolved = True
        if edge.when is SUCCESS:
            holds = source.state == "succeeded"
        else:
            try:
                error_text = None if source.error is None else text_of(source.error)
                holds = edge.when.holds(source.state, source.value, error_text)
            except InvalidValue as error:
                target.error = error
                ends.append((target, "failed"))
                return
            if source.state == "failed":
                source.acknowledged = True
        if not holds:
            skipped = source.state == "skipped"
            target.because = (source.because if skipped else None) or source.task
            ends.append((target, "skipped"))
            return
        target.follow(source)
        target.unresolved -= 1
        if settle and not target.unresolved and target.state == "waiting":
            self.make_ready(target)

    def cancel(self, node: Node, because: Task[Any] | None = None) -> None:
        """Cancel a task and its descendants; see `Task.cancel`."""
        if node.state in FINAL:
            return
        node.because = node.because or because
        below = [node]
        for found in below:  # grows while it is read
            found.cancel_asked = True
            if found.unended and self.journal is not None:
                self.journal.attempted(found, len(found.attempts) + (found.outcome is None))
            for child in found.children:
                if child.state not in FINAL:
                    child.because = child.because or node.task
                    below.append(child)
        for found in reversed(below):
            if found.outcome is not None:
                found.outcome = "cancelled"
            elif found.state == "running" and found.scope is not None:
                found.scope.cancel()
            else:
                self.finish(found, "cancelled")

    def watch_queueing(self, node: Node) -> None:
        """Start the queue timeout of a ready task, if it has one."""
        timeout = node.settings.timeout
        if timeout is not None and timeout.queue is not None:
            self.timers.forget(node.queue_timer)
            node.queue_timer = self.timers.after(
                timeout.queue, partial(self._queued_too_long, node)
            )

    def _queued_too_long(self, node: Node) -> None:
        if node.state == "ready" or node in self.starved:
            node.error = limits.queue_over(node)
            self.finish(node, "failed")

    def feed(self) -> None:
        """Let what waits for a budget try again."""
        starved, self.starved = self.starved, {}
        for node in starved:
            if node.state == "waiting" and not node.unresolved:
                node.state = "ready"
                self.queue.push(node)
        self.pump()

    def give_up_starved(self) -> None:
        """What is reserved is held by tasks that wait for those that need it."""
        starved, self.starved = self.starved, {}
        for node in starved:
            if node.state == "waiting":
                node.error = limits.budget_held(node)
                self.finish(node, "cancelled")
