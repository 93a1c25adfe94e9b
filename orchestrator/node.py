"""What the scheduler moves: nodes, and the edges between them.  Users hold a `Task` instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.budgets import Budget, Reservation, current_budget
from orchestrator.errors import text_of
from orchestrator.scheduler.conditions import SUCCESS, Condition
from orchestrator.settings import TaskSettings
from orchestrator.views.record import FINAL, TaskState

if TYPE_CHECKING:
    import anyio

    from orchestrator.graph import TaskGraph
    from orchestrator.scheduler.scheduler import Scheduler
    from orchestrator.task import Task

current_node: ContextVar[Node | None] = ContextVar("orchestrator_node", default=None)
"""The node whose function is running this code."""


class Edge:
    """``target`` waits for ``source``: for its value (data) or only for its end (control)."""

    __slots__ = ("kind", "resolved", "source", "target", "when")

    def __init__(
        self,
        source: Node,
        target: Node,
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
        self.source.outbound.append(self)
        self.target.inbound.append(self)

    def unlink(self) -> None:
        """Take the edge from both its ends."""
        self.source.outbound.remove(self)
        self.target.inbound.remove(self)


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """One task as the scheduler sees it; its fields belong to this package alone.

    A node and its `Task` are two objects: the second costs about 1 % of the time and 3 % of the
    memory of 100,000 tasks, and users can't touch what the scheduler relies on.  Times are of the
    monotonic clock, in seconds.
    """

    graph: TaskGraph
    scheduler: Scheduler
    id: str
    parent: Node | None
    rank: int
    """Its place in a topological order of the graph."""
    task: Task[Any] = field(init=False)

    # What it does; see `Call`.
    name: str = field(init=False)
    function: Callable[..., Any] = field(init=False)
    args: tuple[Any, ...] = field(init=False)
    kwargs: Mapping[str, Any] = field(init=False)
    settings: TaskSettings = field(init=False)
    fed: bool = field(init=False)
    """Whether a task is among its arguments."""
    edited_in: int = field(init=False, default=0)
    """The version of the graph at the last edit that touched it."""

    # How it stands to others.
    inbound: list[Edge] = field(init=False)
    outbound: list[Edge] = field(init=False)
    unresolved: int = field(init=False, default=0)
    """How many of its inbound edges are not resolved."""
    children: list[Node] | tuple[()] = field(init=False, default=())
    """Made a list for the few that have some."""
    unended: int = field(init=False, default=0)
    """How many of its children have not ended."""
    spawned: int = field(init=False, default=0)
    """How many children it ever added; the next one's id follows from it."""

    # How it stands, and how it ended.
    state: TaskState = field(init=False, default="waiting")
    outcome: TaskState | None = field(init=False, default=None)
    """Its final state, decided while children have not ended."""
    value: Any = field(init=False, default=None)
    error: Exception | None = field(init=False, default=None)
    because: Task[Any] | None = field(init=False, default=None)
    """The task for whose sake it was skipped or cancelled."""
    cached: bool = field(init=False, default=False)
    """Whether its value is one that a cache had."""
    freed: bool = field(init=False, default=False)
    """Whether its value was let go, as nobody needed it any more."""
    acknowledged: bool = field(init=False, default=False)
    """Whether somebody has seen its failure."""
    partial: Any = field(init=False, default=None)
    leaked: bool = field(init=False, default=False)
    watchers: list[Callable[[Task[Any]], None]] | None = field(init=False, default=None)

    # How it runs.
    scope: anyio.CancelScope | None = field(init=False, default=None)
    started_at: float = field(init=False, default=0.0)
    cancel_asked: bool = field(init=False, default=False)
    stalled: bool = field(init=False, default=False)
    """Whether it was found to wait for what waits for it."""
    holds_slot: bool = field(init=False, default=False)
    waits: int = field(init=False, default=0)
    """How many of its calls wait for other tasks."""
    idle: bool = field(init=False, default=False)
    """Whether it waits for other tasks only."""
    resumed: anyio.Event | None = field(init=False, default=None)
    queue_timer: Any = field(init=False, default=None)
    reservation: Reservation | None = field(init=False, default=None)
    budget: Budget | None = field(init=False)
    context: Context = field(init=False)
    """The context variables of the place that added it."""

    # What it cost, and when.
    work: int = field(init=False, default=0)
    clock: int = field(init=False, default=0)
    """The cost along the longest dependent chain that ends here."""
    clock_s: float = field(init=False, default=0.0)
    """The seconds along that chain."""
    clock_at: float = field(init=False, default=0.0)
    """When it last began to compute."""
    busy_s: float = field(init=False, default=0.0)
    attempts: tuple[tuple[float, float, str | None], ...] = field(init=False, default=())
    """Start, end and error of each attempt that is over."""
    added_at: float = field(init=False)
    ready_at: float | None = field(init=False, default=None)
    ended_at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.inbound, self.outbound = [], []
        self.added_at = time.monotonic()
        self.budget = current_budget()
        self.context = copy_context()
        parent = self.parent
        if parent is not None:
            self.budget = self.budget or parent.budget
            self.clock, self.clock_s = parent.clock, parent.clock_s

    @property
    def ended(self) -> bool:
        """Whether it is in one of the four final states."""
        return self.state in FINAL

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"task {self.id} ({self.name})"

    @property
    def error_line(self) -> str | None:
        """Its error with the name of its class, as records have it."""
        return None if self.error is None else f"{type(self.error).__name__}: {text_of(self.error)}"

    def adopt(self, child: Node) -> None:
        """Take a new node as a child."""
        if isinstance(self.children, list):
            self.children.append(child)
        else:
            self.children = [child]
        self.unended += 1

    def disown(self, child: Node) -> None:
        """Forget a child that was never dispatched."""
        self.children = [found for found in self.children if found is not child]
        self.unended -= 1

    def follow(self, other: Node | Task[Any]) -> None:
        """Count what ``other`` cost as a part of the chain that ends here."""
        if other.clock > self.clock:
            self.clock = other.clock
        if other.clock_s > self.clock_s:
            self.clock_s = other.clock_s

    def count_time(self) -> float:
        """Count the time since it last began to compute as part of its chain; return now."""
        now = time.monotonic()
        self.clock_s += now - self.clock_at
        self.busy_s += now - self.clock_at
        self.clock_at = now
        return now
