"""``reason bench``: strategies on held-out problems, with intervals and their cost."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import partial

import anyio
import click
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from orchestrator.errors import InvalidValue
from reasoning.models.catalog import Model
from reasoning.problems import (
    Covered,
    Problem,
    arithmetic,
    countdown,
    enumeration,
    several,
    shortest_paths,
)
from reasoning.run.solution import Solution
from reasoning.run.solver import Reasoner, check_options, choose_strategy
from reasoning.strategies import SelfConsistency, Strategy, named

MOST_PROBLEMS = 100_000


class Row(BaseModel):
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
    longest: int
    """The largest context that any thread filled, in tokens."""
    wall_s: float
    """Of the whole row, ``parallel`` problems at a time."""
    wall_per_problem_s: float
    """Mean, while ``parallel`` problems share the machine."""


class Results(BaseModel):
    """What ``reason bench --json`` prints."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_: str = Field(default="reason.bench/1", alias="schema")
    domain: str
    model: str
    numbers: int | None
    """The size of a problem: numbers of Countdown, expressions, items or nodes."""
    seed: int
    parallel: int
    results: list[Row]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A strategy with its n and settings, as ``NAME`` or ``NAME:n=8``."""

    name: str
    """With the settings beside n."""
    n: int | None
    policy: str | None = None
    """What steers samples; without one all ``n`` run to their end."""

    @classmethod
    def parse(cls, text: str) -> Arm:
        kind, settings = named(text)
        n = settings.pop("n", None)
        others = [f"{key}={str(value).lower()}" for key, value in settings.items()]
        return cls(name=":".join(filter(None, (kind.name, ",".join(others)))), n=n)


def problems(domain: str, count: int, *, numbers: int, seed: int) -> list[Problem]:
    """Distinct held-out problems; a seed always gives the same, the first ones first.

    ``numbers`` is the size of each; of enumerations, which are few, the largest.

    Raises:
        InvalidValue: there are not so many.
    """
    rng = random.Random(f"{domain} {numbers} {seed}")
    if domain == "enumeration":
        return _enumerations(rng, count, numbers)
    drawn: dict[Problem, None] = {}
    while len(drawn) < count:
        problem: Problem
        match domain:
            case "countdown":
                problem = countdown.generate(rng, count=numbers, held_out=True)
            case "several":
                problem = several.generate(rng, count=numbers, held_out=True)
            case "shortest-paths":
                problem = shortest_paths.generate(rng, size=numbers, held_out=True)
            case _:
                problem = arithmetic.generate(rng, held_out=True)
        drawn[problem] = None
    return list(drawn)


def _enumerations(rng: random.Random, count: int, most: int) -> list[Problem]:
    sizes = range(min(enumeration.USUAL.start, most), most + 1)
    every = [one for size in sizes for one in enumeration.of(size, held_out=True)]
    if count > len(every):
        raise InvalidValue(
            f"n: only {len(every)} enumerations of {sizes.start} to {most} items are held out; "
            "give at most that many, or a larger --numbers"
        )
    return list(rng.sample(every, count))


def run(
    domain: str,
    *,
    count: int,
    strategies: Sequence[str],
    policies: Sequence[str] = (),
    model: str | None,
    temperature: float | None,
    seed: int,
    contexts: Sequence[int],
    parallel: int,
    as_json: bool,
    numbers: int = 4,
) -> int:
    """Measure, print, and return the exit code."""
    if not 1 <= count <= MOST_PROBLEMS:
        raise InvalidValue(f"n: {count} is out of range; give 1 to {MOST_PROBLEMS} problems")
    arms = [Arm.parse(strategy) for strategy in strategies]
    arms += [Arm(name=SelfConsistency.name, n=None, policy=policy) for policy in policies]
    for arm in arms:
        check_options(
            {
                "strategy": arm.name,
                "n": arm.n,
                "policy": arm.policy,
                "temperature": temperature,
            }
        )
    loaded = Model.load(model)
    sample = problems(domain, count, numbers=numbers, seed=seed)
    chosen = [choose_strategy(arm.name, arm.n, loaded, sample[0]) for arm in arms]
    rows: list[Row] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        for arm, strategy in zip(arms, chosen, strict=True):
            for context in contexts:
                bar = progress.add_task(f"{arm.name} @ {context}", total=count)
                advance = partial(progress.advance, bar)
                started = time.monotonic()
                solutions = anyio.run(
                    solve_all, loaded, arm, sample, temperature, seed, context, parallel, advance
                )
                wall = time.monotonic() - started
                made = row(strategy, solutions, temperature=temperature, context=context, wall=wall)
                if arm.policy is not None:
                    made = made.model_copy(update={"strategy": f"{arm.name} ({arm.policy})"})
                rows.append(made)
                if not console.is_terminal:
                    click.echo(progress_line(rows[-1]), err=True)
    results = Results(
        domain=domain,
        model=loaded.name,
        numbers=None if domain == "arithmetic" else numbers,
        seed=seed,
        parallel=parallel,
        results=rows,
    )
    if as_json:
        click.echo(results.model_dump_json(by_alias=True, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 110).print(_table(results))
    return 0


async def solve_all(
    model: Model,
    arm: Arm,
    sample: Sequence[Problem],
    temperature: float | None,
    seed: int,
    context: int,
    parallel: int,
    advance: Callable[[], None],
) -> list[Solution]:
    """Solve every problem of ``sample`` with one arm, ``parallel`` of them at a time."""
    solutions: dict[int, Solution] = {}
    slots = anyio.Semaphore(parallel)

    kind, _ = named(arm.name)
    policy, n = arm.policy, arm.n
    if policy is None and kind.steerable:
        policy, n = f"sc:n={n or kind.default_n}", None

    async def one(reasoner: Reasoner, problem: Problem, index: int) -> None:
        async with slots:
            solutions[index] = await reasoner.solve(
                problem,
                strategy=arm.name,
                n=n,
                policy=policy,
                temperature=temperature,
                seed=seed + index,
                max_tokens=context,
            )
            advance()

    async with Reasoner(model) as reasoner, anyio.create_task_group() as group:
        for index, problem in enumerate(sample):
            group.start_soon(one, reasoner, problem, index)
    return [solutions[index] for index in range(len(sample))]


def row(
    strategy: Strategy,
    solutions: Sequence[Solution],
    *,
    temperature: float | None,
    context: int,
    wall: float,
) -> Row:
    """What a list of solutions comes to."""
    count = len(solutions)
    right = sum(solution.verified is True for solution in solutions)
    return Row(
        strategy=label(strategy),
        n=count,
        max_tokens=context,
        temperature=strategy.default_temperature if temperature is None else temperature,
        accuracy=right / count,
        ci95=wilson(right, count),
        coverage=coverage(solutions),
        tokens=round(sum(s.usage.work_tokens for s in solutions) / count, 1),
        span=round(sum(s.usage.span_tokens for s in solutions) / count, 1),
        threads=round(sum(len(s.threads) for s in solutions) / count, 2),
        longest=max(map(longest, solutions)),
        leaked=round(sum(s.usage.leaked_tokens for s in solutions) / count, 2),
        wall_s=round(wall, 2),
        wall_per_problem_s=round(sum(s.wall_s for s in solutions) / count, 3),
    )


def label(strategy: Strategy) -> str:
    """The strategy's name with the settings that are not its usual ones."""
    given = [("n", strategy.n)] if strategy.n != 1 else []
    given += [
        (field.name, getattr(strategy, field.name))
        for field in fields(strategy)
        if field.default is not MISSING and getattr(strategy, field.name) != field.default
    ]
    settings = ",".join(f"{key}={str(value).lower()}" for key, value in given)
    return ":".join(filter(None, (strategy.name, settings)))


def coverage(solutions: Sequence[Solution]) -> float | None:
    """The mean coverage, of problems that can be solved in part."""
    found = [
        solution.problem.coverage(solution.answer or "")
        for solution in solutions
        if isinstance(solution.problem, Covered)
    ]
    return round(sum(found) / len(found), 4) if found else None


def longest(solution: Solution) -> int:
    """The largest context that a thread of this solution filled."""
    return max(thread.context for thread in solution.threads)


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927), which holds near 0 and 1 too."""
    z = 1.959964
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z
        / (1 + z * z / count)
        * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    )
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def progress_line(row: Row) -> str:
    """The row as one line of text."""
    low, high = row.ci95
    covered = "" if row.coverage is None else f" · coverage {row.coverage:.1%}"
    return (
        f"{row.strategy} @ {row.max_tokens}: {row.accuracy:.1%} [{low:.1%}, {high:.1%}]{covered}"
        f" · work {row.tokens:,.0f} · span {row.span:,.0f} · {row.wall_s:.1f} s"
    )


def _table(results: Results) -> Table:
    title = f"{results.domain}, {results.results[0].n} held-out problems, {results.model}"
    table = Table(title=title)
    for heading in (
        "strategy",
        "context",
        "accuracy",
        "95 % interval",
        "work",
        "span",
        "threads",
        "wall s",
    ):
        left = heading == "strategy"
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    for row in results.results:
        table.add_row(
            row.strategy,
            str(row.max_tokens),
            f"{row.accuracy:.1%}",
            f"{row.ci95[0]:.1%}–{row.ci95[1]:.1%}",
            f"{row.tokens:,.0f}",
            f"{row.span:,.0f}",
            f"{row.threads:.1f}",
            f"{row.wall_s:.1f}",
        )
    return table
