"""What happens in a run, as frozen values on one stream; whoever reports, subscribes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time as now
from typing import TYPE_CHECKING, Any, Self

import anyio

from orchestrator.errors import told
from orchestrator.views.record import TaskState

if TYPE_CHECKING:
    from orchestrator.editing.patches import Patch


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to the task with this id.

    Attributes:
        time: When, in seconds since 1970.
        run: The run that it belongs to (`TaskGraph.run_id`); empty before the run has begun.
        graph: That run's name.
    """

    task: str
    time: float = field(default_factory=now, compare=False, repr=False)
    run: str = field(default="", compare=False, repr=False)
    graph: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class TaskAdded(Event):
    """The task joined the graph; ``after`` are the tasks whose results it takes."""

    name: str
    parent: str | None
    after: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TaskReady(Event):
    """The task waits for nothing but a slot."""


@dataclass(frozen=True, kw_only=True)
class TaskStarted(Event):
    """The task's function was called."""

    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class TaskProgressed(Event):
    """The task published a partial result: by `Task.progress`, or as an item of its generator."""

    partial: Any


@dataclass(frozen=True, kw_only=True)
class ValueAwaited(Event):
    """The task waits for a value from outside; see `TaskGraph.receive`."""

    name: str


@dataclass(frozen=True, kw_only=True)
class AttemptFailed(Event):
    """The task failed and will be tried again after ``wait_s`` seconds."""

    attempt: int
    error: str
    wait_s: float


@dataclass(frozen=True, kw_only=True)
class TaskEnded(Event):
    """The task reached a final state."""

    state: TaskState
    work: int
    """Its own cost, without its children's."""
    error: str | None = None
    """What it raised in its last attempt, if it failed."""


@dataclass(frozen=True, kw_only=True)
class GraphPatched(Event):
    """A patch was applied, which made this version; ``task`` is empty."""

    version: int
    patch: Patch


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """Every task has ended; ``task`` is empty."""

    task: str = ""


@dataclass(frozen=True, kw_only=True)
class ListenerFailed(Event):
    """A listener raised; ``task`` is the one that it was told of, or empty."""

    error: str


Listener = Callable[[Event], None]


class EventStream:
    """Delivers each event to every subscriber, in order, at once; subscribers must not block.

    A subscriber that raises gets no more events, and others hear of it.

    Attributes:
        heard: Whether anybody listens; if not, events need not be made.
        broken: What listeners raised; the run warns of it when it has ended.
    """

    def __init__(self) -> None:
        self.heard = False
        self._listeners: list[Listener] = []
        self.broken: list[BaseException] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Deliver all later events to ``listener``, until the returned function is called."""
        self._listeners.append(listener)
        self.heard = True
        return lambda: self._remove(listener)

    def _remove(self, listener: Listener) -> None:
        if listener in self._listeners:  # else it broke, or left before
            self._listeners.remove(listener)
            self.heard = bool(self._listeners)

    def emit(self, event: Event) -> None:
        """Deliver one event."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except BaseException as error:  # whatever it is, what happened has happened
                self._remove(listener)
                self.failed(error, event.task)

    def failed(self, error: BaseException, task: str) -> None:
        """Report what a listener raised when it was told of a task."""
        self.broken.append(error)
        self.emit(ListenerFailed(task=task, error=told(error)))

    def open(self, size: int = 1000) -> EventQueue:
        """The events from now on, for an asynchronous reader that may be slow."""
        return EventQueue(self, size)


class EventQueue:
    """Holds at most ``size`` events for one reader; the oldest make room, and are counted::

        with graph.events.open() as events:
            async for event in events: ...

    The iteration ends after the end of the run, or when the block is left.
    """

    def __init__(self, stream: EventStream, size: int) -> None:
        self.dropped = 0
        self._events: deque[Event] = deque(maxlen=size)
        self._news = anyio.Event()
        self._closed = False
        self._leave = stream.subscribe(self._take)

    def close(self) -> None:
        """Take no more events; the reader gets what is held, and ends."""
        if not self._closed:
            self._closed = True
            self._leave()
            self._news.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._news = anyio.Event()
            await self._news.wait()
        return self._events.popleft()

    def _take(self, event: Event) -> None:
        self.dropped += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._news.set()
        if isinstance(event, RunEnded):
            self.close()
