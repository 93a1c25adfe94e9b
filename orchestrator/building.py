"""Building a graph: adding tasks, fanning out, reducing, and edits."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import anyio.from_thread

from orchestrator.errors import InvalidValue
from orchestrator.events import EventStream, TaskAdded
from orchestrator.graph_views import Views
from orchestrator.structure import TaskOptions
from orchestrator.task import Task, current_task

if TYPE_CHECKING:
    from orchestrator.editing.patches import Patch
    from orchestrator.journal.resume import Restored

T = TypeVar("T")
A = TypeVar("A")


class Building(Views):
    """The half of `TaskGraph` that adds and edits tasks, before the run and during it."""

    events: EventStream
    functions: dict[str, Callable[..., Any]]
    notes: list[str]
    _roots: int
    _thread: int | None
    _restored: Restored | None

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

    @overload
    def map(
        self,
        function: Callable[[A], Awaitable[T]],
        over: Task[list[A]] | Iterable[A],
        **options: Unpack[TaskOptions],
    ) -> Task[list[T]]: ...

    @overload
    def map(
        self,
        function: Callable[[A], T],
        over: Task[list[A]] | Iterable[A],
        **options: Unpack[TaskOptions],
    ) -> Task[list[T]]: ...

    def map(
        self,
        function: Callable[[Any], Any],
        over: Task[list[Any]] | Iterable[Any],
        **options: Unpack[TaskOptions],
    ) -> Task[list[Any]]:
        """Add a task that calls ``function`` once for each item of ``over``, side by side.

        The items may be another task's result: how many there are is then known only when it has
        ended.  The calls are children of the new task, whose result is the list of theirs, in
        the order of the items.  The options are those of each call.
        """
        name = options.pop("name", getattr(function, "__name__", "call"))
        after = options.pop("after", ())

        async def fan_out(items: Iterable[Any]) -> list[Any]:
            calls: list[Task[Any]] = []
            for number, item in enumerate(items, 1):
                options["name"] = f"{name} {number}"
                calls.append(self.add(function, item, **options))
            return [await task.result() for task in calls]

        source = over if isinstance(over, Task) else list(over)
        return self.add(fan_out, source, name=f"map {name}", after=after)

    @overload
    def reduce(
        self,
        function: Callable[[list[A]], Awaitable[T]],
        over: Task[list[A]] | Sequence[Task[A]],
        *,
        arity: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task[T]: ...

    @overload
    def reduce(
        self,
        function: Callable[[list[A]], T],
        over: Task[list[A]] | Sequence[Task[A]],
        *,
        arity: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task[T]: ...

    def reduce(
        self,
        function: Callable[[list[Any]], Any],
        over: Task[list[Any]] | Sequence[Task[Any]],
        *,
        arity: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task[Any]:
        """Add a task that joins the results in ``over`` by calling ``function`` on a list of them.

        With ``arity``, at most so many are joined in a call, neighbours first, level by level,
        until one is left; the function must then be associative.
        """
        if arity is not None and arity < 2:
            raise InvalidValue(f"arity is {arity}; give 2 or more")
        name = options.setdefault("name", getattr(function, "__name__", "call"))
        after = options.pop("after", ())

        async def fold(items: list[Any]) -> Any:
            width = arity or max(len(items), 1)
            while True:
                groups = [items[i : i + width] for i in range(0, len(items), width)] or [items]
                joins: list[Task[Any]] = [self.add(function, g, **options) for g in groups]
                items = [await join.result() for join in joins]
                if len(items) == 1:
                    return items[0]

        source = over if isinstance(over, Task) else list(over)
        return self.add(fold, source, name=f"reduce {name}", after=after)

    def _parent(self) -> Task[Any] | None:
        parent = current_task()
        return parent if parent is not None and parent._graph is self else None

    def apply(self, patch: Patch) -> int:
        """Apply a patch, all of it or nothing; return the new version.

        What the patch does not touch is not delayed by it.

        Raises:
            PatchRefused: with the conflicts, one for each operation that can't be applied.
        """
        from orchestrator.editing.patches import apply

        return apply(self, patch)

    def register(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Let patches name this function."""
        self.functions[name or function.__name__] = function

    def note(self, text: str) -> None:
        """Keep a text with the run; with a journal, a later process finds it in ``notes``.

        It is kept in order with ends and edits: what is found there has all that came before it.
        """
        self.notes.append(text)
        if self.scheduler.journal is not None:
            self.scheduler.journal.noted(text)

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
