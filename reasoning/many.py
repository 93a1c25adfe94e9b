"""Many questions under one budget: each is a run of its own, and all sample in common rounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import anyio

from pruning import Allocation, Allocator, Policy, ProbedConsensus, QuestionState, Tally
from reasoning.options import BatchOptions, SolveOptions
from reasoning.problems import Problem
from reasoning.run.driver import Driver
from reasoning.run.selection import select
from reasoning.run.solution import Solution
from reasoning.run.thread import Thread
from reasoning.strategies.base import Strategy
from reasoning.strategies.sampling import answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reasoning.run.run import Run


@dataclass(kw_only=True)
class CommonRounds:
    """The rounds of a batch: a question waits here until all others of its round have ended.

    Attributes:
        questions: All of them, by any name.
        begin: What steers each question in the first round; None where that has a number of
            samples.
        held: How many rounds there were.
        slots: One for each sample that is drawn.
        begins: One for each question that ``begin`` steers.
    """

    allocation: Allocation
    questions: Sequence[str]
    parallel: int
    held: int = 0

    def __post_init__(self) -> None:
        states = {name: QuestionState(most=self.allocation.most) for name in self.questions}
        self.begin = None if self.allocation.first else ProbedConsensus()
        self.slots = anyio.Semaphore(self.parallel)
        width = 1 if self.begin is None else self.begin.most
        self.begins = anyio.Semaphore(max(1, self.parallel // width))
        self._stopped = 0
        self._allocator = Allocator(states=states)
        self._open = set(self.questions)
        self._waiting: set[str] = set()
        self._counts: Mapping[str, int] = {}
        self._budget = 0.0
        self._over = False
        self._planned = anyio.Event()

    @contextmanager
    def taking_part(self, question: str) -> Iterator[None]:
        """A question that has left, whatever the way, is waited for no more."""
        try:
            yield
        finally:
            state = self._allocator.states[question]
            state.most = state.samples
            self._open.discard(question)
            self._waiting.discard(question)
            self._plan()

    async def count(self, question: str) -> int:
        """How many samples to draw in its next round; 0 where there is none."""
        self._waiting.add(question)
        self._plan()
        while question in self._waiting and not self._over:
            await self._planned.wait()
        return 0 if self._over else self._counts[question]

    def tell(self, question: str, key: str | None, tokens: int) -> None:
        """Take in one sample."""
        self._allocator.tell(question, key, tokens)

    def tell_stopped(self, question: str, lengths: Sequence[int]) -> None:
        """Take in samples that were stopped: they are paid for, and have no vote."""
        state = self._allocator.states[question]
        state.most = max(state.samples, (state.most or 0) - len(lengths))
        self._stopped += sum(lengths)

    def _plan(self) -> None:
        """Begin the next round, once nobody samples any more."""
        if self._over or self._waiting != self._open:
            return
        counts = self._next()
        self._counts = {name: count for name, count in counts.items() if name in self._open}
        self._over = not self._counts
        self._waiting -= self._counts.keys()
        self.held += not self._over
        self._planned.set()
        self._planned = anyio.Event()

    def _next(self) -> Mapping[str, int]:
        allocation = self.allocation
        states = self._allocator.states
        if not self.held and self.begin is None:
            return dict.fromkeys(self.questions, allocation.first)
        self.held = max(1, self.held)  # what steered each question was the first round
        if self.held == 1:
            self._budget = allocation.mean * self._allocator.mean_cost * len(states)
        rounds = allocation.rounds + 1 - self.held
        left = self._budget - self._stopped - sum(state.cost for state in states.values())
        if rounds < 1 or left <= 0:
            return {}
        return self._allocator.next_round(left / rounds) or self._allocator.next_round(left)


@dataclass(frozen=True, kw_only=True)
class Allotted(Strategy):
    """Samples of one prompt and a vote, as many in each round as the batch allots."""

    name: ClassVar[str] = "allotted"
    default_temperature: ClassVar[float] = 0.7

    question: str
    rounds: CommonRounds = field(repr=False)

    async def solve(self, run: Run) -> Tally:
        prompt, voting = run.dialect.prompt(run.problem), list[Thread]()
        async with run.graph:
            if self.rounds.begin is not None:
                voting += await self._begin(run, self.rounds.begin)
            drawn = len(self._samples(run))
            while count := await self.rounds.count(self.question):
                samples = [run.spawn(self._sample, prompt, name="sample") for _ in range(count)]
                for sample in samples:
                    await sample.wait()
                for thread in self._samples(run)[drawn:]:
                    self.rounds.tell(self.question, run.key(thread.answer), thread.written)
                    voting.append(thread)
                drawn = len(self._samples(run))
            await select(run, voting)
        return run.vote(voting)

    def _samples(self, run: Run) -> list[Thread]:
        return [thread for thread in run.threads.values() if "." not in thread.task.id]

    async def _begin(self, run: Run, policy: Policy[Any]) -> list[Thread]:
        """Let a policy steer the first round; returns the threads that ended, and vote on."""
        async with self.rounds.begins:
            driver = Driver(run=run, policy=policy)
            run.steering = await driver.steer()
        ended = [trace for trace in driver.traces if trace.how == "finished"]
        for trace in ended:
            self.rounds.tell(self.question, trace.key, trace.written)
        others = [trace.written for trace in driver.traces if trace.how != "finished"]
        self.rounds.tell_stopped(self.question, others)
        return [trace.thread for trace in ended if trace.thread is not None]

    async def _sample(self, thread: Thread) -> None:
        async with self.rounds.slots:
            await answer(thread)


@dataclass(kw_only=True)
class Batch:
    """Many problems, solved together; call `run` once.

    Attributes:
        solve: Solves one of them.
    """

    solve: Callable[[str | Problem, SolveOptions], Awaitable[Solution]]
    problems: Sequence[str | Problem]
    options: BatchOptions

    def __post_init__(self) -> None:
        self._names = [str(place) for place in range(len(self.problems))]
        self._rounds = CommonRounds(
            allocation=self.options.spread,
            questions=self._names,
            parallel=self.options.parallel,
        )
        self._scopes = [anyio.CancelScope() for _ in self.problems]
        self._found: dict[int, Solution] = {}
        self._failures: list[Exception] = []

    async def run(self) -> list[Solution]:
        """The solutions in order; the first failure is raised once all runs have ended."""
        async with anyio.create_task_group() as watch:
            watch.start_soon(self._end_with_the_scope)
            async with anyio.create_task_group() as group:
                for place in range(len(self.problems)):
                    group.start_soon(self._one, place)
            watch.cancel_scope.cancel()
        if self._failures:
            raise self._failures[0]
        return [self._found[place] for place in range(len(self.problems))]

    async def _one(self, place: int) -> None:
        name, options = self._names[place], self.options
        try:
            with self._rounds.taking_part(name):
                asked = options.each(
                    strategy=Allotted(question=name, rounds=self._rounds),
                    seed=options.seed + place,
                    cancel_scope=self._scopes[place],
                    timeout=None,
                )
                self._found[place] = await self.solve(self.problems[place], asked)
        except Exception as error:  # told when the others have ended
            self._failures.append(error)
            self._stop()

    async def _end_with_the_scope(self) -> None:
        scope = self.options.cancel_scope or anyio.CancelScope()
        with anyio.move_on_after(self.options.timeout), scope:
            await anyio.sleep_forever()
        self._stop()

    def _stop(self) -> None:
        for scope in self._scopes:
            scope.cancel()
