"""The handle of a task: what users hold of it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from orchestrator.errors import InvalidValue, TaskCancelled, text_of, told
from orchestrator.events import Event, TaskEnded, TaskProgressed
from orchestrator.node import Node, current_node
from orchestrator.views.record import FINAL, TaskState
from orchestrator.waiting.wakeup import Wakeup

if TYPE_CHECKING:
    from orchestrator.graph import TaskGraph

T = TypeVar("T")


class Task(Generic[T]):
    """One call in a `TaskGraph`, and its result; made by `TaskGraph.add` and its like."""

    __slots__ = ("__weakref__", "_node")

    def __init__(self, node: Node) -> None:
        self._node = node

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name!r} {self.state}>"

    # ---- what it is ----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its place among its siblings, below its parent: ``"1.3"``."""
        return self._node.id

    @property
    def name(self) -> str:
        """What people see: the option ``name``, or the function's name."""
        return self._node.name

    @property
    def graph(self) -> TaskGraph:
        """The graph that it belongs to; a running task adds its children there."""
        return self._node.graph

    @property
    def parent(self) -> Task[Any] | None:
        """The task that added it while running; it ends after its children."""
        parent = self._node.parent
        return None if parent is None else parent.task

    @property
    def children(self) -> Sequence[Task[Any]]:
        """The tasks that it added."""
        return [child.task for child in self._node.children]

    @property
    def after(self) -> tuple[Task[Any], ...]:
        """The tasks that it waits for, or waited for."""
        return tuple(edge.source.task for edge in self._node.inbound)

    # ---- how it stands, how it ended -----------------------------------------------------------

    @property
    def state(self) -> TaskState:
        """Waiting, ready, running, succeeded, failed, skipped or cancelled."""
        return self._node.state

    @property
    def ended(self) -> bool:
        """Whether it has reached one of the four final states."""
        return self._node.ended

    @property
    def ended_at(self) -> float | None:
        """When it ended, in seconds of the monotonic clock; None before."""
        return self._node.ended_at

    @property
    def attempt(self) -> int:
        """The number of its attempt, from 1: of the one that runs, or of the next."""
        return len(self._node.attempts) + 1

    @property
    def error(self) -> Exception | None:
        """What the task raised in its last attempt, if it failed."""
        return self._node.error

    @property
    def error_text(self) -> str | None:
        """The error's message, as conditions see it."""
        return None if self.error is None else text_of(self.error)

    @property
    def value(self) -> T:
        """The result of a task that has succeeded.

        Raises:
            TaskCancelled: it has not succeeded; the message says what it is.
        InvalidValue: with ``keep="needed"``: it is not there any more.
            Exception: whatever the task itself raised.
        """
        node = self._node
        if node.state == "succeeded":
            if node.freed:
                raise InvalidValue(
                    f"the value of {node.label} was let go when all that took it had ended; "
                    "leave out TaskGraph(keep='needed'), or take it earlier"
                )
            return cast("T", node.value)
        if node.error is not None and node.ended:
            node.acknowledged = True
            raise node.error
        raise _unavailable(node)

    @property
    def cached(self) -> bool:
        """Whether its value was found in its cache, and its function not called."""
        return self._node.cached

    def queue(self) -> None:
        """For executors: it waits for a place elsewhere, and its attempt's clock stands still."""
        self._node.scheduler.queued_elsewhere(self._node)

    def start(self) -> None:
        """For executors: its function begins elsewhere, and its attempt's clock."""
        self._node.scheduler.starts_elsewhere(self._node)

    @property
    def timed(self) -> bool:
        """Whether its attempts have a time limit, so that executors have to say when they start."""
        timeout = self._node.settings.timeout
        return timeout is not None and (timeout.run, timeout.idle) != (None, None)

    def acknowledge(self) -> None:
        """Count a failure as seen: the end of the run does not raise it."""
        self._node.acknowledged = True

    @property
    def partial(self) -> Any:
        """What it published last by `progress`; kept when it is cancelled."""
        return self._node.partial

    @property
    def work(self) -> int:
        """The cost charged to this task itself."""
        return self._node.work

    @property
    def clock(self) -> int:
        """The cost along the longest dependent chain that ends at this task."""
        return self._node.clock

    @property
    def clock_s(self) -> float:
        """The seconds along the longest dependent chain that ends at this task."""
        return self._node.clock_s

    @property
    def leaked(self) -> bool:
        """Whether it was cancelled but something of it could not be stopped; executors set it."""
        return self._node.leaked

    @leaked.setter
    def leaked(self, leaked: bool) -> None:
        self._node.leaked = leaked

    # ---- waiting for it ------------------------------------------------------------------------

    async def result(self) -> T:
        """Wait for the task to end and return its value; a waiting task releases its slot.

        Raises:
            TaskCancelled: the task was cancelled or skipped.
            TaskStalled: it can never end, because it waits for whoever waits for it.
            Exception: whatever the task itself raised.
        """
        await self.wait()
        waiting = current_node.get()
        if waiting is not None:
            waiting.follow(self._node)
        return self.value

    async def wait(self) -> None:
        """Wait for the task to end, however it ends; a waiting task releases its slot."""
        if self._node.state not in FINAL:
            wakeup = Wakeup(self._node.graph)
            self.on_end(wakeup.set)
            await wakeup.wait()

    def on_end(self, listener: Callable[[Task[T]], None]) -> None:
        """Call ``listener(task)`` when the task has ended; at once if it has."""
        if self._node.state in FINAL:
            self._node.scheduler.tell(listener, self._node)
        else:
            self._node.scheduler.here(self._node.scheduler.watch, self._node, listener)

    def cancel(self, because: Task[Any] | None = None) -> None:
        """Cancel the task and all its descendants; a task that has ended is left as it is.

        ``because`` is the task for whose sake, as errors tell it.
        """
        self._node.scheduler.here(self._node.scheduler.cancel, self._node, because)

    # ---- from inside it ------------------------------------------------------------------------

    def progress(self, partial: Any = None) -> None:
        """Say that the task is alive (its idle timeout starts anew) and what it has so far.

        Subscribers get each partial result in a `TaskProgressed`, and readers of `stream` too.
        """
        scheduler = self._node.scheduler
        if partial is None:
            scheduler.here(scheduler.progressed, self._node)
        else:
            scheduler.here(scheduler.published, self._node, partial)

    async def stream(self) -> AsyncIterator[Any]:
        """The partial results that the task publishes from now on, until it ends, however it does.

        A task that was taken from a journal publishes nothing; its value is there at once.
        """
        heard: deque[Any] = deque()
        wakeup = Wakeup(self._node.graph)

        def hear(event: Event) -> None:
            if event.task == self.id and isinstance(event, (TaskProgressed, TaskEnded)):
                heard.append(event)
                wakeup.set()

        leave = self.graph.events.subscribe(hear)
        try:
            while heard or not self.ended:
                while heard:
                    if isinstance(event := heard.popleft(), TaskProgressed):
                        yield event.partial
                if not self.ended:
                    await wakeup.wait()
                    wakeup = Wakeup(self._node.graph)
        finally:
            leave()

    def follow(self, other: Task[Any]) -> None:
        """Count what ``other`` cost as a part of the chain that ends at this task."""
        self._node.follow(other)

    def charge(self, cost: int, *, shared: int = 0) -> None:
        """Account for ``cost`` spent by this task.

        ``shared`` was spent by another task on behalf of this one: it lengthens the dependent
        chain but is counted as work only once.
        """
        self._node.work += cost
        self._node.clock += cost + shared

    def spend(self, *, tokens: int = 0, cost: float = 0.0) -> None:
        """Take from what is reserved for this task in its budget, or from what is left there.

        Raises:
            BudgetExhausted: the hard limit is reached; left uncaught, it cancels the task.
        """
        scheduler = self._node.scheduler
        scheduler.here(partial(scheduler.spend, self._node, tokens=tokens, cost=cost))

    @property
    def wrap_up(self) -> bool:
        """Whether its budget asks it to come to an end with what it has."""
        return self._node.budget is not None and self._node.budget.wrap_up


def current_task() -> Task[Any] | None:
    """The task that is running this code, if any."""
    node = current_node.get()
    return None if node is None else node.task


def _unavailable(node: Node) -> TaskCancelled:
    """What to raise for the value of a task that has not succeeded."""
    because = node.because
    if because is None:
        return TaskCancelled(f"{node.label} was {node.state}; run it again")
    why = "" if because.error is None else f" ({told(because.error, 200)})"
    error = TaskCancelled(
        f"{node.label} was {node.state}, because task {because.id} ({because.name}) "
        f"was {because.state}{why}; run it again"
    )
    error.__cause__ = because.error
    return error
