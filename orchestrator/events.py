"""What happens in a run, as frozen values on one stream; whoever reports, subscribes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

TaskState = Literal["waiting", "running", "succeeded", "failed", "skipped", "cancelled"]
"""A task ends in one of the last four."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to the task with this id."""

    task: str


@dataclass(frozen=True, kw_only=True)
class TaskAdded(Event):
    """The task joined the graph; ``after`` are the tasks whose results it takes."""

    name: str
    parent: str | None
    after: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TaskStarted(Event):
    """The task's function was called."""


@dataclass(frozen=True, kw_only=True)
class TaskEnded(Event):
    """The task reached a final state."""

    state: TaskState
    work: int
    """Its own cost, without its children's."""


Listener = Callable[[Event], None]


class EventStream:
    """Delivers each event to every subscriber, in order, at once; subscribers must not block."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Deliver all later events to ``listener``."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Deliver one event."""
        for listener in self._listeners:
            listener(event)
