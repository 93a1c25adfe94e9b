"""The structure of a graph: its tasks and edges, apart from running them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

from orchestrator.budgets import current_budget
from orchestrator.editing.cycles import order_edge
from orchestrator.errors import InvalidValue
from orchestrator.scheduler.conditions import SUCCESS, Condition
from orchestrator.scheduler.ready_queue import ReadyQueue
from orchestrator.scheduler.retries import Retry, Timeout
from orchestrator.settings import SPECIAL, Settings
from orchestrator.task import Edge, Task

if TYPE_CHECKING:
    from orchestrator.executors.processes import Executor
    from orchestrator.graph import TaskGraph

After = Task[Any] | Iterable[Task[Any]] | Mapping[Task[Any], str | Condition]
"""Tasks to wait for without taking their results; a mapping says under which conditions."""


class TaskOptions(TypedDict, total=False):
    """What `TaskGraph.add` takes by keyword.

    Attributes:
        name: Shown to people; the function's name by default.
        after: Tasks to wait for, with conditions if given as a mapping.
        kwargs: Keyword arguments of the function; a task among them is an edge.
        retry: Whether and when to call a failed function again.
        timeout: Limits for queueing, for an attempt, and for going without progress.
        priority: What is ready and has the highest goes first; 0 by default.
        resources: Named resources held while it runs, such as ``{"gpu": 1}``.
        executor: Where the function runs; here by default.
        reserve: What its budgets hold back for it before it starts: ``{"tokens": 512}``.
    """

    name: str
    after: After
    kwargs: Mapping[str, Any]
    retry: Retry
    timeout: Timeout
    priority: int
    resources: Mapping[str, int]
    executor: Executor
    reserve: Mapping[str, float]


_PLAIN = Settings()
_NO_KWARGS: Mapping[str, Any] = {}


class Structure:
    """Tasks by id, with their edges; nothing here dispatches them."""

    def __init__(self, queue: ReadyQueue) -> None:
        self.queue = queue
        self._tasks: dict[str, Task[Any]] = {}
        self._ranks = 0
        self._over = False  # the run has ended

    def __getitem__(self, id: str) -> Task[Any]:
        return self._tasks[id]

    def __contains__(self, id: str) -> bool:
        return id in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def tasks(self) -> list[Task[Any]]:
        """All tasks, in the order in which they were added."""
        return list(self._tasks.values())

    def create(
        self,
        id: str,
        parent: Task[Any] | None,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        options: TaskOptions,
    ) -> Task[Any]:
        """Put a new task into the graph, with its edges; it is not dispatched yet."""
        if self._over:
            raise InvalidValue("this graph's run has ended; build a new graph for more tasks")
        name = options.get("name") or str(getattr(function, "__name__", type(function).__name__))
        settings = self._settings(options, name)
        kwargs = options.get("kwargs") or _NO_KWARGS
        graph = cast("TaskGraph", self)
        task: Task[Any] = Task(graph, id, name, parent, function, args, kwargs, settings)
        self._ranks += 1
        task._rank = self._ranks
        task._added_at = time.monotonic()
        task._budget = current_budget() if parent is None else parent.inner_budget()
        edges = self._data_edges(task)
        task._fed = bool(edges)
        after = options.get("after")
        if after is not None:
            edges += [
                Edge(source, task, "control", when)
                for source, when in _conditions(after).items()
                if when is not SUCCESS or all(edge.source is not source for edge in edges)
            ]
        for edge in edges:
            self.check_source(edge.source, task)
        for edge in edges:
            edge.link()
        self._tasks[id] = task
        if parent is not None:
            task.clock, task._clock_s = parent.clock, parent._clock_s
            parent.adopt(task)
        return task

    def rewire(
        self,
        task: Task[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
    ) -> list[Edge]:
        """Change what a task that has not started will do; return its new data edges."""
        trial: Task[Any] = Task(task.graph, task.id, "", None, function, args, kwargs, _PLAIN)
        edges = [Edge(edge.source, task, "data") for edge in self._data_edges(trial)]
        for edge in edges:
            self.check_source(edge.source, task)
            order_edge(edge.source, task)
        settings = self._settings(options, task.id, task._settings)
        for edge in [edge for edge in task._inbound if edge.kind == "data"]:
            edge.unlink()
        for edge in edges:
            edge.link()
        task.name = options.get("name") or task.name
        task._function, task._args, task._kwargs = function, args, kwargs
        task._settings, task._fed = settings, bool(edges)
        return edges

    def discard(self, task: Task[Any]) -> None:
        """Take a task that has not started out of the graph, with its edges."""
        for edge in [*task._inbound, *task._outbound]:
            edge.unlink()
        self._tasks.pop(task.id, None)
        if task.parent is not None:
            task.parent.children = [c for c in task.parent.children if c is not task]
            task.parent._open -= 1

    def check_source(self, source: Task[Any], task: Task[Any]) -> None:
        """Refuse an edge that could never be resolved.

        Raises:
            InvalidValue: the source is of another graph, or waits for the task as its parent.
        """
        if source._graph is not self:
            raise InvalidValue(
                f"task {source.id} ({source.name}) belongs to another graph; pass its value instead"
            )
        ancestor = task.parent
        while ancestor is not None:
            if ancestor is source:
                raise InvalidValue(
                    f"task {source.id} can't feed its own child, for which it waits; "
                    "pass a value instead"
                )
            ancestor = ancestor.parent

    def _data_edges(self, task: Task[Any]) -> list[Edge]:
        sources = dict.fromkeys(_handles(task._args))
        if task._kwargs:
            sources.update(dict.fromkeys(_handles(task._kwargs.values())))
        return [Edge(source, task, "data") for source in sources]

    def _settings(self, options: TaskOptions, name: str, old: Settings = _PLAIN) -> Settings:
        if options.keys().isdisjoint(SPECIAL):
            return old
        settings = old.changed({name: options[name] for name in SPECIAL & options.keys()})  # type: ignore[literal-required]
        self.queue.check(settings.resources, name)
        return settings


def _handles(args: Iterable[Any]) -> Iterable[Task[Any]]:
    for arg in args:
        if isinstance(arg, Task):
            yield arg
        elif type(arg) in (list, tuple):
            for item in arg:
                if isinstance(item, Task):
                    yield item


def _conditions(after: After) -> dict[Task[Any], Condition]:
    if isinstance(after, Task):
        return {after: SUCCESS}
    if not isinstance(after, Mapping):
        return dict.fromkeys(after, SUCCESS)
    return {
        task: when if isinstance(when, Condition) else Condition.parse(when)
        for task, when in after.items()
    }
