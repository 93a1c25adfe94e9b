"""The task graph: tasks that spawn tasks and join them, with cancellation and cost accounting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from orchestrator.errors import InvalidValue, TaskCancelled, leaf
from orchestrator.events import EventStream, TaskAdded, TaskEnded, TaskStarted, TaskState

if TYPE_CHECKING:
    import networkx

T = TypeVar("T")

_current: ContextVar[Task[Any] | None] = ContextVar("_current", default=None)


class Task(Generic[T]):
    """One node of a `TaskGraph`: a coroutine that runs once, and its result.

    Attributes:
        id: Its place among its siblings, below its parent: ``"1.3"``.
        work: The cost charged to this task itself.
        clock: The cost along the longest dependent chain that ends at this task.
    """

    def __init__(
        self, graph: TaskGraph, id: str, name: str, parent: Task[Any] | None, after: list[Task[Any]]
    ) -> None:
        self.id = id
        self.name = name
        self.parent = parent
        self.after = tuple(after)
        self.state: TaskState = "waiting"
        self.work = 0
        self.clock = 0
        self.children: list[Task[Any]] = []
        self._graph = graph
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._group: TaskGroup | None = None
        self._value: T | None = None
        self._error: Exception | None = None

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name!r} {self.state}>"

    @property
    def error(self) -> Exception | None:
        """What the task raised, if it failed."""
        return self._error

    async def result(self) -> T:
        """Wait for the task to end and return its value.

        Raises:
            TaskCancelled: the task was cancelled or skipped.
            Exception: whatever the task itself raised.
        """
        await self._ended.wait()
        waiting = _current.get()
        if waiting is not None:
            waiting.clock = max(waiting.clock, self.clock)
        if self._error is not None:
            self._graph.observed.add(self)
            raise self._error
        if self.state != "succeeded":
            raise TaskCancelled(f"task {self.id} ({self.name}) was {self.state}; run it again")
        return cast("T", self._value)

    def cancel(self) -> None:
        """Cancel the task and all its descendants; a task that has ended is left as it is."""
        self._scope.cancel()

    def charge(self, cost: int, *, shared: int = 0) -> None:
        """Account for ``cost`` spent by this task.

        ``shared`` was spent by another task on behalf of this one: it lengthens the dependent
        chain but is counted as work only once.
        """
        self.work += cost
        self.clock += cost + shared

    async def _run(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        _current.set(self)
        state: TaskState = "cancelled"
        try:
            with self._scope:
                state = await self._attempt(function, args)
        finally:
            self.state = state
            self._ended.set()
            self._graph.events.emit(TaskEnded(task=self.id, state=state, work=self.work))

    async def _attempt(
        self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> TaskState:
        for other in self.after:
            await other._ended.wait()
            self.clock = max(self.clock, other.clock)
            if other.state != "succeeded":
                return "skipped"
        await anyio.lowlevel.checkpoint_if_cancelled()  # entering a cancelled scope is none
        values = [arg._value if isinstance(arg, Task) else arg for arg in args]
        self.state = "running"
        self._graph.events.emit(TaskStarted(task=self.id))
        try:
            # The group outlives the function: a task ends when all its children have.
            async with anyio.create_task_group() as self._group:
                self._value = await function(*values)
        except Exception as error:
            self._error = leaf(error)
            return "failed"
        self.clock = max(
            [self.clock, *(child.clock for child in self.children if child.state == "succeeded")]
        )
        return "succeeded"


class TaskGraph:
    """Runs tasks that may add tasks while they run::

        async with TaskGraph() as graph:
            numbers = [graph.add(draw, seed) for seed in range(8)]
            total = graph.add(add_up, *numbers)      # runs when all eight have ended
        print(await total.result())

    Leaving the block waits for every task.  A failure that nobody awaited is raised there.
    """

    def __init__(self, events: EventStream | None = None) -> None:
        self.events = events or EventStream()
        self.tasks: list[Task[Any]] = []
        self.observed: set[Task[Any]] = set()
        """Failed tasks whose error reached somebody who waited."""
        self._roots = 0
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._group is not None
        try:
            suppressed = await self._group.__aexit__(kind, error, trace)
        except ExceptionGroup:
            if error is None:
                raise  # a listener's: tasks keep their errors to themselves
            return False  # the block's own, which propagates unwrapped
        for task in self.tasks:
            if task.error is not None and task not in self.observed and error is None:
                raise task.error
        return suppressed

    def add(
        self, function: Callable[..., Awaitable[T]], *args: Any, name: str | None = None
    ) -> Task[T]:
        """Add a task that calls ``function(*args)``; it starts at once.

        A `Task` among the arguments is an edge: the new task waits for it and gets its value.
        Added from inside a task, the new one is its child: it is cancelled with its parent, and
        the parent does not end before it.
        """
        parent = _current.get()
        if parent is not None and parent._graph is not self:
            parent = None
        if parent is None:
            self._roots += 1
            id = str(self._roots)
        else:
            id = f"{parent.id}.{len(parent.children) + 1}"
        after = [arg for arg in args if isinstance(arg, Task)]
        ancestor = parent
        while ancestor is not None:
            if ancestor in after:
                raise InvalidValue(
                    f"task {ancestor.id} can't feed its own child, for which it waits; "
                    "pass a value instead"
                )
            ancestor = ancestor.parent
        task: Task[T] = Task(self, id, name or function.__name__, parent, after)
        group = self._group
        if parent is not None:
            task.clock = parent.clock
            parent.children.append(task)
            group = parent._group
        assert group is not None, "enter the graph with 'async with' before adding tasks"
        self.tasks.append(task)
        self.events.emit(
            TaskAdded(
                task=task.id,
                name=task.name,
                parent=parent.id if parent else None,
                after=tuple(other.id for other in after),
            )
        )
        group.start_soon(task._run, function, args, name=f"task {id}")
        return task

    @property
    def work(self) -> int:
        """The cost of all tasks, cancelled ones included."""
        return sum(task.work for task in self.tasks)

    @property
    def span(self) -> int:
        """The cost along the longest dependent chain of what succeeded; of all if nothing did."""
        done = [task.clock for task in self.tasks if task.state == "succeeded"]
        return max(done or [task.clock for task in self.tasks], default=0)

    def to_networkx(self) -> networkx.DiGraph[str]:
        """The graph as executed: an edge from each task to those that it spawned or fed."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph()
        for task in self.tasks:
            graph.add_node(task.id, name=task.name, state=task.state, work=task.work)
            if task.parent is not None:
                graph.add_edge(task.parent.id, task.id, kind="spawn")
            for other in task.after:
                graph.add_edge(other.id, task.id, kind="data")
        return graph


def current_task() -> Task[Any] | None:
    """The task that is running this code, if any."""
    return _current.get()
