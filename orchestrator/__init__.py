"""What runs when, at what cost, and what survives: a task graph that grows while it runs."""

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
