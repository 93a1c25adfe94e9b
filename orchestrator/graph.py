"""The task graph: what people build, run and look at."""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from orchestrator.building import Building
from orchestrator.errors import InvalidValue
from orchestrator.events import EventStream, RunEnded
from orchestrator.scheduler.ready_queue import ReadyQueue
from orchestrator.scheduler.scheduler import Scheduler
from orchestrator.task import Task
from orchestrator.views.record import TaskState

if TYPE_CHECKING:
    from orchestrator.journal.resume import Restored
    from orchestrator.journal.store import Journal

T = TypeVar("T")
A = TypeVar("A")


class TaskGraph(Building):
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
        notes: What was kept with `note`, by earlier processes first.
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
        self.notes: list[str] = []
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
        self._run_id = secrets.token_hex(8)

    # ---- running -------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """Names this run among all; the same when it goes on from its journal."""
        return self._run_id if self._journal is None else self._journal.run

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
            from orchestrator.journal.resume import open_journal

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
