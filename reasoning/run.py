"""A run: one problem, one strategy, and the threads of reasoning that it opens."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import anyio.lowlevel

from orchestrator import Event, EventStream, Task, TaskGraph, current_task
from orchestrator.errors import BackendLost
from pruning import Judge, Policy, Tally, majority
from reasoning.backends.base import Backend, Generation, Prompting, Token
from reasoning.context import Context, Gang, Segment
from reasoning.dialects import Dialect
from reasoning.domains import Problem
from reasoning.sampling import Sampling, StopReason
from reasoning.side import Side
from reasoning.solution import Steering

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TextGenerated(Event):
    """A thread wrote ``text``, one token."""

    text: str


class Written(NamedTuple):
    """What a thread wrote until it stopped; a stop by a marker includes the marker."""

    text: str
    reason: StopReason


@dataclass(kw_only=True)
class Thread:
    """One thread of reasoning, open on a backend while its task runs.

    Attributes:
        context: What it sees beside what it writes now.
        opening: What is given to it at its start, as its own first words.
        path: The identity of its own tokens, for models with path vectors; 0 is none.
        stop: Tokens that stop it, beside the dialect's; it may then go on.
        gang: The threads with which it advances in lock-step.
        own: The segment that it writes to, where others had to know it before it was opened.
        reserve: Tokens of its context that it leaves to those who go on from it.
        inside: Whether its task has been waiting for other threads and now goes on with this one.
        text: Everything after its prompt: what it wrote and what was appended.
        given: Prompt, opening and appended tokens.
        written: Tokens that it generated.
        chain: Tokens generated one after the other up to its last one, by those that it was spawned
            by or has waited for and by itself.
        logprob: The sum of their log-probabilities at temperature 1.
        cut: Whether its context had no room for what it had to write or to read.
        lost: Why the backend lost it, if it did; what it wrote until then stands.
    """

    run: Run
    task: Task[Any]
    context: Context
    opening: str = ""
    path: int = 0
    stop: frozenset[int] = frozenset()
    gang: Gang | None = None
    own: Segment | None = None
    inside: bool = False
    reserve: int = 0
    text: str = ""
    given: int = 0
    written: int = 0
    chain: int = 0
    logprob: float = 0.0
    answer: str | None = None
    cut: bool = False
    lost: str | None = None

    def __post_init__(self) -> None:
        run = self.run
        tokens = run.dialect.encode(self.opening) if self.opening else []
        own = self.own
        self.segment = Segment(self.context, tokens, path=self.path) if own is None else own
        tokens = list(self.segment.tokens)  # before the backend adds to them
        run.segments.add(self.segment)
        self._read = 0
        self._generation = self._open()
        self.chain = run.chain(self.task)
        self.decoder = run.dialect.decoder()
        self.given = len(self.context)
        run.account(self)
        self._give(tokens)

    def _open(self) -> Generation:
        run = self.run
        return run.backend.open(
            self.segment,
            self.sampling,
            stop=run.dialect.stop | self.stop,
            limit=self.limit,
            gang=self.gang,
        )

    @property
    def behind(self) -> bool:
        """Whether more was written to its segment than it has read."""
        return len(self.segment) > self._read

    @property
    def limit(self) -> int:
        """Its last position is below this."""
        return self.run.max_tokens - self.reserve

    @property
    def sampling(self) -> Sampling:
        """The run's way of drawing tokens, with this thread's seed."""
        return replace(self.run.sampling, temperature=self.run.temperature, seed=self.seed)

    @property
    def sent(self) -> Prompting | None:
        """What was sent as prompts, on backends that send any."""
        return self._generation if isinstance(self._generation, Prompting) else None

    def _took(self, token: Token) -> None:
        """Called after each token that it wrote, for those who make more of it."""

    @property
    def seed(self) -> int:
        """Follows from the run's seed and the thread's place in the graph, never from timing."""
        return zlib.crc32(f"{self.run.seed}/{self.task.id}".encode())

    async def write(self) -> Written:
        """Generate until the thread stops by itself, at a marker, or at its context's end.

        A thread that the backend loses ends there, so that the run goes on with the others.
        """
        start = len(self.text)
        try:
            reason = await self._write()
        except BackendLost as error:
            reason, self.lost = "lost", str(error)
        self.cut = self.cut or reason == "length"
        return Written(self.text[start:], reason)

    async def _write(self) -> StopReason:
        reason: StopReason = "length"
        async for token in self._generation.tokens():
            self.written += 1
            self._read += 1
            self.chain += 1
            self.logprob += token.logprob
            self.task.charge(1)
            piece = self.decoder.feed(token.token)
            self.text += piece
            self.run.graph.events.emit(TextGenerated(task=self.task.id, text=piece))
            reason = token.reason or reason
            self._took(token)
        return reason

    def append(self, text: str) -> bool:
        """Give the stopped thread more text, which it attends to when it goes on writing.

        Returns False, and appends nothing, where the context has no room to write after it.
        """
        tokens = self.run.dialect.encode(text)
        if self.segment.position + len(tokens) >= self.limit:
            self.cut = True
            return False
        self._generation.extend(tokens)
        self.chain = max(self.chain, self.run.chain(self.task))
        self._give(tokens)
        return True

    def _give(self, tokens: Sequence[int]) -> None:
        self.given += len(tokens)
        self._read += len(tokens)
        self.task.charge(len(tokens))
        for token in tokens:
            self.text += self.decoder.feed(token)

    @property
    def end(self) -> Context:
        """What it sees and has written, for others to start from or to join."""
        return self.context.after(self.segment)

    def resume(self, context: Context, opening: str, *, own: Segment | None = None) -> bool:
        """Let the stopped thread go on in another context, such as a join, after given words.

        Returns False, and changes nothing, where the context has no room to write.
        """
        segment = own if own is not None else Segment(context, self.run.dialect.encode(opening))
        tokens = list(segment.tokens)  # before the backend adds to them
        if segment.position >= self.limit:
            self.cut = True
            return False
        self.context, self.segment, self._read = context, segment, 0
        self.run.segments.add(segment)
        self._generation.resume(segment)
        self.chain = max(self.chain, self.run.chain(self.task))
        self.run.account(self, inside=True)
        self._give(tokens)
        return True

    def conclude(self) -> str | None:
        """Read the answer from the text; None where the thread gave none."""
        self.answer = self.run.dialect.answer(self.run.problem, self.text)
        return self.answer

    def close(self) -> None:
        """Stop at once, free the slot, and let go of what it saw and wrote."""
        self._generation.close()
        self.context = Context()
        self.segment = Segment(self.context)


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

    async def caught_up(self) -> None:
        """Wait until its threads have read what was written, while their gang stands still.

        What is decided then does not depend on how far the event loop was behind.
        """
        while any(thread.behind for thread in self.threads.values()):
            await anyio.lowlevel.checkpoint()

    async def stop(self, tasks: Sequence[Task[Any]]) -> None:
        """Stop threads whose gang stands still once they have caught up; wait for their end."""
        await self.caught_up()
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
