"""What follows from what: the states of tasks, and how an end reaches what waits for it.

Everything here happens on the event loop, between two awaits, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio

from orchestrator.errors import InvalidValue
from orchestrator.events import EventStream, TaskEnded, TaskReady
from orchestrator.scheduler import limit_messages as limits
from orchestrator.scheduler.conditions import SUCCESS
from orchestrator.scheduler.ready_queue import ReadyQueue
from orchestrator.task import Edge, Task
from orchestrator.views.record import FINAL, TaskState

if TYPE_CHECKING:
    from orchestrator.journal.store import Journal


class Timers:
    """What is to happen to tasks later; true while something is."""

    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()

    def __bool__(self) -> bool:
        return bool(self._handles)

    def after(
        self, seconds: float, do: Callable[[Task[Any]], None], task: Task[Any]
    ) -> asyncio.TimerHandle:
        """Call ``do(task)`` in so many seconds, unless it is forgotten."""

        def fire() -> None:
            self._handles.discard(handle)
            do(task)

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


class Transitions(ABC):
    """Moves the tasks of one graph through their states; a subclass runs what is ready.

    Attributes:
        unfinished: How many tasks have not ended.
        handled: Failed tasks whose failure something waited for; shared with the graph.
        journal: Where ends are recorded, if anywhere.
        starved: Tasks that wait for nothing but their budget.
    """

    def __init__(self, events: EventStream, queue: ReadyQueue, handled: set[Task[Any]]) -> None:
        self.events = events
        self.queue = queue
        self.handled = handled
        self.unfinished = 0
        self.journal: Journal | None = None
        self.timers = Timers()
        self.starved: dict[Task[Any], None] = {}
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

    def reconsider(self, task: Task[Any], *, fresh: bool = False) -> None:
        """Take in a new task, or one that has not started and whose edges were edited."""
        self.unfinished += fresh
        task._left = 0
        ends: list[tuple[Task[Any], TaskState]] = []
        for edge in task._inbound:
            if edge.resolved:
                continue
            task._left += 1
            if edge.source.state in FINAL:
                self._resolve(edge, ends, settle=False)
        for end, state in ends:
            self.finish(end, state)
        if task.state in FINAL:
            return
        if not task._left and task.state == "waiting":
            self.make_ready(task)
            self.pump()
        elif task._left and task.state == "ready":
            self.timers.forget(task._queue_timer)
            task.state = "waiting"
        elif task.state == "ready":  # its place in the queue may be another now
            self.queue.push(task)

    def forget(self, task: Task[Any]) -> None:
        """A task that has not started was removed from the graph."""
        self.timers.forget(task._queue_timer)
        task.state = "cancelled"
        self.unfinished -= 1
        if not self.unfinished and self._drained is not None:
            self._drained.set()

    def make_ready(self, task: Task[Any]) -> None:
        """Let a task queue whose predecessors have all ended as it wants."""
        task.state = "ready"
        if not task._attempts:  # else it queues for a retry
            task._ready_at = time.monotonic()
        if self.running:
            self.watch_queueing(task)
        if self.events.heard:
            self.events.emit(TaskReady(task=task.id))
        self.queue.push(task)

    def finish(self, task: Task[Any], state: TaskState) -> None:
        """Put a task into a final state, and all that follows from it."""
        ends: list[tuple[Task[Any], TaskState]] = [(task, state)]
        while ends:
            task, state = ends.pop()
            if task.state in FINAL:
                continue
            self._end(task, state)
            for edge in task._outbound:
                self._resolve(edge, ends)
            parent = task.parent
            if parent is not None:
                parent._open -= 1
                if not parent._open and parent._outcome is not None:
                    ends.append((parent, parent._outcome))
        if not self.unfinished:
            if self._drained is not None:
                self._drained.set()
        else:
            self.pump()
            self.look_for_stall()

    def _end(self, task: Task[Any], state: TaskState) -> None:
        task.state = state
        task._ended_at = time.monotonic()
        if state == "succeeded":
            for child in task.children:
                if child.state == "succeeded":
                    task.follow(child)
        self.unfinished -= 1
        if self.events.heard:
            self.events.emit(TaskEnded(task=task.id, state=state, work=task.work))
        if self.journal is not None:
            self.journal.ended(task)
        if task._watchers is not None:
            for watcher in task._watchers:
                watcher(task)

    def _resolve(
        self, edge: Edge, ends: list[tuple[Task[Any], TaskState]], *, settle: bool = True
    ) -> None:
        source, target = edge.source, edge.target
        if edge.resolved or target.state in FINAL:
            return
        edge.resolved = True
        if edge.when is SUCCESS:
            holds = source.state == "succeeded"
        else:
            try:
                holds = edge.when.holds(source.state, source._value, source.error_text)
            except InvalidValue as error:
                target._error = error
                ends.append((target, "failed"))
                return
            if source.state == "failed":
                self.handled.add(source)
        if not holds:
            ends.append((target, "skipped"))
            return
        target.follow(source)
        target._left -= 1
        if settle and not target._left and target.state == "waiting":
            self.make_ready(target)

    def cancel(self, task: Task[Any]) -> None:
        """Cancel a task and its descendants; see `Task.cancel`."""
        if task.state in FINAL:
            return
        below = [task]
        for found in below:  # grows while it is read
            found._cancel_asked = True
            if found._open and self.journal is not None:
                self.journal.attempted(found, len(found._attempts) + (found._outcome is None))
            below += [child for child in found.children if child.state not in FINAL]
        for found in reversed(below):
            if found._outcome is not None:
                found._outcome = "cancelled"
            elif found.state == "running" and found._scope is not None:
                found._scope.cancel()
            else:
                self.finish(found, "cancelled")

    def watch_queueing(self, task: Task[Any]) -> None:
        """Start the queue timeout of a ready task, if it has one."""
        timeout = task._settings.timeout
        if timeout is not None and timeout.queue is not None:
            self.timers.forget(task._queue_timer)
            task._queue_timer = self.timers.after(timeout.queue, self._queued_too_long, task)

    def _queued_too_long(self, task: Task[Any]) -> None:
        if task.state == "ready" or task in self.starved:
            task._error = limits.queue_over(task)
            self.finish(task, "failed")

    def feed(self) -> None:
        """Let what waits for a budget try again."""
        starved, self.starved = self.starved, {}
        for task in starved:
            if task.state == "waiting" and not task._left:
                task.state = "ready"
                self.queue.push(task)
        self.pump()

    def give_up_starved(self) -> None:
        """What is reserved is held by tasks that wait for those that need it."""
        starved, self.starved = self.starved, {}
        for task in starved:
            if task.state == "waiting":
                task._error = limits.budget_held(task)
                self.finish(task, "cancelled")
