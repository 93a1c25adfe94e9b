"""Strategies on many problems: their accuracy with its interval, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import anyio
from pydantic import BaseModel, ConfigDict, Field

from pruning import share_interval
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.policies import steered_by
from reasoning.problems import Covered, Problem
from reasoning.run.solution import Solution, StepChoice, rank_auroc
from reasoning.solver import Reasoner, choose_strategy
from reasoning.strategies import STRATEGIES, Strategy


class BenchRow(BaseModel):
    """One strategy at one context; means are over problems."""

    model_config = ConfigDict(frozen=True)

    strategy: str
    """With its parameters, such as ``self-consistency:n=16``."""
    n: int
    """The number of problems."""
    max_tokens: int
    temperature: float
    accuracy: float
    ci95: tuple[float, float]
    """The Wilson interval of the accuracy."""
    coverage: float | None = None
    """Mean share of a problem that the answer covers, where a problem has parts."""
    tokens: float
    """Mean work: all tokens, given and generated."""
    span: float
    """Mean length of the longest dependent chain, in tokens."""
    threads: float
    leaked: float = 0.0
    """Mean tokens generated after a policy's stop."""
    escalated: float | None = None
    """Share of steps that a draft left to the model."""
    strangest: float | None = None
    """Share of these among as many strangest steps, a mean over problems; by chance it is as
    ``escalated``."""
    auroc: float | None = None
    """P(a chain with a wrong answer was stranger than one with a right one), over all problems."""
    longest: int
    """The largest context that any thread filled, in tokens."""
    wall_s: float
    """Of the whole row, ``parallel`` problems at a time."""
    wall_per_problem_s: float
    """Mean, while ``parallel`` problems share the machine."""


class BenchResults(BaseModel):
    """Rows of strategies on drawn problems of one domain."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_: str = Field(default="reason.bench/1", alias="schema")
    domain: str
    model: str
    draft: str | None = None
    """The smaller model of strategies of two."""
    numbers: int | None
    """The size of a problem: numbers of Countdown, expressions, items or nodes."""
    seed: int
    parallel: int
    results: list[BenchRow]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One strategy under fixed conditions.

    Attributes:
        strategy: Its name, perhaps with settings: ``apr:n=16``.
        policy: What steers its samples; without one all of them run to their end.
        temperature: None for the strategy's own.
        seed: Of the first problem; each later problem has the next one.
        max_tokens: The context of each thread.
        parallel: How many problems are solved at once.
    """

    strategy: str
    policy: str | None = None
    temperature: float | None = None
    seed: int = 0
    max_tokens: int = 512
    parallel: int = 8

    @cached_property
    def options(self) -> SolveOptions:
        """How the first problem is solved.

        Raises:
            UnknownName, InvalidValue: as `SolveOptions`.
        """
        strategy, policy = STRATEGIES.make(self.strategy), self.policy
        if policy is None and strategy.steerable:
            policy = f"sc:n={strategy.n}"
        steered = None if policy is None else steered_by(policy)  # a judge is loaded once
        return SolveOptions(
            strategy=strategy,
            policy=None if steered is None else steered.policy,
            judge=None if steered is None else steered.judge,
            scorer=None if steered is None else steered.scorer,
            temperature=self.temperature,
            seed=self.seed,
            max_tokens=self.max_tokens,
        )

    def choose(self, model: LoadedModel, problem: Problem) -> Strategy:
        """The strategy as it runs on a model.

        Raises:
            CapabilityMissing: the strategy needs what the model lacks.
        """
        return choose_strategy(self.options, model, problem)


async def solve_all(
    model: LoadedModel,
    arm: Arm,
    problems: Sequence[Problem],
    advance: Callable[[], None] = lambda: None,
    *,
    draft: LoadedModel | None = None,
) -> list[Solution]:
    """The solution of each problem, in order; ``advance`` is called after each of them.

    ``draft`` is a smaller model, for strategies of two.
    """
    solutions: dict[int, Solution] = {}
    slots = anyio.Semaphore(arm.parallel)

    async def solve_one(reasoner: Reasoner, problem: Problem, index: int) -> None:
        async with slots:
            options = replace(arm.options, seed=arm.seed + index)
            solutions[index] = await reasoner.solve_with(problem, options)
            advance()

    async with Reasoner(model, draft=draft) as reasoner, anyio.create_task_group() as group:
        for index, problem in enumerate(problems):
            group.start_soon(solve_one, reasoner, problem, index)
    return [solutions[index] for index in range(len(problems))]


def summarise(
    arm: Arm, strategy: Strategy, solutions: Sequence[Solution], wall_s: float
) -> BenchRow:
    """The row of one arm's solutions; ``wall_s`` is the time that all of them took together."""
    count = len(solutions)
    right = sum(solution.verified is True for solution in solutions)
    low, high = share_interval(right, count)
    name = label(strategy) if arm.policy is None else f"{strategy.name} ({arm.policy})"
    return BenchRow(
        strategy=name,
        n=count,
        max_tokens=arm.max_tokens,
        temperature=(strategy.default_temperature if arm.temperature is None else arm.temperature),
        accuracy=right / count,
        ci95=(round(low, 4), round(high, 4)),
        coverage=_coverage(solutions),
        tokens=round(sum(s.usage.work_tokens for s in solutions) / count, 1),
        span=round(sum(s.usage.span_tokens for s in solutions) / count, 1),
        threads=round(sum(len(s.threads) for s in solutions) / count, 2),
        longest=max(thread.context for s in solutions for thread in s.threads),
        leaked=round(sum(s.usage.leaked_tokens for s in solutions) / count, 2),
        wall_s=round(wall_s, 2),
        wall_per_problem_s=round(sum(s.wall_s for s in solutions) / count, 3),
        **chosen(s.steering.choice for s in solutions if s.steering is not None),
    )


def chosen(choices: Iterable[StepChoice | None]) -> dict[str, Any]:
    """How well a draft's steps were chosen over many problems, as fields of a row."""
    made = [choice for choice in choices if choice is not None and choice.steps]
    if not made:
        return {}
    shares = [choice.strangest for choice in made if choice.strangest is not None]
    auroc = rank_auroc(chain for choice in made for chain in choice.chains)
    return {
        "escalated": round(
            sum(choice.escalated for choice in made) / sum(choice.steps for choice in made), 4
        ),
        "strangest": round(sum(shares) / len(shares), 4) if shares else None,
        "auroc": None if auroc is None else round(auroc, 4),
    }


def label(strategy: Strategy) -> str:
    """The strategy's name with the settings that are not its usual ones."""
    given = [("n", strategy.n)] if strategy.n != 1 else []
    given += [
        (field.name, getattr(strategy, field.name))
        for field in fields(strategy)
        if field.name != "n" and getattr(strategy, field.name) != field.default
    ]
    settings = ",".join(f"{key}={str(value).lower()}" for key, value in given)
    return ":".join(filter(None, (strategy.name, settings)))


def _coverage(solutions: Sequence[Solution]) -> float | None:
    """The mean coverage over the problems that can be solved in part; None if none can."""
    found = [
        solution.problem.coverage(solution.answer or "")
        for solution in solutions
        if isinstance(solution.problem, Covered)
    ]
    return round(sum(found) / len(found), 4) if found else None
