"""A task: the handle that users hold, and the node that the scheduler moves through its states."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import anyio

from orchestrator.budgets import Budget, Reservation, current_budget
from orchestrator.errors import TaskCancelled
from orchestrator.scheduler.conditions import SUCCESS, Condition
from orchestrator.settings import Settings
from orchestrator.views.record import FINAL, TaskState

if TYPE_CHECKING:
    from orchestrator.graph import TaskGraph

T = TypeVar("T")

_current: ContextVar[Task[Any] | None] = ContextVar("orchestrator_task", default=None)


class Edge:
    """``target`` waits for ``source``: for its value (data) or only for its end (control)."""

    __slots__ = ("kind", "resolved", "source", "target", "when")

    def __init__(
        self,
        source: Task[Any],
        target: Task[Any],
        kind: Literal["data", "control"],
        when: Condition = SUCCESS,
    ) -> None:
        self.source = source
        self.target = target
        self.kind = kind
        self.when = when
        self.resolved = False

    def link(self) -> None:
        """Make the edge known to both its ends."""
        self.source._outbound.append(self)
        self.target._inbound.append(self)

    def unlink(self) -> None:
        """Take the edge from both its ends."""
        self.source._outbound.remove(self)
        self.target._inbound.remove(self)


class Task(Generic[T]):
    """One node of a `TaskGraph`: a function to be called once, and its result.

    Attributes:
        id: Its place among its siblings, below its parent: ``"1.3"``.
        parent: The task that added it while running; it ends after its children.
        children: The tasks that it added.
        work: The cost charged to this task itself.
        clock: The cost along the longest dependent chain that ends at this task.
        partial: What it published by `progress`, kept when it is cancelled.
        leaked: Whether it was cancelled but something of it could not be stopped.
    """

    __slots__ = (
        "__weakref__",
        "_added_at",
        "_args",
        "_attempts",
        "_budget",
        "_busy_s",
        "_cancel_asked",
        "_changed",
        "_clock_at",
        "_clock_s",
        "_ended_at",
        "_error",
        "_fed",
        "_function",
        "_graph",
        "_holds_slot",
        "_idle",
        "_inbound",
        "_kwargs",
        "_left",
        "_open",
        "_outbound",
        "_outcome",
        "_queue_timer",
        "_rank",
        "_ready_at",
        "_reservation",
        "_resumed",
        "_scope",
        "_settings",
        "_spawned",
        "_stalled",
        "_started",
        "_value",
        "_waits",
        "_watchers",
        "children",
        "clock",
        "id",
        "leaked",
        "name",
        "parent",
        "partial",
        "state",
        "work",
    )

    def __init__(
        self,
        graph: TaskGraph,
        id: str,
        name: str,
        parent: Task[Any] | None,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        settings: Settings,
    ) -> None:
        self.id = id
        self.name = name
        self.parent = parent
        self.state: TaskState = "waiting"
        self.children: Sequence[Task[Any]] = ()  # made a list for the few that have some
        self.work = 0
        self.clock = 0
        self.partial: Any = None
        self.leaked = False
        self._attempts: tuple[tuple[float, float, str | None], ...] = ()  # start, end, error
        self._added_at = 0.0  # this and other times are of the monotonic clock
        self._ready_at: float | None = None
        self._ended_at: float | None = None
        self._graph = graph
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._settings = settings
        self._fed = False  # whether a task is among its arguments
        self._inbound: list[Edge] = []
        self._outbound: list[Edge] = []
        self._left = 0  # edges not resolved
        self._open = 0  # children not ended
        self._spawned = 0  # children ever added, for their ids
        self._rank = 0
        self._changed = 0  # version of the graph at the last edit that touched it
        self._value: T | None = None
        self._error: Exception | None = None
        self._outcome: TaskState | None = None  # decided, while children are still open
        self._scope: anyio.CancelScope | None = None
        self._watchers: list[Callable[[Task[T]], None]] | None = None
        self._resumed: anyio.Event | None = None
        self._holds_slot = False
        self._cancel_asked = False
        self._stalled = False
        self._started = 0.0
        self._waits = 0  # calls of result() that have not returned
        self._idle = False  # waits only for other tasks
        self._budget: Budget | None = None
        self._queue_timer: Any = None
        self._reservation: Reservation | None = None
        self._clock_s = 0.0
        self._busy_s = 0.0
        self._clock_at = 0.0  # when it last began to compute

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name!r} {self.state}>"

    @property
    def graph(self) -> TaskGraph:
        """The graph that it belongs to; a running task adds its children there."""
        return self._graph

    @property
    def ended(self) -> bool:
        """Whether it has reached one of the four final states."""
        return self.state in FINAL

    @property
    def attempt(self) -> int:
        """The number of its attempt, from 1: of the one that runs, or of the next."""
        return len(self._attempts) + 1

    @property
    def after(self) -> tuple[Task[Any], ...]:
        """The tasks that it waits for, or waited for."""
        return tuple(edge.source for edge in self._inbound)

    @property
    def error(self) -> Exception | None:
        """What the task raised in its last attempt, if it failed."""
        return self._error

    @property
    def error_text(self) -> str | None:
        """The error's message, as conditions see it."""
        return None if self._error is None else str(self._error)

    @property
    def value(self) -> T:
        """The result of a task that has succeeded.

        Raises:
            TaskCancelled: it has not succeeded; the message says what it is.
            Exception: whatever the task itself raised.
        """
        if self._error is not None and self.ended:
            self._graph.observed.add(self)
            raise self._error
        if self.state != "succeeded":
            raise TaskCancelled(f"task {self.id} ({self.name}) was {self.state}; run it again")
        return cast("T", self._value)

    async def result(self) -> T:
        """Wait for the task to end and return its value; a waiting task releases its slot.

        Raises:
            TaskCancelled: the task was cancelled or skipped.
            TaskStalled: it can never end, because it waits for whoever waits for it.
            Exception: whatever the task itself raised.
        """
        await self.wait()
        waiting = _current.get()
        if waiting is not None:
            waiting.follow(self)
        return self.value

    async def wait(self) -> None:
        """Wait for the task to end, however it ends; a waiting task releases its slot."""
        if self.state not in FINAL:
            gate = Gate(self._graph)
            self.on_end(gate.open)
            await gate.passed()

    def on_end(self, listener: Callable[[Task[T]], None]) -> None:
        """Call ``listener(task)`` when the task has ended; at once if it has."""
        if self.state in FINAL:
            listener(self)
        elif self._watchers is None:
            self._watchers = [listener]
        else:
            self._watchers.append(listener)

    def follow(self, other: Task[Any]) -> None:
        """Count what ``other`` cost as a part of the chain that ends at this task."""
        if other.clock > self.clock:
            self.clock = other.clock
        if other._clock_s > self._clock_s:
            self._clock_s = other._clock_s

    def adopt(self, child: Task[Any]) -> None:
        """Take a new task as a child."""
        if isinstance(self.children, list):
            self.children.append(child)
        else:
            self.children = [child]
        self._open += 1

    def clock_s_add(self) -> float:
        """Count the time since the task last began to compute as part of its chain; it is now."""
        now = time.monotonic()
        self._clock_s += now - self._clock_at
        self._busy_s += now - self._clock_at
        self._clock_at = now
        return now

    def cancel(self) -> None:
        """Cancel the task and all its descendants; a task that has ended is left as it is."""
        self._graph.scheduler.cancel(self)

    def charge(self, cost: int, *, shared: int = 0) -> None:
        """Account for ``cost`` spent by this task.

        ``shared`` was spent by another task on behalf of this one: it lengthens the dependent
        chain but is counted as work only once.
        """
        self.work += cost
        self.clock += cost + shared

    def spend(self, *, tokens: int = 0, cost: float = 0.0) -> None:
        """Take from what is reserved for this task in its budget, or from what is left there.

        Raises:
            BudgetExhausted: the hard limit is reached; left uncaught, it cancels the task.
        """
        if self._reservation is not None:
            self._reservation.spend(tokens=tokens, cost=cost)

    @property
    def wrap_up(self) -> bool:
        """Whether its budget asks it to come to an end with what it has."""
        return self._budget is not None and self._budget.wrap_up

    def inner_budget(self) -> Budget | None:
        """The budget of the children that it adds now."""
        return current_budget() or self._budget

    def progress(self, partial: Any = None) -> None:
        """Say that the task is alive (its idle timeout starts anew) and what it has so far."""
        if partial is not None:
            self.partial = partial
        self._graph.scheduler.progressed(self)


def current_task() -> Task[Any] | None:
    """The task that is running this code, if any."""
    return _current.get()


class Gate:
    """Where a task waits for others of its graph; meanwhile its slot is theirs."""

    __slots__ = ("_event", "_graph", "_task")

    def __init__(self, graph: TaskGraph) -> None:
        task = _current.get()
        self._task = task if task is not None and task._graph is graph else None
        self._event = anyio.Event()
        self._graph = graph

    def open(self, _: object = None) -> None:
        """Let whoever waits pass."""
        if not self._event.is_set():
            self._event.set()
            if self._task is not None:
                self._graph.scheduler.woken(self._task)

    async def passed(self, *, timed: bool = False) -> None:
        """Wait until the gate is open; ``timed`` if the wait ends by itself at some time."""
        if self._event.is_set():
            return
        if self._task is None:
            await self._event.wait()
        else:
            await self._graph.scheduler.wait(self._task, self._event, timed)

    async def settled(self) -> None:
        """Wait for a slot, if the wait was cut short while none was free."""
        if self._task is not None:
            await self._graph.scheduler.settle(self._task)
