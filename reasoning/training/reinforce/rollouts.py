"""Runs of a strategy with all that their threads sampled, and what each run is worth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import anyio

from reasoning.backends.base import Backend, Generation, Token
from reasoning.errors import CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.problems import Countdown
from reasoning.run.solution import Solution
from reasoning.solver import Reasoner
from reasoning.training.demonstrations import kept_out
from reasoning.training.reinforce.recipe import ReinforceRecipe
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import Sampling


@dataclass(kw_only=True)
class SampledThread:
    """One thread's tokens in order.

    Attributes:
        logprobs: Of each token when it was sampled; None for one that was given.
    """

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)

    def give(self, tokens: Sequence[int]) -> None:
        """Append tokens that were not sampled."""
        self.tokens += tokens
        self.logprobs += [None] * len(tokens)

    def take(self, token: int, logprob: float) -> None:
        """Append a sampled token."""
        self.tokens.append(token)
        self.logprobs.append(logprob)

    @property
    def sampled(self) -> list[float]:
        """The log-probabilities of its sampled tokens."""
        return [one for one in self.logprobs if one is not None]


class Recorder(Backend):
    """Another backend, already entered, of which it keeps what every thread sampled."""

    def __init__(self, backend: Backend, ends: Callable[[SampledThread], bool]) -> None:
        """``ends`` says after each sampled token whether its thread is cut there."""
        self._backend = backend
        self._ends = ends
        self.capabilities = backend.capabilities
        self.exact = backend.exact
        self.threads: list[SampledThread] = []

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> Generation:
        thread = SampledThread()
        thread.give([*segment.context.tokens, *segment.tokens])
        self.threads.append(thread)
        inner = self._backend.open(segment, sampling, stop=stop, limit=limit, gang=gang)
        return _RecordedGeneration(inner, thread, self._ends)

    def release(self, segments: Sequence[Segment]) -> None:
        self._backend.release(segments)


class _RecordedGeneration(Generation):
    def __init__(
        self, inner: Generation, thread: SampledThread, ends: Callable[[SampledThread], bool]
    ) -> None:
        self._inner = inner
        self._thread = thread
        self._ends = ends

    async def tokens(self) -> AsyncIterator[Token]:
        async for token in self._inner.tokens():
            self._thread.take(token.token, token.logprob)
            if self._ends(self._thread):
                yield token._replace(reason="length")
                return
            yield token

    def extend(self, tokens: Sequence[int]) -> None:
        self._inner.extend(tokens)
        self._thread.give(tokens)

    def resume(self, segment: Segment) -> None:
        raise CapabilityMissing("threads that are moved can't be learned from; use apr or single")

    def close(self) -> None:
        self._inner.close()


class Rollout(NamedTuple):
    """One run: its threads, what it is worth, and what it came to.

    Attributes:
        reward: As `reward_of`.
        hopeless: Whether it was ended early, as one that counts as wrong.
        advantage: The reward less the mean of its group.
    """

    threads: list[SampledThread]
    reward: float
    right: bool
    span: int
    work: int
    hopeless: bool = False
    advantage: float = 0.0


class Group(NamedTuple):
    """Runs of one problem.

    Attributes:
        unlearnable: Why nothing is learned from it; empty where something is.
    """

    rollouts: list[Rollout]
    unlearnable: str = ""


def reward_of(solution: Solution, recipe: ReinforceRecipe) -> float:
    """1 for a verified answer and up to ``span_bonus`` more for a short critical path; else 0.

    As P-GRPO's reward (ThreadWeaver, arXiv 2512.07843), but the path is held against the context
    that the threads of its chain have, not against the work, which a model could raise.
    """
    assert isinstance(solution.problem, Countdown)
    if not solution.verified:
        return 0.0
    most = recipe.context * max(1, len(solution.problem.numbers) - 3)
    return 1.0 + recipe.span_bonus * max(0.0, 1 - solution.usage.span_tokens / most)


def centred(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The runs of a group with their advantages: rewards less their mean.

    Not divided by their deviation, which would make a group of nearly equal runs count as much as
    any other (Dr. GRPO, arXiv 2503.20783).
    """
    mean = sum(one.reward for one in rollouts) / len(rollouts)
    return [one._replace(advantage=one.reward - mean) for one in rollouts]


def asks_held_out(message: str) -> bool:
    """Whether a thread's message, as ``3 10 21 23 => 50``, is a held-out problem."""
    numbers, _, target = message.partition("=>")
    words = [*numbers.split(), *target.split()]
    return all(word.isdigit() for word in words) and kept_out(
        [int(word) for word in numbers.split()], int(target or 0)
    )


class GroupSampler:
    """Samples rounds of runs; its model's backend is entered by whoever has it."""

    def __init__(self, model: LoadedModel, recipe: ReinforceRecipe) -> None:
        self._model = model
        self._recipe = recipe
        self._separator = model.dialect.encode(";")

    async def groups(self, problems: Sequence[Countdown], number: int) -> list[Group]:
        """The groups of a round's problems, in order."""
        found: dict[int, Group] = {}

        async def sample(index: int) -> None:
            first = (number * len(problems) + index) * self._recipe.runs
            found[index] = await self._group(problems[index], first)

        async with anyio.create_task_group() as tasks:
            for index in range(len(problems)):
                tasks.start_soon(sample, index)
        return [found[index] for index in range(len(problems))]

    async def _group(self, problem: Countdown, first: int) -> Group:
        rollouts: dict[int, Rollout | None] = {}

        async def run(index: int) -> None:
            rollouts[index] = await self._rollout(problem, first + index)

        async with anyio.create_task_group() as tasks:
            for index in range(self._recipe.runs):
                tasks.start_soon(run, index)
        done = [one for index in range(self._recipe.runs) if (one := rollouts[index]) is not None]
        if len(done) < self._recipe.runs:
            return Group(done, "held out")
        equal = len({one.reward for one in done}) == 1
        return Group(centred(done), "equal" if equal else "")

    async def _rollout(self, problem: Countdown, seed: int) -> Rollout | None:
        """One run at temperature 1; None where it came to a problem that is held out."""
        recipe = self._recipe
        budget = recipe.budget if len(problem.numbers) < 5 else recipe.five_budget
        ended: list[SampledThread] = []

        def ends(thread: SampledThread) -> bool:
            if thread is recorder.threads[0] and self._hopeless(problem, thread):
                ended.append(thread)
            return bool(ended)

        recorder = Recorder(self._model.backend, ends)
        options = SolveOptions(
            strategy=f"apr:n={budget}", temperature=1.0, seed=seed, max_tokens=recipe.context
        )
        reasoner = Reasoner(replace(self._model, backend=recorder))
        solution = await reasoner.solve_with(problem, options)
        if any(asks_held_out(thread.name) for thread in solution.threads):
            return None
        usage = solution.usage
        return Rollout(
            threads=recorder.threads,
            reward=reward_of(solution, recipe),
            right=bool(solution.verified),
            span=usage.span_tokens,
            work=usage.work_tokens,
            hopeless=bool(ended),
        )

    def _hopeless(self, problem: Countdown, thread: SampledThread) -> bool:
        """Whether a run's first thread has just begun with other numbers than it was given.

        Such a run counts as wrong at once.  Hardly one is saved later on, and where a reward is
        certain, further tokens add nothing to the gradient's mean.
        """
        written = thread.tokens[-len(thread.sampled) :]
        if written[-1:] != self._separator or written.count(written[-1]) > 1:
            return False
        given = self._model.dialect.encode(" ".join(map(str, problem.numbers)))
        return sorted(written[:-1]) != sorted(given)
