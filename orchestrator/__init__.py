"""What runs when, at what cost, and what survives: a task graph that grows while it runs.

The names below are imported when they are first used, so that an error's import is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.budgets import Budget as Budget
    from orchestrator.budgets import Reservation as Reservation
    from orchestrator.budgets import current_budget as current_budget
    from orchestrator.editing.patches import Patch as Patch
    from orchestrator.errors import AlreadyCompleted as AlreadyCompleted
    from orchestrator.errors import ReasonError as ReasonError
    from orchestrator.errors import TaskAborted as TaskAborted
    from orchestrator.errors import TaskCancelled as TaskCancelled
    from orchestrator.events import AttemptFailed as AttemptFailed
    from orchestrator.events import Event as Event
    from orchestrator.events import EventQueue as EventQueue
    from orchestrator.events import EventStream as EventStream
    from orchestrator.events import GraphPatched as GraphPatched
    from orchestrator.events import Listener as Listener
    from orchestrator.events import ListenerFailed as ListenerFailed
    from orchestrator.events import RunEnded as RunEnded
    from orchestrator.events import TaskAdded as TaskAdded
    from orchestrator.events import TaskEnded as TaskEnded
    from orchestrator.events import TaskProgressed as TaskProgressed
    from orchestrator.events import TaskReady as TaskReady
    from orchestrator.events import TaskStarted as TaskStarted
    from orchestrator.events import ValueAwaited as ValueAwaited
    from orchestrator.executors.processes import Executor as Executor
    from orchestrator.executors.processes import Processes as Processes
    from orchestrator.graph import TaskGraph as TaskGraph
    from orchestrator.journal.cache import ResultCache as ResultCache
    from orchestrator.journal.history import executed as executed
    from orchestrator.journal.history import fork as fork
    from orchestrator.journal.outside import AwaitedValue as AwaitedValue
    from orchestrator.journal.outside import awaited as awaited
    from orchestrator.journal.outside import complete as complete
    from orchestrator.scheduler.conditions import Condition as Condition
    from orchestrator.scheduler.resources import Breaker as Breaker
    from orchestrator.scheduler.resources import Rate as Rate
    from orchestrator.scheduler.retries import Hedge as Hedge
    from orchestrator.scheduler.retries import Retry as Retry
    from orchestrator.scheduler.retries import Timeout as Timeout
    from orchestrator.scheduler.retries import status_of as status_of
    from orchestrator.scheduler.retries import transient as transient
    from orchestrator.task import Task as Task
    from orchestrator.task import current_task as current_task
    from orchestrator.views.executed import ExecutedGraph as ExecutedGraph
    from orchestrator.views.executed import ExecutedTask as ExecutedTask
    from orchestrator.views.record import RunRecord as RunRecord
    from orchestrator.views.record import TaskState as TaskState
    from orchestrator.waiting.joins import Joined as Joined
    from orchestrator.waiting.joins import as_completed as as_completed
    from orchestrator.waiting.joins import gather as gather
    from orchestrator.waiting.joins import join as join

_MODULES = {
    "budgets": "Budget Reservation current_budget",
    "editing.patches": "Patch",
    "errors": "AlreadyCompleted ReasonError TaskAborted TaskCancelled",
    "events": "AttemptFailed Event EventQueue EventStream GraphPatched Listener ListenerFailed "
    "RunEnded TaskAdded TaskEnded TaskProgressed TaskReady TaskStarted ValueAwaited",
    "executors.processes": "Executor Processes",
    "graph": "TaskGraph",
    "journal.cache": "ResultCache",
    "journal.history": "executed fork",
    "journal.outside": "AwaitedValue awaited complete",
    "scheduler.conditions": "Condition",
    "waiting.joins": "Joined as_completed gather join",
    "scheduler.resources": "Breaker Rate",
    "scheduler.retries": "Hedge Retry Timeout status_of transient",
    "task": "Task current_task",
    "views.executed": "ExecutedGraph ExecutedTask",
    "views.record": "RunRecord TaskState",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    return getattr(import_module(f"orchestrator.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
