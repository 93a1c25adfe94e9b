"""The task graph: what people build, run and look at."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from orchestrator.errors import InvalidValue
from orchestrator.events import EventStream, RunEnded, TaskAdded
from orchestrator.ready import ReadyQueue
from orchestrator.record import TaskState
from orchestrator.scheduler import Scheduler
from orchestrator.structure import TaskOptions
from orchestrator.task import Task, _current
from orchestrator.views import Views

if TYPE_CHECKING:
    from orchestrator.journal import Journal
    from orchestrator.patches import Patch
    from orchestrator.resuming import Restored

T = TypeVar("T")
A = TypeVar("A")


class TaskGraph(Views):
    """Tasks with edges between them, that may add tasks while they run::

        graph = TaskGraph()
        numbers = [graph.add(draw, seed) for seed in range(8)]
        total = graph.add(add_up, numbers)      # runs when all eight have ended
        graph.run_sync()
        print(total.value)

    Or as a block that runs what is added to it, and waits for every task when it is left::

        async with TaskGraph() as graph:
            total = graph.add(add_up, 1, 2)
            print(await total.result())

    A failure that nobody awaited or waited for by a condition is raised at the end.

    Attributes:
        version: Grows with each edit of the graph; see `apply`.
        observed: Failed tasks whose error reached somebody.
        threads: How many synchronous functions may run at once.
    """

    def __init__(
        self,
        events: EventStream | None = None,
        *,
        name: str = "graph",
        limit: int | None = None,
        resources: Mapping[str, int] | None = None,
        functions: Iterable[Callable[..., Any]] = (),
        journal: str | Path | None = None,
        resume: bool = False,
        again: Iterable[TaskState] = (),
        seed: int = 0,
    ) -> None:
        """Make an empty graph.

        Args:
            events: The stream to report to; a new one by default.
            name: Shown to people, and checked when a run is resumed.
            limit: How many tasks may run at once; no limit by default.
            resources: Named resources, such as ``{"gpu": 2}``, and how much there is of each.
            functions: Those that patches may name, besides by `register`.
            journal: A file that records the run, so that it can be resumed.
            resume: Whether to go on with the run that the journal holds, if it holds one: build
                the same graph, and what has ended does not run again.
            again: With ``resume``: states that do not count as ended, such as ``("failed",)``.
            seed: Of the jitter of retries.
        """
        if limit is not None and limit < 1:
            raise InvalidValue(f"limit is {limit}; give 1 or more tasks at once")
        super().__init__(ReadyQueue(limit, resources or {}))
        self.name = name
        self.events = events or EventStream()
        self.version = 0
        self.observed: set[Task[Any]] = set()
        self.threads = anyio.CapacityLimiter(math.inf)
        self.scheduler = Scheduler(self.events, self.queue, self.observed, seed)
        self.scheduler.unended = lambda: [task for task in self._tasks.values() if not task.ended]
        self.functions = {function.__name__: function for function in functions}
        self._file = None if journal is None else Path(journal)
        self._resume = resume
        self._again = tuple(again)
        self._journal: Journal | None = None
        self._restored: Restored | None = None
        self._roots = 0
        self._thread: int | None = None
        self._group: TaskGroup | None = None
        self._began = False

    # ---- building ------------------------------------------------------------------------------

    @overload
    def add(
        self, function: Callable[..., Awaitable[T]], *args: Any, **options: Unpack[TaskOptions]
    ) -> Task[T]: ...

    @overload
    def add(
        self, function: Callable[..., T], *args: Any, **options: Unpack[TaskOptions]
    ) -> Task[T]: ...

    def add(
        self, function: Callable[..., Any], *args: Any, **options: Unpack[TaskOptions]
    ) -> Task[Any]:
        """Add a task that calls ``function(*args)``; in a running graph it starts when it can.

        A `Task` among the arguments, or in a list among them, is an edge: the new task waits for
        it and gets its value, checked against the parameter's annotation.  An asynchronous
        function runs on the event loop and any other in a thread.

        Added from inside a task, the new one is its child: it is cancelled with its parent, and
        the parent does not end before it.

        Raises:
            InvalidValue: an option can't be used, or the edges would close a cycle.
        """
        if self._thread is not None and self._thread != threading.get_ident():
            return anyio.from_thread.run_sync(lambda: self.add(function, *args, **options))
        parent = self._parent()
        if parent is None:
            self._roots += 1
            id = str(self._roots)
        else:
            parent._spawned += 1
            id = f"{parent.id}.{parent._spawned}"
        task = self.create(id, parent, function, args, options)
        self.admit(task)
        return task

    def map(
        self,
        function: Callable[[A], Awaitable[T]] | Callable[[A], T],
        over: Task[Sequence[A]] | Task[list[A]] | Iterable[A],
        **options: Unpack[TaskOptions],
    ) -> Task[list[T]]:
        """Add a task that calls ``function`` once for each item of ``over``, side by side.

        The items may be another task's result: how many there are is then known only when it has
        ended.  The calls are children of the new task, whose result is the list of theirs, in
        the order of the items.  The options are those of each call.
        """
        call: Callable[..., Any] = function
        name = options.pop("name", getattr(function, "__name__", "call"))
        after = options.pop("after", ())

        async def fan_out(items: Iterable[A]) -> list[T]:
            calls: list[Task[T]] = []
            for number, item in enumerate(items, 1):
                options["name"] = f"{name} {number}"
                calls.append(self.add(call, item, **options))
            return [await task.result() for task in calls]

        source = over if isinstance(over, Task) else list(over)
        return self.add(fan_out, source, name=f"map {name}", after=after)

    def reduce(
        self,
        function: Callable[[list[T]], Awaitable[T]] | Callable[[list[T]], T],
        over: Task[list[T]] | Sequence[Task[T]],
        *,
        arity: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task[T]:
        """Add a task that joins the results in ``over`` by calling ``function`` on a list of them.

        With ``arity``, at most so many are joined in a call, neighbours first, level by level,
        until one is left; the function must then be associative.
        """
        if arity is not None and arity < 2:
            raise InvalidValue(f"arity is {arity}; give 2 or more")
        call: Callable[..., Any] = function
        name = options.setdefault("name", getattr(function, "__name__", "call"))
        after = options.pop("after", ())

        async def fold(items: list[T]) -> T:
            width = arity or max(len(items), 1)
            while True:
                groups = [items[i : i + width] for i in range(0, len(items), width)] or [items]
                joins: list[Task[T]] = [self.add(call, group, **options) for group in groups]
                items = [await join.result() for join in joins]
                if len(items) == 1:
                    return items[0]

        source = over if isinstance(over, Task) else list(over)
        return self.add(fold, source, name=f"reduce {name}", after=after)

    def _parent(self) -> Task[Any] | None:
        parent = _current.get()
        return parent if parent is not None and parent._graph is self else None

    def apply(self, patch: Patch) -> int:
        """Apply a patch, all of it or nothing; return the new version.

        What the patch does not touch is not delayed by it.

        Raises:
            PatchRefused: with the conflicts, one for each operation that can't be applied.
        """
        from orchestrator.patches import apply

        return apply(self, patch)

    def register(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Let patches name this function."""
        self.functions[name or function.__name__] = function

    def admit(self, task: Task[Any]) -> None:
        """Dispatch a new task when it can start; for this package."""
        if self.events.heard:
            self.events.emit(
                TaskAdded(
                    task=task.id,
                    name=task.name,
                    parent=None if task.parent is None else task.parent.id,
                    after=tuple(edge.source.id for edge in task._inbound),
                )
            )
        if self.scheduler.journal is not None:
            self.scheduler.journal.added(task)
        self.scheduler.reconsider(task, fresh=True)
        if self._restored is not None and task.id in self._restored:
            self._restored.restore(task)

    # ---- running -------------------------------------------------------------------------------

    @overload
    async def run(self, target: Task[T]) -> T: ...

    @overload
    async def run(self) -> None: ...

    async def run(self, target: Task[T] | None = None) -> T | None:
        """Run every task; return the value of ``target``, if given.

        Raises:
            Exception: the first failure that nobody awaited, after all tasks have ended.
        """
        async with self:
            pass
        return None if target is None else target.value

    @overload
    def run_sync(self, target: Task[T]) -> T: ...

    @overload
    def run_sync(self) -> None: ...

    def run_sync(self, target: Task[T] | None = None) -> T | None:
        """Like `run`, from code that is not asynchronous; also inside a notebook's event loop."""
        run: Callable[..., Awaitable[T | None]] = self.run
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return anyio.run(run, target)
        with anyio.from_thread.start_blocking_portal() as portal:
            return portal.call(run, target)

    async def __aenter__(self) -> Self:
        if self._began:
            raise InvalidValue("this graph has run already; build a new one to run it again")
        self._began = True
        self._thread = threading.get_ident()
        if self._file is not None:
            from orchestrator.resuming import open_journal

            self._journal, self._restored = await open_journal(
                self, self._file, resume=self._resume, again=self._again
            )
        self._group = await anyio.create_task_group().__aenter__()
        if self._journal is not None:
            self.scheduler.journal = self._journal
            self._group.start_soon(self._journal.write)
        self.scheduler.start(self._group)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                await self._drain()
            else:
                await self._leave(error)
        finally:
            self._over = True
            self.scheduler.journal = None
            self.scheduler.stop(list(self._tasks.values()))
            self._thread = None
            if self._journal is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._journal.shut)
            if self.events.heard:
                self.events.emit(RunEnded())
        if error is None:
            self._raise_unobserved()

    async def _drain(self) -> None:
        try:
            await self.scheduler.drained()
            self._over = True
            await anyio.lowlevel.checkpoint_if_cancelled()  # tasks may be faster to end by it
        except BaseException as error:
            await self._leave(error)
            raise
        if self._journal is not None:
            self._journal.close()
        await self._leave(None)

    async def _leave(self, error: BaseException | None) -> None:
        """Leave the group of workers; an error of the block cancels them, and stays unwrapped."""
        assert self._group is not None
        if error is not None:
            self.scheduler.journal = None  # what is cancelled now has not ended
        trace = None if error is None else error.__traceback__
        try:
            await self._group.__aexit__(type(error) if error else None, error, trace)
        except BaseExceptionGroup as group:
            ours = [found for found in group.exceptions if found is not error]
            if ours:  # the journal's: tasks keep their errors to themselves
                raise ours[0] from None

    def _raise_unobserved(self) -> None:
        for task in self._tasks.values():
            if task.state == "failed" and task not in self.observed and task._error is not None:
                raise task._error
        if self.events.broken:
            raise self.events.broken[0]
