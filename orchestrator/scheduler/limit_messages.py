"""What is said of tasks that ran into a limit."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import BudgetExhausted, ReasonError, TaskStalled, TimeLimitReached
from orchestrator.task import Task


def queue_over(task: Task[Any]) -> ReasonError:
    """It waited too long for a slot."""
    timeout = task._settings.timeout
    seconds = 0.0 if timeout is None else timeout.queue or 0.0
    return TimeLimitReached(
        f"{_named(task)} reached its queue timeout of {seconds:g} s; raise it, or the graph's limit"
    )


def attempt_over(task: Task[Any], now: float) -> ReasonError:
    """Its attempt was stopped, by a timeout or because it could never end."""
    timeout = task._settings.timeout
    if task._stalled or timeout is None:
        return TaskStalled(
            f"{_named(task)} waited for a task that waits for it; "
            "wait for its result in one of them only"
        )
    if timeout.run is not None and now - task._started >= timeout.run:
        kind, seconds = "run", timeout.run
    else:
        kind, seconds = "idle", timeout.idle or 0.0
    return TimeLimitReached(
        f"{_named(task)} reached its {kind} timeout of {seconds:g} s; "
        "raise it, or make the task faster"
    )


def stalled_by_edges(task: Task[Any]) -> ReasonError:
    """It could never start."""
    return TaskStalled(f"{_named(task)} waits for what waits for it; remove one of its edges")


def budget_over(task: Task[Any]) -> ReasonError:
    """The seconds of its budget are over."""
    return BudgetExhausted(
        f"{_named(task)} reached the end of its budget's seconds; give more, or wrap up earlier"
    )


def budget_held(task: Task[Any]) -> ReasonError:
    """What it needs is reserved by tasks that wait for it."""
    return BudgetExhausted(
        f"{_named(task)} needs of its budget what tasks that wait for it hold; "
        "raise the budget, or reserve less"
    )


def _named(task: Task[Any]) -> str:
    return f"task {task.id} ({task.name})"
