"""A run: one problem, one strategy, and the threads of reasoning that it opens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

import anyio.lowlevel

from orchestrator import EventStream, Task, TaskGraph, current_task
from pruning import Judge, Policy, Tally, majority
from reasoning.backends.base import Backend
from reasoning.language.dialects import Dialect
from reasoning.models.draft import Side
from reasoning.problems import Problem
from reasoning.run.solution import Steering
from reasoning.run.thread import TextGenerated, Thread, Written
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling

T = TypeVar("T")


__all__ = ["Run", "TextGenerated", "Thread", "Written"]


@dataclass(kw_only=True)
class Run:
    """What a strategy is given: a problem, a way to open threads, and the graph that they form."""

    problem: Problem
    backend: Backend
    dialect: Dialect
    max_tokens: int
    """Each thread's context: prompt, appended and generated tokens together."""
    temperature: float = 0.0
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    """Priority, constraint and adapter of every thread."""
    events: EventStream = field(default_factory=EventStream)
    threads: dict[str, Thread] = field(default_factory=dict)
    """By task id, in the order of opening."""
    policy: Policy[Any] | None = None
    """What steers its threads, for strategies that can be steered; None for the strategy's own."""
    judge: Judge | None = None
    draft: Side | None = None
    """A smaller model, for strategies of two."""
    steering: Steering | None = None
    """What the policy did, once it has finished."""
    aside: int = 0
    """Tokens generated beside its threads: answers to probes."""
    emulated: set[str] = field(default_factory=set)
    """What was done in place of what the backend lacks, by name."""
    segments: WeakSet[Segment] = field(default_factory=WeakSet)
    """All that anybody still holds of what was given to its threads or written by them."""

    def __post_init__(self) -> None:
        self.graph = TaskGraph(self.events)

    def spawn(
        self,
        body: Callable[..., Awaitable[T]],
        context: Context,
        *args: Any,
        name: str = "thread",
        kind: Callable[..., Thread] = Thread,
    ) -> Task[T]:
        """Open a thread on ``context`` and run ``body(thread, *args)`` as a task of the graph.

        The thread is closed when the body ends, whatever the way.
        """

        # The graph keeps its tasks' functions; what a thread sees must not live as long.
        held = [partial(kind, context=context)]
        del context, kind

        async def task(*values: Any) -> T:
            current = current_task()
            assert current is not None
            with self._opened(held.pop()(run=self, task=current)) as thread:
                return await body(thread, *values)

        return self.graph.add(task, *args, name=name)

    def go_on(self, context: Context, **options: Any) -> AbstractContextManager[Thread]:
        """Open a thread in the current task, which has waited for others and joins them here."""
        current = current_task()
        assert current is not None
        return self._opened(Thread(run=self, task=current, context=context, inside=True, **options))

    @contextmanager
    def _opened(self, thread: Thread) -> Iterator[Thread]:
        self.threads[thread.task.id] = thread
        try:
            yield thread
        finally:
            thread.close()

    def join(self, base: Context, ends: Sequence[Context]) -> Context:
        """``base`` and all that its branches added, their keys and values reused.

        Where the backend can't do that, the branches' text is put one after the other instead.
        """
        if "kv-join" in self.backend.capabilities:
            return base.join(ends)
        self.emulated.add("text-join")
        return base.then([token for end in ends for token in end.tokens[len(base) :]])

    @property
    def reserve(self) -> int:
        """What threads leave of their context to the one that joins them: an eighth."""
        return self.max_tokens // 8

    async def ended(self, tasks: Sequence[Task[Any]]) -> None:
        """Wait in a task for threads that depend on each other, and follow all of them.

        If one fails, the others are stopped and its error is raised.
        """
        own = current_task()
        assert own is not None

        def look(task: Task[Any]) -> None:
            for other in tasks if task.state == "failed" else ():
                other.cancel()

        for task in tasks:
            task.on_end(look)
        for task in tasks:
            await task.wait()
            own.follow(task)
        for task in tasks:
            if task.state == "failed":
                _ = task.value

    async def caught_up(self, thread: Thread) -> None:
        """Wait until the others of its gang have read their tokens of the step that stopped it.

        The gang stands still meanwhile, so what is decided then does not depend on how far the
        event loop was behind.
        """

        def is_late(other: Thread) -> bool:
            return other.written < thread.written and not other.task.ended

        gang = [other for other in self.threads.values() if other.gang is thread.gang]
        while thread.gang is not None and any(map(is_late, gang)):
            await anyio.lowlevel.checkpoint()

    async def stop(self, tasks: Sequence[Task[Any]], *, after: Thread) -> None:
        """Stop others of a thread's gang, which stands still, after one step, and wait for them."""
        await self.caught_up(after)
        for task in tasks:
            task.cancel()
        # No edge of the graph, for they may be waiting for whoever stops them.
        while not all(task.ended for task in tasks):
            await anyio.lowlevel.checkpoint()

    def chain(self, task: Task[Any]) -> int:
        """Tokens generated one after the other by those whose end a task has seen, or its parent's.

        It sees the end of tasks that feed it and of its children.
        """
        seen = [*task.after, *(child for child in task.children if child.ended)]
        seen += [] if task.parent is None else [task.parent]
        return max((self.threads[t.id].chain for t in seen if t.id in self.threads), default=0)

    def close(self) -> None:
        """Free the keys and values of all that its threads saw and wrote."""
        self.backend.release(list(self.segments))

    def account(self, thread: Thread, *, inside: bool = False) -> None:
        """Charge a thread for the given tokens that it sees; segments that are shared count once.

        What a thread of the run has written is counted where it was written, and a task that is
        spawned by another, or has waited for others, starts from their span.
        """
        inside = inside or thread.inside or thread.task.parent is not None
        for entry in thread.context.entries:
            if entry.segment not in self.segments:
                self.segments.add(entry.segment)
                thread.task.charge(len(entry))
            elif not inside:
                thread.task.charge(0, shared=len(entry))

    def vote(self, threads: Iterable[Thread]) -> Tally:
        """A majority vote over the threads' answers, equivalent ones together."""
        canonical = self.problem.canonical
        return majority(t.answer and canonical(t.answer) for t in threads)
