"""A run: one problem, one strategy, and the threads of reasoning that it opens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any, TypeVar
from weakref import WeakSet

import anyio
import anyio.to_thread

from orchestrator import Event, EventStream, Task, TaskGraph, current_task
from pruning import Judge, Policy, Scorer, Tally, majority
from reasoning.backends.base import Backend
from reasoning.language.dialect import Dialect
from reasoning.language.steps import final_part
from reasoning.models.loaded import LoadedModel
from reasoning.problems import FreeForm, Problem
from reasoning.problems.equality.algebra import Equivalence
from reasoning.run.election import Election
from reasoning.run.joining import Part, level, parts_of, shortened
from reasoning.run.solution import AnswerTree, SelectedBy, Steering
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.values.accounting import BlockTokens, ParallelStats
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling

T = TypeVar("T")

PLAIN = ThreadOptions()
MARK = 4
"""Tokens of the mark of a text that was shortened."""
NO_ROOM = "the context has no room for it"


@dataclass(frozen=True, kw_only=True)
class ForkRefused(Event):
    """A thread asked for a fork, or a part of one, that was not made."""

    reason: str


class Changes:
    """Wakes those who wait for something in a run to become true."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def tell(self, _: object = None) -> None:
        """Something changed: whoever waits looks again."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()`` holds; it is asked again after each change."""
        while not condition():
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()


@dataclass(kw_only=True)
class Run:
    """What a strategy is given: a problem, a way to open threads, and the graph that they form.

    Attributes:
        name: Tells its threads from those of other runs.
        model: The model's name.
        max_tokens: Each thread's context: prompt, appended and generated tokens together.
        temperature: Of every thread; None is the server's own.
        ends_repetition: Whether a thread ends that repeats itself without end.
        sampling: How tokens of every thread are drawn, its seed and temperature aside.
        threads: By task id, in the order of opening.
        policy: What steers its threads, for strategies that can be steered; None for the
            strategy's own.
        scorer: Says how good an answer is, for those who ask; None where the verifier alone can.
        draft: A smaller model, for strategies of two.
        memory: What such strategies have learnt of the two, by policy, for the runs after this one.
        steering: What the policy did, once it has finished.
        tree: The answers that a tree search went through so far.
        probe_tokens: Tokens generated beside its threads: answers to probes.
        emulated: What was done in place of what the backend lacks or has no room for, by name.
        join_skipped: Why the thread that was to conclude from the others gave no answer.
        fork_refused: Why a fork that a thread asked for was not made; the last one.
        refusals: All of these, with the thread.
        forked: Whether any thread forked; None where the strategy leaves that to no model.
        election: What happens where votes decide nothing.
        selected: The key that was chosen where they did not, and how.
        segments: All that anybody still holds of what was given to its threads or written by them.
        equivalence: Which of the answers' keys are one; None where equal strings alone are.
        changes: Told of each token that a thread read and of each task that ended.
        blocks: Its merged response, counted by the model's own tags, for `ParallelStats`.
    """

    problem: Problem
    backend: Backend
    dialect: Dialect
    max_tokens: int
    temperature: float | None = 0.0
    seed: int = 0
    ends_repetition: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    events: EventStream = field(default_factory=EventStream)
    threads: dict[str, Thread] = field(default_factory=dict)
    policy: Policy[Any] | None = None
    judge: Judge | None = None
    scorer: Scorer | None = None
    draft: LoadedModel | None = None
    model: str = ""
    name: str = field(default_factory=lambda: token_hex(8))
    memory: dict[str, Any] = field(default_factory=dict)
    steering: Steering | None = None
    tree: AnswerTree | None = None
    probe_tokens: int = 0
    emulated: set[str] = field(default_factory=set)
    join_skipped: str | None = None
    fork_refused: str | None = None
    refusals: list[str] = field(default_factory=list)
    forked: bool | None = None
    election: Election = field(default_factory=Election)
    selected: tuple[str, SelectedBy] | None = None
    segments: WeakSet[Segment] = field(default_factory=WeakSet)
    changes: Changes = field(default_factory=Changes)
    blocks: BlockTokens | None = None

    def __post_init__(self) -> None:
        free = isinstance(self.problem, FreeForm) and self.problem.checker is None
        self.equivalence = Equivalence(self.problem.question) if free else None
        self.graph = TaskGraph(self.events, errors="first")

    @property
    def began(self) -> bool:
        """Whether anything was generated yet."""
        return any(thread.written for thread in self.threads.values())

    def spawn(
        self,
        body: Callable[..., Awaitable[T]],
        context: Context,
        *args: Any,
        name: str = "thread",
        options: ThreadOptions = PLAIN,
    ) -> Task[T]:
        """Open a thread on ``context`` and run ``body(thread, *args)`` as a task of the graph.

        The thread is closed when the body ends, whatever the way.
        """
        # The graph keeps its tasks' functions; what a thread sees must not live as long.
        pending = [(context, options)]

        async def task(*values: Any) -> T:
            with self.go_on(*pending.pop(), inside=False) as thread:
                return await body(thread, *values)

        return self.graph.add(task, *args, name=name)

    @contextmanager
    def go_on(
        self, context: Context, options: ThreadOptions = PLAIN, *, inside: bool = True
    ) -> Iterator[Thread]:
        """Open a thread in the current task, usually one that has waited for others and joins them.

        ``inside`` is False for a task that has not waited, and starts with this thread.
        """
        task = current_task()
        assert task is not None
        segment = options.segment
        if segment is None:
            given = self.dialect.encode(options.opening) if options.opening else []
            segment = Segment(context, given, path=options.path)
        self.segments.add(segment)
        thread = Thread(
            run=self,
            task=task,
            context=context,
            segment=segment,
            decoder=self.dialect.decoder(),
            options=replace(options, segment=None),
            inside=inside,
            given=len(context),
        )
        thread.chain, thread.longest = self.chain(task)
        thread.begins.append((thread.chain, 0))
        del context, options, segment  # what a thread saw is freed when it is closed
        thread.generate()
        self.account(thread)
        self.threads[task.id] = thread
        try:
            if thread.options.gang is not None:
                task.on_end(self.changes.tell)
            yield thread
        finally:
            thread.close()

    async def conclude(self, context: Context, options: ThreadOptions) -> None:
        """Write the answer in the current task, over what others have written.

        Where that gives none, because there was no room for it or for another reason, the reason is
        `join_skipped`, and the run has what its threads have.
        """
        with self.go_on(context, options) as thread:
            await thread.write()
            thread.conclude()
            others = [other for other in self.threads.values() if other is not thread]
            if not thread.written or (thread.answer is None and any(o.answer for o in others)):
                self.skip_join(_why_no_answer(thread))

    def skip_join(self, reason: str) -> None:
        """Note why the thread that was to conclude from the others did not."""
        self.emulated.add("join-skipped")
        self.join_skipped = reason

    def refuse_fork(self, task: Task[Any], reason: str) -> None:
        """Note why a fork that a task asked for was not made, or not made as it asked."""
        self.fork_refused = reason
        self.refusals.append(f"thread {task.id}: {reason}")
        self.graph.events.emit(ForkRefused(task=task.id, reason=reason))

    def join(self, base: Context, ends: Sequence[Context], opening: str = "") -> Context:
        """``base`` and all that its branches added, their keys and values reused.

        Where the backend can't do that, the branches' text is put one after the other instead,
        without their thoughts, and shortened (``paths-cut``) so that ``opening`` and an answer have
        room behind it.
        """
        if "kv-join" in self.backend.capabilities:
            return base.join(ends)
        self.emulated.add("text-join")
        parts = parts_of(self.dialect, base, ends)
        return base.then(self.fitting(parts, self.room_behind(base, opening), shortened))

    def fitting(
        self, parts: list[Part], room: int, shorten: Callable[[Sequence[Part], int], list[Part]]
    ) -> list[int]:
        """The tokens of parts, shortened where they have no room."""
        if sum(map(len, parts)) > room:
            self.emulated.add("paths-cut")
            parts = shorten(parts, room)
        return [token for part in parts for token in (*part.given, *part.written)]

    def room_behind(self, base: Context, opening: str) -> int:
        """How many tokens may stand between a context and what opens an answer to it."""
        asked = len(self.dialect.encode(opening)) if opening else 0
        return self.max_tokens - self.reserve - len(base) - asked

    def fitting_texts(self, texts: Sequence[str], room: int) -> list[str]:
        """Texts, the ends of the longest of them only, so that they have about ``room`` tokens."""
        said = [final_part(text).strip() for text in texts]
        lengths = [len(self.dialect.encode(text)) for text in said]
        most = level(lengths, room - MARK * len(texts))
        if most >= max(lengths, default=0):
            return said
        self.emulated.add("paths-cut")
        return [
            text if length <= most else f"[...] {text[len(text) - len(text) * most // length :]}"
            for text, length in zip(said, lengths, strict=True)
        ]

    @property
    def reserve(self) -> int:
        """How many tokens of its context a thread leaves to the one that joins it: an eighth."""
        return self.max_tokens // 8

    async def ended(self, tasks: Sequence[Task[Any]]) -> None:
        """Wait in a task for threads that depend on each other, and follow all of them.

        If one fails, the others are stopped and its error is raised.
        """
        own = current_task()
        assert own is not None

        def stop_others(task: Task[Any]) -> None:
            for other in tasks if task.state == "failed" else ():
                other.cancel()

        for task in tasks:
            task.on_end(stop_others)
        for task in tasks:
            await task.wait()
            own.follow(task)
        for task in tasks:
            if task.state == "failed":
                _ = task.value

    async def turn(self, thread: Thread) -> None:
        """Wait until a thread that has stopped is next to decide something in its gang.

        A gang's clock counts tokens: whoever stopped after fewer is first, then whoever was opened
        first.  So nothing depends on how late the event loop was or, where the gang can't stand
        still, on who writes how fast.  Other threads are without a gang, and wait for nobody.
        """
        gang = thread.options.gang
        if gang is None:
            return

        thread.stands = True

        def is_next() -> bool:
            members = [one for one in self.threads.values() if one.options.gang is gang]
            own = members.index(thread)
            return len(members) >= gang.size and all(
                one is thread or one.task.ended or _is_behind(thread, one, later=place > own)
                for place, one in enumerate(members)
            )

        await self.changes.until(is_next)

    async def stop(self, tasks: Sequence[Task[Any]], *, after: Thread) -> None:
        """Stop tasks of a thread's gang where they were when it had its turn; wait for their ends.

        What they have written beyond that point is dropped.
        """
        await self.turn(after)
        for task in tasks:
            if task.id in self.threads and not task.ended:
                self.threads[task.id].cut_behind(after.written)
            task.cancel()
            task.on_end(self.changes.tell)
        # No edge of the graph, for they may be waiting for whoever stops them.
        await self.changes.until(lambda: all(task.ended for task in tasks))

    def chain(self, task: Task[Any]) -> tuple[int, int]:
        """The longest chain of generated tokens that a task depends on so far; and with given ones.

        It depends on the tasks that feed it, on its parent, and on its children that have ended.
        """
        seen = [*task.after, *(child for child in task.children if child.ended)]
        seen += [] if task.parent is None else [task.parent]
        known = [self.threads[one.id] for one in seen if one.id in self.threads]
        chain = max((thread.chain for thread in known), default=0)
        return chain, max((thread.longest for thread in known), default=0)

    @property
    def parallel(self) -> ParallelStats:
        """What its branches cost and saved, that is threads which another spawned, or all of
        several at the top; where its strategy has counted ``blocks``, these hold.
        """
        threads = self.threads.values()
        roots = sum(thread.task.parent is None for thread in threads)
        branches = [one for one in threads if one.task.parent is not None or roots > 1]
        counted = self.blocks or BlockTokens(
            tokens=sum(thread.said for thread in threads),
            longest_thread=max((thread.longest for thread in threads), default=0),
            parallel_tokens=sum(thread.said for thread in branches),
        )
        return ParallelStats(
            tokens=counted.tokens,
            longest_thread=counted.longest_thread,
            parallel_tokens=counted.parallel_tokens,
            written=sum(thread.written for thread in threads),
            critical_path=max((thread.chain for thread in threads), default=0),
        )

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

    @property
    def decided(self) -> bool:
        """Whether an answer was chosen otherwise than by votes, and not as the first."""
        return self.selected is not None and self.selected[1] != "first"

    @property
    def merged_keys(self) -> dict[str, str]:
        """The keys that vote under another one's name, because algebra says that they are one."""
        return {} if self.equivalence is None else dict(self.equivalence.merged)

    async def score(self, thread: Thread, scorer: Scorer | None) -> float | None:
        """How good a thread's answer is: by a scorer, or without one by the problem's verifier.

        None for a thread without an answer, and where there is neither.

        Raises:
            InvalidValue: the scorer failed, or gave no finite number.
            BackendLost: it is a server that can't be asked.
        """
        if thread.answer is None:
            return None
        if scorer is None:
            verdict = self.problem.verify(thread.answer)
            return None if verdict is None else float(verdict.ok)
        asked = self.problem.question, thread.text, thread.answer
        return await anyio.to_thread.run_sync(scorer, *asked, abandon_on_cancel=True)

    def key(self, answer: str | None) -> str | None:
        """The key that an answer votes with, as far as it was compared; None abstains."""
        key = answer and self.problem.canonical(answer)
        return key if key is None or self.equivalence is None else self.equivalence.known(key)

    async def compared_key(self, answer: str | None) -> str | None:
        """The key that an answer votes with, once it is compared with those before it."""
        key = self.key(answer)
        return key if not key or self.equivalence is None else await self.equivalence.of(key)

    async def merged(self, tally: Tally) -> Tally:
        """A tally in which the votes of keys that are one answer are counted together."""
        if self.equivalence is None:
            return tally
        names = {key: await self.equivalence.of(key) for key in tally.votes}
        if self.equivalence.limited:
            self.emulated.add("comparisons-limited")
        if all(name == key for key, name in names.items()):
            return tally
        if self.selected is not None:
            self.selected = names[self.selected[0]], self.selected[1]
        cast = [names[key] for key, votes in tally.votes.items() for _ in range(votes)]
        return majority([*cast, *[None] * tally.abstained])

    def vote(self, threads: Iterable[Thread]) -> Tally:
        """A majority vote over the threads' answers, equivalent ones together."""
        return majority(self.key(thread.answer) for thread in threads)


def _is_behind(first: Thread, other: Thread, *, later: bool) -> bool:
    """Whether another thread of a gang can't stop before the first one; ``later`` breaks ties."""
    if other.stands:
        return (first.written, not later) < (other.written, later)
    return other.written >= first.written


def scorer_name(scorer: Scorer | None) -> str:
    """What a result calls who scores: a scorer's own name, or ``verifier`` where there is none."""
    if scorer is None:
        return "verifier"
    known = getattr(scorer, "name", None) or getattr(scorer, "__qualname__", None)
    return str(known or type(scorer).__qualname__)


def _why_no_answer(thread: Thread) -> str:
    """Why a thread that was to conclude from others gave no answer."""
    if thread.lost is not None:
        return f"it was lost: {thread.lost}"
    if thread.cut and not thread.written:
        return NO_ROOM
    return "it was cut" if thread.cut else "it gave no answer"
