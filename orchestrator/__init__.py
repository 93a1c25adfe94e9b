"""What runs when, at what cost, and what survives: a task graph that grows while it runs.

The names below are imported when they are first used, so that an error's import is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.attempts import Retry, Timeout
    from orchestrator.budget import Budget, Reservation, current_budget
    from orchestrator.conditions import Condition
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
    from orchestrator.executors import Executor, Processes
    from orchestrator.graph import TaskGraph
    from orchestrator.joins import Joined, join
    from orchestrator.patches import Patch
    from orchestrator.record import RunRecord, TaskState
    from orchestrator.structure import TaskOptions
    from orchestrator.task import Task, current_task

_HOMES = {
    "AttemptFailed": "orchestrator.events",
    "Budget": "orchestrator.budget",
    "Condition": "orchestrator.conditions",
    "Event": "orchestrator.events",
    "EventQueue": "orchestrator.events",
    "EventStream": "orchestrator.events",
    "Executor": "orchestrator.executors",
    "GraphPatched": "orchestrator.events",
    "Joined": "orchestrator.joins",
    "Listener": "orchestrator.events",
    "Patch": "orchestrator.patches",
    "Processes": "orchestrator.executors",
    "ReasonError": "orchestrator.errors",
    "Reservation": "orchestrator.budget",
    "Retry": "orchestrator.attempts",
    "RunEnded": "orchestrator.events",
    "RunRecord": "orchestrator.record",
    "Task": "orchestrator.task",
    "TaskAdded": "orchestrator.events",
    "TaskCancelled": "orchestrator.errors",
    "TaskEnded": "orchestrator.events",
    "TaskGraph": "orchestrator.graph",
    "TaskOptions": "orchestrator.structure",
    "TaskReady": "orchestrator.events",
    "TaskStarted": "orchestrator.events",
    "TaskState": "orchestrator.record",
    "Timeout": "orchestrator.attempts",
    "current_budget": "orchestrator.budget",
    "current_task": "orchestrator.task",
    "join": "orchestrator.joins",
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
