"""A run as data, for diagrams, reports and other processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TaskState = Literal["waiting", "ready", "running", "succeeded", "failed", "skipped", "cancelled"]
"""A task ends in one of the last four."""

FINAL: frozenset[TaskState] = frozenset({"succeeded", "failed", "skipped", "cancelled"})

EdgeKind = Literal["data", "control", "spawn"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeRecord:
    """An edge: ``target`` takes the result of ``source`` (data), waits for it (control), or was
    added by it while it ran (spawn).

    Attributes:
        when: The condition of a data or control edge: ``"success"``, ``"completion"``,
            ``"always"`` or an expression.
    """

    source: str
    target: str
    kind: EdgeKind
    when: str = "success"


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptRecord:
    """One call of a task's function; times are seconds since the run began."""

    number: int
    started: float
    ended: float | None
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRecord:
    """One task; times are seconds since the run began, None for what did not happen.

    Attributes:
        ready: When its last predecessor ended and it began to queue.
        work: The cost charged to it, without its children's.
        leaked: Whether it was cancelled but something of it could not be stopped.
    """

    id: str
    name: str
    state: TaskState
    parent: str | None
    added: float
    ready: float | None
    ended: float | None
    attempts: tuple[AttemptRecord, ...]
    work: int
    error: str | None
    leaked: bool = False

    @property
    def started(self) -> float | None:
        """When its first attempt began."""
        return self.attempts[0].started if self.attempts else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """A whole run, its tasks in the order in which they were added.

    Attributes:
        work: The cost of all tasks, cancelled ones included.
        span: The cost along the longest dependent chain of what succeeded.
        busy_s: Seconds that attempts ran, added up.
        span_s: Seconds along the longest dependent chain.
        wasted: The cost of cancelled and failed tasks.
    """

    name: str
    version: int
    tasks: tuple[TaskRecord, ...]
    edges: tuple[EdgeRecord, ...]
    wall_s: float
    busy_s: float
    span_s: float
    work: int
    span: int
    wasted: int

    @property
    def leaked(self) -> int:
        """How many cancelled tasks left something behind that could not be stopped."""
        return sum(task.leaked for task in self.tasks)

    @property
    def parallelism(self) -> float:
        """How many attempts ran at once, on average over the span: busy time by span."""
        return self.busy_s / self.span_s if self.span_s else 1.0
