"""What is said of tasks that ran into a limit."""

from __future__ import annotations

from orchestrator.errors import BudgetExhausted, ReasonError, TaskStalled, TimeLimitReached
from orchestrator.node import Node


def queue_over(node: Node) -> ReasonError:
    """It waited too long for a slot."""
    timeout = node.settings.timeout
    seconds = 0.0 if timeout is None else timeout.queue or 0.0
    return TimeLimitReached(
        f"{node.label} reached its queue timeout of {seconds:g} s; raise it, or the graph's limit"
    )


def attempt_over(node: Node, now: float) -> ReasonError:
    """Its attempt was stopped, by a timeout or because it could never end."""
    timeout = node.settings.timeout
    if node.stalled or timeout is None:
        return TaskStalled(
            f"{node.label} waited for a task that waits for it; "
            "wait for its result in one of them only"
        )
    if timeout.run is not None and now - node.started_at >= timeout.run:
        kind, seconds = "run", timeout.run
    else:
        kind, seconds = "idle", timeout.idle or 0.0
    return TimeLimitReached(
        f"{node.label} reached its {kind} timeout of {seconds:g} s; "
        "raise it, or make the task faster"
    )


def stalled_by_edges(node: Node) -> ReasonError:
    """It could never start."""
    return TaskStalled(f"{node.label} waits for what waits for it; remove one of its edges")


def budget_over(node: Node) -> ReasonError:
    """The seconds of its budget are over."""
    return BudgetExhausted(
        f"{node.label} reached the end of its budget's seconds; give more, or wrap up earlier"
    )


def budget_held(node: Node) -> ReasonError:
    """What it needs is reserved by tasks that wait for it."""
    return BudgetExhausted(
        f"{node.label} needs of its budget what tasks that wait for it hold; "
        "raise the budget, or reserve less"
    )
