"""Many questions under one budget: each is a run of its own, and all sample in common rounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import anyio

from pruning import Allocation, Allocator, QuestionState, Tally
from reasoning.options import BatchOptions, SolveOptions
from reasoning.problems import Problem
from reasoning.run.selection import select
from reasoning.run.solution import Solution
from reasoning.strategies.base import Strategy
from reasoning.strategies.sampling import answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reasoning.run.run import Run
    from reasoning.run.thread import Thread


@dataclass(kw_only=True)
class CommonRounds:
    """The rounds of a batch: a question waits here until all others of its round have ended.

    Attributes:
        questions: All of them, by any name.
        held: How many rounds there were.
    """

    allocation: Allocation
    questions: Sequence[str]
    parallel: int
    held: int = 0

    def __post_init__(self) -> None:
        states = {name: QuestionState(most=self.allocation.most) for name in self.questions}
        self.slots = anyio.Semaphore(self.parallel)
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
        if not self.held:
            return dict.fromkeys(self.questions, allocation.first)
        if self.held == 1:
            self._budget = allocation.mean * self._allocator.mean_cost * len(states)
        rounds = allocation.rounds + 1 - self.held
        left = self._budget - sum(state.cost for state in states.values())
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
        prompt, told = run.dialect.prompt(run.problem), 0
        async with run.graph:
            while count := await self.rounds.count(self.question):
                samples = [run.spawn(self._sample, prompt, name="sample") for _ in range(count)]
                for sample in samples:
                    await sample.wait()
                threads = [thread for thread in run.threads.values() if "." not in thread.task.id]
                for thread in threads[told:]:
                    self.rounds.tell(self.question, run.key(thread.answer), thread.written)
                told = len(threads)
            await select(run, [*run.threads.values()])
        return self.tally(run)

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
