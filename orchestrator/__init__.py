"""What runs when, at what cost, and what survives: a task graph that grows while it runs.

The names below are imported when they are first used, so that an error's import is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.budgets import Budget, Reservation, current_budget
    from orchestrator.editing.patches import Patch
    from orchestrator.errors import ReasonError, TaskCancelled
    from orchestrator.events import (
        AttemptFailed,
        Event,
        EventQueue,
        EventStream,
        GraphPatched,
        Listener,
        RunEnded,
        TaskAdded,
        TaskEnded,
        TaskReady,
        TaskStarted,
    )
    from orchestrator.executors.processes import Executor, Processes
    from orchestrator.graph import TaskGraph
    from orchestrator.scheduler.conditions import Condition
    from orchestrator.scheduler.joins import Joined, join
    from orchestrator.scheduler.retries import Retry, Timeout
    from orchestrator.structure import TaskOptions
    from orchestrator.task import Task, current_task
    from orchestrator.views.record import RunRecord, TaskState

_HOMES = {
    "AttemptFailed": "orchestrator.events",
    "Budget": "orchestrator.budgets",
    "Condition": "orchestrator.scheduler.conditions",
    "Event": "orchestrator.events",
    "EventQueue": "orchestrator.events",
    "EventStream": "orchestrator.events",
    "Executor": "orchestrator.executors.processes",
    "GraphPatched": "orchestrator.events",
    "Joined": "orchestrator.scheduler.joins",
    "Listener": "orchestrator.events",
    "Patch": "orchestrator.editing.patches",
    "Processes": "orchestrator.executors.processes",
    "ReasonError": "orchestrator.errors",
    "Reservation": "orchestrator.budgets",
    "Retry": "orchestrator.scheduler.retries",
    "RunEnded": "orchestrator.events",
    "RunRecord": "orchestrator.views.record",
    "Task": "orchestrator.task",
    "TaskAdded": "orchestrator.events",
    "TaskCancelled": "orchestrator.errors",
    "TaskEnded": "orchestrator.events",
    "TaskGraph": "orchestrator.graph",
    "TaskOptions": "orchestrator.structure",
    "TaskReady": "orchestrator.events",
    "TaskStarted": "orchestrator.events",
    "TaskState": "orchestrator.views.record",
    "Timeout": "orchestrator.scheduler.retries",
    "current_budget": "orchestrator.budgets",
    "current_task": "orchestrator.task",
    "join": "orchestrator.scheduler.joins",
}

__all__ = [
    "AttemptFailed",
    "Budget",
    "Condition",
    "Event",
    "EventQueue",
    "EventStream",
    "Executor",
    "GraphPatched",
    "Joined",
    "Listener",
    "Patch",
    "Processes",
    "ReasonError",
    "Reservation",
    "Retry",
    "RunEnded",
    "RunRecord",
    "Task",
    "TaskAdded",
    "TaskCancelled",
    "TaskEnded",
    "TaskGraph",
    "TaskOptions",
    "TaskReady",
    "TaskStarted",
    "TaskState",
    "Timeout",
    "current_budget",
    "current_task",
    "join",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
