"""Countdown's other arms, beside apr: each as strong as it gets at apr's cost.

    python benchmarks/countdown_arms.py benchmarks/results/countdown-arms.json

- ``vote``: as many serial samples as come closest to apr's tokens, at apr's context and at serial's
  best one;
- ``best of n``: serial samples until the exact verifier accepts one, at most n: the n that comes
  closest to apr's tokens, or to its FLOPs;
- ``ordered``: serial search whose first operations stand in the order of Stream of Search's
  multiply heuristic (arXiv 2404.03683); this script writes them, and the model does the rest;
  ``listed`` is the same in the order of the numbers, to tell the order's part from the script's;
- ``apr, listed``: apr whose first thread is given its numbers, which it copies otherwise;
- ``direct``: the answer at once, without a search, which the model was not trained for; also best
  of n.

FLOPs are as To Backtrack or Not counts them (arXiv 2504.07052): multiplications of the layers, for
each thread over its prompt and all that follows.  Rows that OUTPUT has already are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from orchestrator import Task
from pruning import Tally, difference_interval, majority, share_interval
from reasoning import Solution, load_model
from reasoning.evaluation import Arm, draw_problems, solve_all
from reasoning.language.trained import raw_answer
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Countdown
from reasoning.run.run import Run
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies import Strategy
from reasoning.strategies.apr import Apr
from reasoning.training.demonstrations import problem_text, small_expand, step_text
from reasoning.training.recipe import SHAPES, ModelShape

APR, SAMPLED = "apr:n=24", 0.7
CONTEXT, BEST_CONTEXT = 512, 2048
DIRECT = (1, 4, 16)


def distance(numbers: Sequence[int], target: int) -> int:
    """The multiply heuristic: how far the numbers are from factors of the target."""
    factors = [n for n in range(2, target + 1) if target % n == 0]
    return sum(min(abs(number - factor) for factor in factors) for number in numbers)


@dataclass(frozen=True, kw_only=True)
class OrderedSearch(Strategy):
    """One serial thread, whose first operations are written for it.

    Attributes:
        listed: In the order of the numbers, and not the most promising first.
    """

    listed: bool = False

    async def solve(self, run: Run) -> Tally:
        async with run.graph:
            self._search(run)
        return self.tally(run)

    def _search(self, run: Run) -> Task[None]:
        problem = run.problem
        assert isinstance(problem, Countdown)
        ahead = small_expand(problem.numbers)
        if not self.listed:
            ahead.sort(key=lambda one: distance(one[1], problem.target))
        lines = [
            f"{step_text(step)} : {problem_text(rest, problem.target)} ;" for step, rest in ahead
        ]
        options = ThreadOptions(
            opening=f"{' '.join(map(str, problem.numbers))} ; > {lines[0]}",
            stop=frozenset(run.dialect.encode(">")),
        )
        return run.spawn(self._thread, run.dialect.prompt(problem), lines[1:], options=options)

    async def _thread(self, thread: Thread, lines: list[str]) -> None:
        for line in [*lines, None]:
            written = await thread.write()
            if not written.text.endswith(" >") or line is None or not thread.append(line):
                break
        thread.conclude()


@dataclass(frozen=True, kw_only=True)
class DirectAnswer(Strategy):
    """One thread that begins with its answer."""

    async def solve(self, run: Run) -> Tally:
        options = ThreadOptions(opening="<answer>")
        async with run.graph:
            run.spawn(self._thread, run.dialect.prompt(run.problem), options=options)
        return self.tally(run)

    async def _thread(self, thread: Thread) -> None:
        await thread.write()
        thread.conclude()
        thread.answer = raw_answer(thread.text)


@dataclass(frozen=True, kw_only=True)
class ListedApr(Apr):
    """`Apr` whose first thread is given its numbers in their order, which it copies otherwise."""

    async def solve(self, run: Run) -> Tally:
        form, problem = run.dialect.forms(run.problem).spawning(), run.problem
        assert isinstance(problem, Countdown)
        options = ThreadOptions(opening=f"{' '.join(map(str, problem.numbers))} ;")
        async with run.graph:
            prompt = form.prompt(form.message, self.n)
            run.spawn(self._thread, prompt, form, name=form.message, options=options)
        return self.tally(run)


class Attempt(NamedTuple):
    """One run on one problem."""

    right: bool
    key: str | None
    tokens: int
    span: int
    flops: float


class ArmCost(NamedTuple):
    """What an arm came to on one problem."""

    right: bool
    tokens: int
    span: int
    flops: float


def flops(shape: ModelShape, length: int) -> float:
    """Multiplications of the layers for a sequence."""
    hidden = shape.hidden
    token = 2 * hidden * hidden + 2 * hidden * hidden + 3 * hidden * shape.intermediate
    return shape.layers * (token * length + hidden * length * (length + 1) / 2)


def best_of(attempts: Sequence[Attempt], most: int) -> ArmCost:
    """One attempt after the other until one is verified, ``most`` of them."""
    taken = list(attempts[:most])
    for count, one in enumerate(taken, start=1):
        if one.right:
            taken = taken[:count]
            break
    tokens = sum(one.tokens for one in taken)
    return ArmCost(taken[-1].right, tokens, tokens, sum(one.flops for one in taken))


def vote_of(attempts: Sequence[Attempt], count: int) -> ArmCost:
    """A majority vote of ``count`` attempts at once."""
    taken = attempts[:count]
    winner = majority(one.key for one in taken).winner
    return ArmCost(
        right=any(one.right for one in taken if one.key == winner and winner is not None),
        tokens=sum(one.tokens for one in taken),
        span=max(one.span for one in taken),
        flops=sum(one.flops for one in taken),
    )


@dataclass(kw_only=True)
class Arms:
    """Rows of arms on one list of problems, apr first."""

    model: LoadedModel
    shape: ModelShape
    problems: list[Any]
    output: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def has(self, arm: str, context: int) -> bool:
        """Whether there is a row of it already."""
        return any((one["arm"], one["context"]) == (arm, context) for one in self.rows)

    def run(
        self,
        strategy: str,
        context: int,
        *,
        at: Sequence[int] | None = None,
        seed: int = 0,
        temperature: float | None = None,
    ) -> list[Attempt]:
        """One attempt at each problem, or at those ``at`` these places."""
        asked = self.problems if at is None else [self.problems[index] for index in at]
        arm = Arm(
            strategy=strategy, max_tokens=context, parallel=64, seed=seed, temperature=temperature
        )
        return [self._attempt(one) for one in anyio.run(solve_all, self.model, arm, asked)]

    def _attempt(self, solution: Solution) -> Attempt:
        key = solution.answer and solution.problem.canonical(solution.answer)
        return Attempt(
            right=solution.verified is True,
            key=key,
            tokens=solution.usage.work_tokens,
            span=solution.usage.span_tokens,
            flops=sum(flops(self.shape, thread.context) for thread in solution.threads),
        )

    def pool(self, strategy: str, context: int, every: int, most: int) -> list[list[Attempt]]:
        """``every`` samples of each problem, and more where none of them is right."""
        found: list[list[Attempt]] = [[] for _ in self.problems]
        for number in range(most):
            at = [
                index
                for index, attempts in enumerate(found)
                if number < every or not any(one.right for one in attempts)
            ]
            sampled = self.run(strategy, context, at=at, seed=100_000 * number, temperature=SAMPLED)
            for index, attempt in zip(at, sampled, strict=True):
                found[index].append(attempt)
        return found

    def add(self, arm: str, context: int, samples: int, found: Sequence[ArmCost], why: str) -> None:
        """Add a row, and write all."""
        count, right = len(found), sum(one.right for one in found)
        rights = "".join(str(int(one.right)) for one in found)
        apr = self.rows[0]["right"] if self.rows else rights
        behind = [float(int(b) - int(a)) for a, b in zip(rights, apr, strict=True)]
        self.rows.append(
            {
                "arm": arm,
                "context": context,
                "samples": samples,
                "why": why,
                "accuracy": right / count,
                "ci95": [round(one, 4) for one in share_interval(right, count)],
                "apr_gains": round(sum(behind) / count, 4),
                "apr_gains_ci95": [round(one, 4) for one in difference_interval(behind)],
                "tokens": round(sum(one.tokens for one in found) / count, 1),
                "span": round(sum(one.span for one in found) / count, 1),
                "mflops": round(sum(one.flops for one in found) / count / 1e6, 1),
                "right": rights,
            }
        )
        report = {"model": self.model.name, "n": count, "seed": 0, "results": self.rows}
        self.output.write_text(json.dumps(report, indent=2) + "\n")
        print({name: value for name, value in self.rows[-1].items() if name != "right"}, flush=True)

    def greedy(self, arm: str, strategy: str, context: int) -> None:
        if self.has(arm, context):
            return
        attempts = self.run(strategy, context, temperature=0.0)
        costs = [ArmCost(one.right, one.tokens, one.span, one.flops) for one in attempts]
        self.add(arm, context, 1, costs, "greedy")

    def nearest(
        self,
        arm: str,
        context: int,
        why: str,
        counts: Sequence[int],
        of: Callable[[int], list[ArmCost]],
    ) -> None:
        """Add the row of the count that comes closest to apr in tokens or FLOPs."""

        apr = self.rows[0]

        def apart(count: int) -> float:
            found = of(count)
            if "tokens" in why:
                return abs(sum(one.tokens for one in found) / len(found) / apr["tokens"] - 1)
            return abs(sum(one.flops for one in found) / len(found) / 1e6 / apr["mflops"] - 1)

        best = min(counts, key=apart)
        self.add(arm, context, best, of(best), why)

    def serial(self, context: int, every: int, most: int) -> None:
        """The arms that are made of serial samples."""
        if self.has("vote", context):
            return
        pool = self.pool("single", context, every, most)
        self.nearest(
            "vote",
            context,
            "equal tokens",
            range(1, every + 1),
            lambda count: [vote_of(one, count) for one in pool],
        )
        for why in ("equal tokens", "equal FLOPs"):
            self.nearest(
                "best of n",
                context,
                why,
                range(1, most + 1),
                lambda count: [best_of(one, count) for one in pool],
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("output", type=Path)
    parser.add_argument("--n", type=int, default=300, help="problems")
    parser.add_argument("--model", default="reason-5m")
    options = parser.parse_args()
    problems = draw_problems("countdown", options.n, numbers=4, seed=0)
    arms = Arms(
        model=load_model(options.model),
        shape=SHAPES["reason-5m"],
        problems=problems,
        output=options.output,
    )
    if options.output.exists():
        kept = json.loads(options.output.read_text())
        if kept["n"] != options.n:
            parser.error(f"n: {options.output} is of {kept['n']} problems; give another file")
        arms.rows += kept["results"]
    arms.greedy("apr", APR, CONTEXT)
    arms.greedy("apr, listed", f"{Path(__file__).resolve()}:ListedApr:n=24", CONTEXT)
    ordered = f"{Path(__file__).resolve()}:OrderedSearch"
    for context in (CONTEXT, BEST_CONTEXT):
        arms.greedy("single", "single", context)
        arms.greedy("listed", f"{ordered}:listed=true", context)
        arms.greedy("ordered", ordered, context)
    direct = f"{Path(__file__).resolve()}:DirectAnswer"
    arms.greedy("direct", direct, CONTEXT)
    if not arms.has("direct, best of n", CONTEXT):
        pool = arms.pool(direct, CONTEXT, 1, max(DIRECT))
        for count in DIRECT:
            found = [best_of(one, count) for one in pool]
            arms.add("direct, best of n", CONTEXT, count, found, "verified")
    arms.serial(CONTEXT, 3, 8)
    arms.serial(BEST_CONTEXT, 2, 5)


if __name__ == "__main__":
    main()
