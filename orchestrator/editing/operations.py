"""What a patch may consist of: its operations and preconditions, as typed JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.scheduler.conditions import SUCCESS, Condition
from orchestrator.scheduler.retries import Retry, Timeout
from orchestrator.views.record import TaskState

TaskId = Annotated[str, Field(min_length=1, max_length=200)]
NewId = Annotated[str, Field(pattern=r"^[A-Za-z_][\w\-]{0,99}$")]


class Model(BaseModel):
    """Frozen, and with no fields but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class _Spec(Model):
    name: str | None = None
    retry: Retry | None = None
    timeout: Timeout | None = None
    priority: int | None = None
    resources: dict[str, int] | None = None


class Add(_Spec):
    """Add a task that calls one of the graph's registered functions.

    Among ``args`` and ``kwargs``, and in lists among them, ``{"$task": ID}`` is the result of a
    task.
    """

    op: Literal["add"] = "add"
    id: NewId
    function: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    after: dict[TaskId, Condition] = {}


class Remove(Model):
    """Remove a task that has not started and that nothing waits for any more."""

    op: Literal["remove"] = "remove"
    id: TaskId


class Connect(Model):
    """Let ``target`` wait for ``source`` under a condition."""

    op: Literal["connect"] = "connect"
    source: TaskId
    target: TaskId
    when: Condition = SUCCESS


class Disconnect(Model):
    """Let ``target`` no longer wait for ``source``, whose result it does not take."""

    op: Literal["disconnect"] = "disconnect"
    source: TaskId
    target: TaskId


class Change(_Spec):
    """Change what a task that has not started will do; fields left out stay as they are."""

    op: Literal["change"] = "change"
    id: TaskId
    function: str | None = None
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None


Operation = Annotated[Add | Remove | Connect | Disconnect | Change, Field(discriminator="op")]


class Expect(Model):
    """A precondition: the task is in one of these states."""

    id: TaskId
    states: tuple[TaskState, ...]


def is_result(value: Any) -> bool:
    """Whether the value of an argument stands for a task's result."""
    return isinstance(value, dict) and value.keys() == {"$task"}


def mentions_result(value: Any) -> bool:
    """Whether a result is named where none can arrive; not recursive, as values may be deep."""
    stack = [value]
    for found in stack:  # grows while it is read
        if is_result(found):
            return True
        if isinstance(found, (list, tuple)):
            stack += found
        elif isinstance(found, dict):
            stack += found.values()
    return False
