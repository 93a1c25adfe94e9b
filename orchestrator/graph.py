"""The task graph: what people build, run and look at."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from orchestrator.calls import check_keywords, name_of
from orchestrator.editing.functions import Functions, Resolver
from orchestrator.editing.structure import NO_KEYWORDS, After, Call, Structure
from orchestrator.errors import InvalidValue
from orchestrator.events import EventStream
from orchestrator.node import Node, current_node
from orchestrator.options import check_kind, strict
from orchestrator.scheduler.ready_queue import ReadyQueue
from orchestrator.scheduler.run import GraphRun, JournalSettings
from orchestrator.scheduler.scheduler import Scheduler
from orchestrator.settings import PLAIN
from orchestrator.sync import run_sync
from orchestrator.task import Task
from orchestrator.views import accounts
from orchestrator.views.record import FINAL, RunRecord, TaskState
from orchestrator.waiting.fans import folding, mapping

if TYPE_CHECKING:
    import networkx

    from orchestrator.editing.patches import Patch
    from orchestrator.executors.processes import Executor
    from orchestrator.journal.cache import ResultCache
    from orchestrator.scheduler.resources import Resource
    from orchestrator.scheduler.retries import Hedge, Retry, Timeout
    from orchestrator.views.executed import ExecutedGraph

T = TypeVar("T")
A = TypeVar("A")

OPTIONS = (
    "name",
    "after",
    "kwargs",
    "retry",
    "timeout",
    "priority",
    "resources",
    "executor",
    "reserve",
    "key",
    "version",
    "cache",
    "hedge",
)
"""What `TaskGraph.add` takes by keyword for itself, in the order of its parameters."""
Items = Task[list[A]] | Iterable[A] | AsyncIterable[A]
"""What `TaskGraph.map` maps over."""


@strict
class TaskGraph:
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
        events: The stream of what happens.
    """

    def __init__(  # noqa: PLR0913
        self,
        events: EventStream | None = None,
        *,
        name: str = "graph",
        limit: int | None = None,
        resources: Mapping[str, int | Resource] | None = None,
        functions: Iterable[Callable[..., Any]] = (),
        resolver: Resolver | None = None,
        journal: str | Path | None = None,
        resume: bool | Literal["strict"] = False,
        again: Iterable[TaskState] = (),
        seed: int = 0,
        threads: int = 64,
        errors: Literal["all", "first"] = "all",
        keep: Literal["all", "needed"] = "all",
    ) -> None:
        """Make an empty graph.

        Args:
            events: The stream to report to; a new one by default.
            name: Shown to people, and checked when a run is resumed.
            limit: How many tasks may run at once; no limit by default.
            resources: Named resources, such as ``{"gpu": 2}``, and how much there is of each; or
                a `Rate` or `Breaker`, which other graphs may share.
            functions: Those that patches may name, besides by `register`.
            resolver: Finds the functions that patches name and nobody has registered: returns the
                function of a name, or None.
            journal: A file that records the run, so that it can be resumed.
            resume: Whether to go on with the run that the journal holds, if it holds one: build
                the graph, and what has ended does not run again unless its function, its
                arguments or what it takes from others has changed.  ``"strict"`` refuses a graph
                that has changed.
            again: With ``resume``: states that do not count as ended, such as ``("failed",)``.
            seed: Of the jitter of retries.
            threads: How many functions that are not asynchronous run at once.
            errors: What the run raises if several tasks failed and nobody saw it: ``"all"`` in an
                ExceptionGroup, or the ``"first"``.  One failure is raised as itself.
            keep: ``"needed"`` lets go of a value when all that take it have ended; what no task
                takes, and what `run` is asked for, stays.

        Raises:
            InvalidValue: an option can't be used; the message names it.
        """
        check_kind("graph", "name", name, (str,), "a text")
        check_kind("graph", "limit", limit, (int, type(None)), "a whole number of tasks at once")
        check_kind("graph", "journal", journal, (str, Path, type(None)), "a path")
        if resume not in (True, False, "strict"):
            raise InvalidValue(f"graph resume is {resume!r}; give True, False or 'strict'")
        check_kind("graph", "seed", seed, (int,), "a whole number")
        check_kind("graph", "threads", threads, (int,), "a whole number of threads")
        if threads < 1:
            raise InvalidValue(f"threads is {threads}; give 1 or more")
        if errors not in ("all", "first"):
            raise InvalidValue(f"errors is {errors!r}; give 'all' or 'first'")
        if keep not in ("all", "needed"):
            raise InvalidValue(f"keep is {keep!r}; give 'all' or 'needed'")
        if limit is not None and limit < 1:
            raise InvalidValue(f"limit is {limit}; give 1 or more tasks at once")
        again = tuple(again)
        if not FINAL.issuperset(again):
            raise InvalidValue(f"graph again is {again!r}; give some of {', '.join(sorted(FINAL))}")
        self.events = events or EventStream()
        self._nodes: dict[str, Node] = {}
        self._queue = ReadyQueue(limit, resources or {})
        scheduler = Scheduler(self._nodes, self.events, self._queue, seed=seed, threads=threads)
        scheduler.freeing = keep == "needed"
        self._structure = Structure(self, self._nodes, scheduler)
        record = (
            JournalSettings(path=Path(journal), resume=resume, again=again) if journal else None
        )
        self._run = GraphRun(
            name, self._structure, scheduler, Functions(resolver), record, every=errors == "all"
        )
        self._roots = 0
        for function in functions:
            self.register(function)

    @property
    def name(self) -> str:
        """Shown to people, and checked when a run is resumed."""
        return self._run.name

    @property
    def version(self) -> int:
        """Grows with each edit of the graph; see `apply`."""
        return self._structure.version

    @property
    def run_id(self) -> str:
        """Names this run among all; the same when it goes on from its journal."""
        return self._run.id

    @property
    def notes(self) -> Sequence[str]:
        """What was kept with `note`, by earlier processes first."""
        return self._run.notes

    @property
    def tasks(self) -> list[Task[Any]]:
        """All tasks, in the order in which they were added."""
        return [node.task for node in self._nodes.values()]

    def __getitem__(self, id: str) -> Task[Any]:
        return self._nodes[id].task

    def __contains__(self, id: str) -> bool:
        return id in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    # ---- adding tasks --------------------------------------------------------------------------

    @overload
    def add(
        self,
        function: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        name: str | None = None,
        after: After | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int | None = None,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
        key: str | None = None,
        version: str | None = None,
        cache: ResultCache | str | Path | None = None,
        hedge: Hedge | None = None,
        **keywords: Any,
    ) -> Task[T]: ...

    @overload
    def add(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        name: str | None = None,
        after: After | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int | None = None,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
        key: str | None = None,
        version: str | None = None,
        cache: ResultCache | str | Path | None = None,
        hedge: Hedge | None = None,
        **keywords: Any,
    ) -> Task[T]: ...

    def add(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Task[Any]:
        """Add a task that calls ``function(*args, **keywords)``; it starts when it can.

        A `Task` among the arguments, or in a list among them, is an edge: the new task waits for
        it and gets its value, checked against the parameter's annotation.  An asynchronous
        function runs on the event loop and any other in a thread.  Of an asynchronous generator,
        each item is a partial result (see `Task.stream`) and the list of all is the value.

        Added from inside a task, the new one is its child: it is cancelled with its parent, and
        the parent does not end before it.

        Args:
            function: What is called.
            args: Its arguments by position.
            name: Shown to people; the function's name by default.
            after: Tasks to wait for, with conditions if given as a mapping.
            kwargs: Keyword arguments for the function, passed on as they are: for parameters
                that have the name of an option.
            retry: Whether and when to call a failed function again.
            timeout: Limits for queueing, for an attempt, and for going without progress.
            priority: What is ready and has the highest goes first; 0 by default.
            resources: Named resources held while it runs, such as ``{"gpu": 1}``.
            executor: Where the function runs; here by default.
            reserve: What its budgets hold back for it before it starts: ``{"tokens": 512}``.
            key: Names it among its siblings when a run is resumed; by default it is known by its
                function and arguments.
            version: Stands for the function's code when a run is resumed: while it stays the
                same, what has ended does not run again.
            cache: Where results are kept and found by function and arguments: a `ResultCache`, or a
                file's name.
            hedge: When to call a slow function once more beside itself.
            keywords: Keyword arguments for the function.

        Raises:
            InvalidValue: an option can't be used, a keyword is neither an option nor a parameter
                of the function, or an edge can't be.
        """
        if not options:
            return self._put(Call(name_of(function), function, args, NO_KEYWORDS))
        return self._put(self._call(function, args, options))

    @overload
    def map(
        self,
        function: Callable[[A], Awaitable[T]],
        over: Items[A],
        /,
        *,
        name: str | None = None,
        after: After | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int | None = None,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
        key: str | None = None,
        version: str | None = None,
        cache: ResultCache | str | Path | None = None,
        hedge: Hedge | None = None,
        **keywords: Any,
    ) -> Task[list[T]]: ...

    @overload
    def map(
        self,
        function: Callable[[A], T],
        over: Items[A],
        /,
        *,
        name: str | None = None,
        after: After | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int | None = None,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
        key: str | None = None,
        version: str | None = None,
        cache: ResultCache | str | Path | None = None,
        hedge: Hedge | None = None,
        **keywords: Any,
    ) -> Task[list[T]]: ...

    @overload
    def map(
        self,
        function: Callable[..., Awaitable[T]],
        over: Items[Any],
        beside: Items[Any],
        /,
        *more: Items[Any],
        name: str | None = None,
        after: After | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int | None = None,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
        key: str | None = None,
        version: str | None = None,
        cache: ResultCache | str | Path | None = None,
        hedge: Hedge | None = None,
        **keywords: Any,
    ) -> Task[list[T]]: ...

    @overload
    def map(
        self,
        function: Callable[..., T],
        over: Items[Any],
        beside: Items[Any],
        /,
        *more: Items[Any],
        name: str | None = None,
        after: After | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int | None = None,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
        key: str | None = None,
        version: str | None = None,
        cache: ResultCache | str | Path | None = None,
        hedge: Hedge | None = None,
        **keywords: Any,
    ) -> Task[list[T]]: ...

    def map(self, function: Callable[..., Any], /, *over: Any, **options: Any) -> Task[list[Any]]:
        """Add a task that calls ``function`` once for each item of ``over``, side by side.

        The items may be another task's result: how many there are is then known only when it has
        ended.  Of an asynchronous iterable, each is called when it comes.  With several iterables,
        which must be equally long, each call gets an item of each.  The calls are children of the
        new task, whose result is the list of theirs, in the order of the items; `as_completed`
        gives them one by one.  The first call that fails cancels the others.  The options are
        those of `add`, for each call.

        Raises:
            InvalidValue: there is nothing to map over, or an option can't be used.
        """
        if not over:
            raise InvalidValue(f"map of {name_of(function)} has no items; give an iterable")
        call = self._call(function, (None,) * len(over), options)
        sources = tuple(_kept(source, "map") for source in over)
        return self._fan(f"map {call.name}", mapping(self._put, call), sources, call)

    @overload
    def reduce(
        self,
        function: Callable[[list[A]], Awaitable[T]],
        over: Task[list[A]] | Sequence[Task[A]],
        /,
        *,
        arity: int | None = None,
        name: str | None = None,
        after: After | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int | None = None,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
        key: str | None = None,
        version: str | None = None,
        cache: ResultCache | str | Path | None = None,
        hedge: Hedge | None = None,
        **keywords: Any,
    ) -> Task[T]: ...

    @overload
    def reduce(
        self,
        function: Callable[[list[A]], T],
        over: Task[list[A]] | Sequence[Task[A]],
        /,
        *,
        arity: int | None = None,
        name: str | None = None,
        after: After | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retry: Retry | None = None,
        timeout: Timeout | None = None,
        priority: int | None = None,
        resources: Mapping[str, int] | None = None,
        executor: Executor | None = None,
        reserve: Mapping[str, float] | None = None,
        key: str | None = None,
        version: str | None = None,
        cache: ResultCache | str | Path | None = None,
        hedge: Hedge | None = None,
        **keywords: Any,
    ) -> Task[T]: ...

    def reduce(
        self,
        function: Callable[..., Any],
        over: Task[list[Any]] | Sequence[Task[Any]],
        /,
        *,
        arity: int | None = None,
        **options: Any,
    ) -> Task[Any]:
        """Add a task that joins the results in ``over`` by calling ``function`` on a list of them.

        With ``arity``, at most so many are joined in a call, neighbours first, level by level,
        until one is left; the function must then be associative.  The other options are those of
        `add`, for each call.

        Raises:
            InvalidValue: an option can't be used.
        """
        if arity is not None:
            check_kind("option", "arity", arity, (int,), "2 or more")
            if arity < 2:
                raise InvalidValue(f"arity is {arity}; give 2 or more")
        call = self._call(function, (None,), options)
        source = _kept(over, "reduce")
        return self._fan(f"reduce {call.name}", folding(self._put, call, arity), (source,), call)

    @overload
    def receive(
        self,
        name: str,
        kind: type[T],
        /,
        *,
        timeout: float | None = None,
        after: After | None = None,
        key: str | None = None,
    ) -> Task[T]: ...

    @overload
    def receive(
        self,
        name: str,
        kind: Any = Any,
        /,
        *,
        timeout: float | None = None,
        after: After | None = None,
        key: str | None = None,
    ) -> Task[Any]: ...

    def receive(
        self,
        name: str,
        kind: Any = Any,
        /,
        *,
        timeout: float | None = None,
        after: After | None = None,
        key: str | None = None,
    ) -> Task[Any]:
        """Add a task that waits for a value from outside: an approval, a webhook, a process.

        It is given by `complete`: of this graph; of this package, on the journal's file, from any
        process; or by ``reason graph complete FILE NAME VALUE``.  It may be given before the task
        waits for it, or while no process runs the graph.  Whoever waits holds no slot.

        Args:
            name: What the value is given by; tasks that name the same get the same.
            kind: Its annotation.  What does not fit is refused, and the task waits on.
            timeout: Seconds from the first wait for it, resumed runs included; the task then
                fails with a TimeoutError.
            after: See `add`.
            key: See `add`.

        Raises:
            InvalidValue: an option can't be used.
        """
        check_kind("receive", "name", name, (str,), "a text")
        check_kind("receive", "timeout", timeout, (int, float, type(None)), "seconds")
        function = self._run.mailbox.function(name, kind, timeout)
        return self._put(Call(name, function, (), NO_KEYWORDS, after, PLAIN.changed(key=key)))

    def complete(self, name: str, value: Any) -> None:
        """Give the value that tasks made by `receive` wait for under this name, or will.

        Raises:
            AlreadyCompleted: it was given before; the first one counts.
            InvalidValue: it does not fit their annotation.
        """
        self._run.scheduler.here(self._run.mailbox.complete, name, value)

    @property
    def awaited(self) -> Mapping[str, Any]:
        """The names of values from outside that tasks wait for now, with their annotations."""
        return self._run.mailbox.awaited

    def _fan(
        self, name: str, function: Callable[..., Any], sources: tuple[Any, ...], call: Call
    ) -> Task[Any]:
        """Add a task that adds calls: it has what names it among its siblings, they the rest."""
        outer = PLAIN.changed(key=call.settings.key, version=call.settings.version)
        call.settings = replace(call.settings, key=None)
        after, call.after = call.after, None
        return self._put(Call(name, function, sources, NO_KEYWORDS, after, outer))

    def _call(
        self, function: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]
    ) -> Call:
        """A call with options and keywords of its function, checked."""
        options = {option: given.get(option) for option in OPTIONS}
        keywords = {name: value for name, value in given.items() if name not in options}
        check_keywords(function, len(args), options, keywords)
        name, after, kwargs = (options.pop(option) for option in ("name", "after", "kwargs"))
        check_kind("option", "name", name or "", (str,), "a text")
        check_kind("option", "kwargs", kwargs or {}, (Mapping,), "names with values")
        for twice in keywords.keys() & (kwargs or {}):
            raise InvalidValue(f"{twice!r} is given as a keyword and in kwargs; give it once")
        settings = PLAIN.changed(**options)
        name = name or name_of(function)
        self._queue.check(settings.resources, name)
        kwargs = {**(kwargs or {}), **keywords} or NO_KEYWORDS
        return Call(name, function, args, kwargs, after, settings)

    def _put(self, call: Call) -> Task[Any]:
        """Add a task; from another thread, on the event loop."""
        return self._run.scheduler.here(self._place, call)

    def _place(self, call: Call) -> Task[Any]:
        parent = current_node.get()
        if parent is None or parent.graph is not self:
            parent = None
            self._roots += 1
            id = str(self._roots)
        else:
            parent.spawned += 1
            id = f"{parent.id}.{parent.spawned}"
        node = self._structure.create(id, parent, call.unwrapped())
        self._run.admit(node)
        return node.task

    # ---- edits ---------------------------------------------------------------------------------

    def apply(self, patch: Patch) -> int:
        """Apply a patch, all of it or nothing; return the new version.

        What the patch does not touch is not delayed by it.

        Raises:
            PatchRefused: with the conflicts, one for each operation that can't be applied.
        """
        from orchestrator.editing.patches import apply

        return self._run.scheduler.here(apply, self._run, patch)

    def register(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Let patches name this function."""
        self._run.functions.register(function, name)

    def note(self, text: str) -> None:
        """Keep a text with the run; with a journal, a later process finds it in ``notes``.

        It is kept in order with ends and edits: what is found there has all that came before it.
        """
        self._run.scheduler.here(self._run.note, text)

    # ---- running -------------------------------------------------------------------------------

    @overload
    async def run(self, target: Task[T]) -> T: ...

    @overload
    async def run(self) -> None: ...

    async def run(self, target: Task[T] | None = None) -> T | None:
        """Run every task; return the value of ``target``, if given.

        Raises:
            Exception: the failure that nobody awaited, after all tasks have ended.
            ExceptionGroup: all such failures, if there are several and not ``errors="first"``.
        """
        if target is not None:
            self._run.scheduler.wanted.add(self._structure.node_of(target))
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
        value: T | None = run_sync(partial(run, target))
        return value

    async def __aenter__(self) -> Self:
        await self._run.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._run.end(error)

    # ---- what can be seen of it ----------------------------------------------------------------

    def states(self) -> dict[str, TaskState]:
        """The state of each task, by id."""
        return {node.id: node.state for node in self._nodes.values()}

    @property
    def work(self) -> int:
        """The cost of all tasks, cancelled ones included."""
        return accounts.work(self._nodes.values())

    @property
    def span(self) -> int:
        """The cost along the longest dependent chain of what succeeded; of all if nothing did."""
        return accounts.span(self._nodes.values())

    def record(self) -> RunRecord:
        """The graph as executed so far."""
        return accounts.record(self._run)

    def executed(self) -> ExecutedGraph:
        """The graph as executed so far, as a value to keep and to compare: times stand apart."""
        from orchestrator.journal.history import executed_so_far

        return executed_so_far(self._run)

    def to_networkx(self) -> networkx.DiGraph[str]:
        """The graph as executed, as a directed graph of networkx."""
        from orchestrator.views.diagrams import to_networkx

        return to_networkx(self.record())

    def to_mermaid(self, *, most: int = 100) -> str:
        """The graph as executed, as a Mermaid flowchart of at most ``most`` nodes."""
        from orchestrator.views.diagrams import to_mermaid

        return to_mermaid(self.record(), most=most)

    def to_dot(self, *, most: int = 100) -> str:
        """The graph as executed, for Graphviz, in at most ``most`` nodes."""
        from orchestrator.views.diagrams import to_dot

        return to_dot(self.record(), most=most)

    def to_json(self) -> str:
        """The record as JSON; `views.diagrams.from_json` reads it."""
        from orchestrator.views.diagrams import to_json

        return to_json(self.record())

    def to_html(self) -> str:
        """A self-contained page with the run's timeline."""
        from orchestrator.views.timeline import to_html

        return to_html(self.record())

    def _repr_html_(self) -> str:
        from orchestrator.views.timeline import to_fragment

        return to_fragment(self.record())


def _kept(source: Any, what: str) -> Any:
    """What is mapped over, so that it can be read once more: a task, a list, or as it comes."""
    if isinstance(source, (Task, AsyncIterable)):
        return source
    if not isinstance(source, Iterable):
        raise InvalidValue(f"{what} got {source!r}; give an iterable, or a task that returns one")
    return list(source)
