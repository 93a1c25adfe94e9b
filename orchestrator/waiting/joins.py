"""Waiting for several tasks under a policy: all, the first, a quorum, or what a deadline allows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import anyio

from orchestrator.errors import InvalidValue, QuorumMissed, told, with_note
from orchestrator.events import Event, TaskAdded
from orchestrator.task import Task
from orchestrator.waiting.wakeup import Wakeup

if TYPE_CHECKING:
    from orchestrator.graph import TaskGraph

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Joined(Generic[T]):
    """How a join ended.

    Attributes:
        winners: The tasks that succeeded in time, in the order in which they ended.
        losers: The others: failed, skipped, or cancelled by the join.  Their ``partial`` results
            and their ``work`` are kept.
    """

    winners: tuple[Task[T], ...]
    losers: tuple[Task[T], ...]

    @property
    def values(self) -> list[T]:
        """The winners' results."""
        return [task.value for task in self.winners]


async def join(
    tasks: Sequence[Task[T]],
    *,
    need: int | None = None,
    within: float | None = None,
    cancel: bool = True,
) -> Joined[T]:
    """Wait until ``need`` of the tasks have succeeded, or for at most ``within`` seconds.

    The others are then cancelled, unless ``cancel`` is false.  All are needed by default; 1 is
    the first to succeed and ``k`` a quorum.  With ``within``, what has succeeded by then is enough
    (best effort).  A task that waits here releases its slot.

    Raises:
        QuorumMissed: without ``within``: too many failed; its cause is the first failure.
    """
    needed = len(tasks) if need is None else need
    if not 0 <= needed <= len(tasks):
        raise InvalidValue(f"need is {need}; give 0 to {len(tasks)}, the number of tasks")
    if within is not None and not within >= 0:
        raise InvalidValue(f"within is {within}; give 0 or more seconds")
    if not tasks:
        return Joined(winners=(), losers=())
    watch = _Watch(tasks, needed)
    with anyio.move_on_after(math.inf if within is None else within):
        await watch.decided.wait(timed=within is not None)
    if cancel:
        await _cancel(tasks)
    if within is not None:
        await watch.decided.settle()
    return await _joined(tasks, 0 if within is not None else needed)


@overload
async def gather(tasks: Sequence[Task[T]]) -> list[T]: ...


@overload
async def gather(tasks: Sequence[Task[T]], *, return_exceptions: bool) -> list[T | Exception]: ...


async def gather(tasks: Sequence[Task[Any]], *, return_exceptions: bool = False) -> list[Any]:
    """Wait for all tasks and return their values, in order; the first failure ends the wait.

    The others are then cancelled, for nobody can use their values together any more.  With
    ``return_exceptions`` all are waited for, and an error stands in the place of its value.

    Raises:
        TaskCancelled: a task was cancelled or skipped.
        Exception: whatever the first task to fail has raised.
    """
    if not tasks:
        return []
    if return_exceptions:
        await _Watch(tasks, None).decided.wait()
        return [await _outcome(task) for task in tasks]
    watch = _Watch(tasks, len(tasks))
    await watch.decided.wait()
    lost = [task for task in tasks if task.ended and task.state != "succeeded"]
    if lost:
        first = min(lost, key=lambda task: task.ended_at or 0.0)
        await _cancel(tasks, first)
        for task in tasks:
            task.acknowledge()
            if first.error is not None and task.error is not None and task is not first:
                with_note(first.error, f"task {task.id} failed too: {told(task.error, 200)}")
        return [await first.result()]
    return [await task.result() for task in tasks]


async def _outcome(task: Task[T]) -> T | Exception:
    """The value of a task that has ended, or what it is in place of one."""
    try:
        return await task.result()
    except Exception as error:
        return error


async def as_completed(
    tasks: Sequence[Task[T]] | Task[list[T]], *, ordered: bool = False, cancel: bool = True
) -> AsyncIterator[Task[T]]:
    """Give each task when it has ended, however it ended: as they end, or in their own order.

    In place of several tasks, one made by `TaskGraph.map` stands for its calls, also for those that
    it has yet to add::

        async for call in as_completed(graph.map(draft, topics)):
            print(call.value)

    Whoever leaves the loop early needs no more of them: the others are then cancelled, unless
    ``cancel`` is false.
    """
    found: Sequence[Task[T]] = () if isinstance(tasks, Task) else tasks
    whole = tasks if isinstance(tasks, Task) else None
    graph = tasks.graph if isinstance(tasks, Task) else tasks[0].graph if tasks else None
    if graph is None:
        return
    arrivals = _Arrivals(graph, whole, found, ordered=ordered)
    try:
        while (task := await arrivals.next()) is not None:
            yield task
    finally:
        arrivals.leave(cancel=cancel)


class _Arrivals:
    """Tasks that end, in the order in which they are asked for."""

    def __init__(
        self,
        graph: TaskGraph,
        whole: Task[Any] | None,
        tasks: Sequence[Task[Any]],
        *,
        ordered: bool,
    ) -> None:
        self._graph = graph
        self._whole = whole
        self._ordered = ordered
        self._known: dict[Task[Any], None] = {}
        """Those that have not been given, as they were added, or as they ended."""
        self._ended: deque[Task[Any]] = deque()
        self._given: set[Task[Any]] = set()
        self._news = Wakeup(graph)
        self._deaf: Callable[[], None] = lambda: None
        if whole is not None:
            self._deaf = graph.events.subscribe(self._hear)
            whole.on_end(self._end)
        for task in whole.children if whole is not None else tasks:
            self._add(task)

    async def next(self) -> Task[Any] | None:
        """The next one; None if there will be none."""
        while True:
            if self._whole is not None and self._whole.ended:  # also those of a journal
                for child in self._whole.children:
                    self._add(child)
            ready = next(iter(self._known), None) if self._ordered else None
            if ready is not None and not ready.ended:
                ready = None
            elif not self._ordered and self._ended:
                ready = self._ended.popleft()
            if ready is not None:
                self._known.pop(ready)
                return ready
            if not self._known and (self._whole is None or self._whole.ended):
                return None
            await self._news.wait()
            self._news = Wakeup(self._graph)

    def leave(self, *, cancel: bool) -> None:
        """Look no more; cancel what has not been given, and with it a map that adds still more."""
        self._deaf()
        whole = self._whole
        if not cancel:
            return
        if whole is None:
            for task in self._known:
                task.cancel()
        elif self._known or not whole.children:
            whole.cancel()
        elif not whole.ended:  # it ends by itself, unless another call comes

            def more(event: Event) -> None:
                if isinstance(event, TaskAdded) and event.parent == whole.id:
                    whole.cancel()

            deaf = self._graph.events.subscribe(more)
            whole.on_end(lambda _: deaf())

    def _hear(self, event: Event) -> None:
        if isinstance(event, TaskAdded) and self._whole and event.parent == self._whole.id:
            self._add(self._graph[event.task])

    def _add(self, task: Task[Any]) -> None:
        if task not in self._given:
            self._given.add(task)
            self._known[task] = None
            task.on_end(self._end)

    def _end(self, task: Task[Any]) -> None:
        if task is not self._whole:
            self._ended.append(task)
        self._news.set()


async def _cancel(tasks: Sequence[Task[Any]], because: Task[Any] | None = None) -> None:
    """Cancel the tasks and wait until all have ended."""
    for task in tasks:
        task.cancel(because)
    await _Watch(tasks, None).decided.wait()


class _Watch:
    """Counts tasks that end, until it is decided whether enough succeed; None: until all end."""

    def __init__(self, tasks: Sequence[Task[Any]], needed: int | None) -> None:
        self.decided = Wakeup(tasks[0].graph)
        self._all = needed is None
        self._lacking = needed or 0
        self._open = len(tasks)
        self._look()
        for task in tasks:
            task.on_end(self._count)

    def _count(self, task: Task[Any]) -> None:
        self._open -= 1
        self._lacking -= task.state == "succeeded"
        self._look()

    def _look(self) -> None:
        enough = self._lacking <= 0 or self._lacking > self._open
        if not self._open or (enough and not self._all):
            self.decided.set()


async def _joined(tasks: Sequence[Task[T]], needed: int) -> Joined[T]:
    won = [task for task in tasks if task.state == "succeeded"]
    won.sort(key=lambda task: task.ended_at or 0.0)
    lost = [task for task in tasks if task.state != "succeeded"]
    for task in won:
        await task.result()  # they have ended: what they cost counts in the waiting task's chain
    failures = [task for task in lost if task.error is not None]
    for task in failures:
        task.acknowledge()
    if len(won) < needed:
        raise QuorumMissed(
            f"{len(won)} of {len(tasks)} tasks succeeded and {needed} were needed; "
            "see the cause, or need fewer"
        ) from (failures[0].error if failures else None)
    return Joined(winners=tuple(won), losers=tuple(lost))
