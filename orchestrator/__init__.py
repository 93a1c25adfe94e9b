"""What runs when, at what cost: a typed task graph that grows while it runs."""

from orchestrator.errors import ReasonError, TaskCancelled
from orchestrator.events import (
    Event,
    EventStream,
    Listener,
    TaskAdded,
    TaskEnded,
    TaskStarted,
    TaskState,
)
from orchestrator.graph import Task, TaskGraph, current_task

__all__ = [
    "Event",
    "EventStream",
    "Listener",
    "ReasonError",
    "Task",
    "TaskAdded",
    "TaskCancelled",
    "TaskEnded",
    "TaskGraph",
    "TaskStarted",
    "TaskState",
    "current_task",
]
