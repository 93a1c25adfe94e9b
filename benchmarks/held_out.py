"""What the shipped weights can have seen of the problems that measure them.

    python benchmarks/held_out.py

Their demonstrations of five numbers spawned sub-problems of four, calculations wrote shorter
expressions on their way, and lists were held out by their length, not by their divisor.  As many
demonstrations of that kind are drawn anew as the recipes' tokens give, and it is counted how many
of the measured problems are among them.  Lists are asked of divisors that no training had (those
above 90), and beside them of others at equal lengths.  Writes ``results/held-out.json``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import anyio

from pruning.evaluation.intervals import share_interval
from reasoning.evaluation import Arm, draw_problems, solve_all
from reasoning.models.catalog import find
from reasoning.models.loading import load_model
from reasoning.problems import Arithmetic, Countdown, Enumeration, countdown, expression
from reasoning.problems.arithmetic import generate
from reasoning.training.demonstrations import CALC_OPERATIONS, WIDTH, small_expand
from reasoning.training.export import total

RESULTS = Path(__file__).parent / "results" / "held-out.json"
FIVE_SHARE, FIVE_TOKENS = 0.07, 260
CALC_SHARE, CALC_TOKENS = 0.35, 80
"""Shares of training tokens, and tokens of a demonstration; the larger share and the smaller
length where runs differed, so that too much is counted rather than too little."""
LENGTHS, UNSEEN, BESIDE = range(8, 11), range(91, 100), range(73, 91)
STRATEGIES = ("group-think:n=4", "hogwild:n=4")


def sub_problems(rng: random.Random, count: int) -> Iterator[Countdown]:
    """What the children of so many problems of five numbers were asked."""
    for _ in range(count):
        numbers = tuple(rng.choice(countdown.NUMBER_RANGE) for _ in range(5))
        target = rng.choice(countdown.TARGET_RANGE)
        for _, state in small_expand(numbers)[: 4 * WIDTH]:
            yield Countdown(numbers=tuple(sorted(state)), target=target)


def shorter(rng: random.Random, count: int) -> Iterator[str]:
    """The expressions on the way of so many calculations."""
    for _ in range(count):
        tree = generate(rng, operations=rng.choice(CALC_OPERATIONS), held_out=False).tree
        while not isinstance(tree, int):
            tree = expression.reduce_at(tree, rng.randrange(expression.redexes(tree)))
            yield expression.render(tree)


def among(measured: Collection[Any], drawn: Iterator[Any]) -> dict[str, int]:
    """How many of the measured ones are drawn."""
    wanted, seen = set(measured), set()
    for one in drawn:
        if one in wanted:
            seen.add(one)
    return {"measured": len(wanted), "seen": len(seen)}


def rendered(problem: object) -> str:
    assert isinstance(problem, Arithmetic)
    return expression.render(problem.tree)


def ordered(problem: object) -> Countdown:
    assert isinstance(problem, Countdown)
    return Countdown(numbers=tuple(sorted(problem.numbers)), target=problem.target)


def lists() -> Iterator[dict[str, Any]]:
    """The accuracy of lists by whether their divisor was trained."""
    for name in STRATEGIES:
        for seen, divisors in ((True, BESIDE), (False, UNSEEN)):
            asked = [Enumeration(count=n, divisor=d) for n in LENGTHS for d in divisors]
            arm = Arm(strategy=name, max_tokens=1024, parallel=32)
            solutions = anyio.run(solve_all, load_model("reason-5m"), arm, asked)
            right = sum(solution.verified is True for solution in solutions)
            covered = [
                problem.coverage(solution.answer or "")
                for problem, solution in zip(asked, solutions, strict=True)
            ]
            low, high = share_interval(right, len(asked))
            yield {
                "strategy": name,
                "divisor trained": seen,
                "lists": len(asked),
                "accuracy": round(right / len(asked), 4),
                "ci95": [round(low, 4), round(high, 4)],
                "coverage": round(sum(covered) / len(covered), 4),
            }


def main() -> None:
    recipe = json.loads((find("reason-5m") / "recipe.json").read_text())
    tokens, rng = total(recipe, "tokens"), random.Random("held out")
    fives, calcs = (
        round(tokens * share / size)
        for share, size in ((FIVE_SHARE, FIVE_TOKENS), (CALC_SHARE, CALC_TOKENS))
    )
    problems = draw_problems("countdown", 500, numbers=4, seed=0)
    expressions = draw_problems("arithmetic", 500, numbers=4, seed=0)
    found: dict[str, Any] = {
        "training tokens": tokens,
        "countdown": {
            "demonstrations of five": fives,
            **among([*map(ordered, problems)], sub_problems(rng, fives)),
        },
        "arithmetic": {
            "calculations": calcs,
            **among([*map(rendered, expressions)], shorter(rng, calcs)),
        },
    }
    rows = ",\n".join(f"  {json.dumps(one)}" for one in lists())
    head = json.dumps(found, indent=1)[:-2]
    RESULTS.write_text(f'{head},\n "lists": [\n{rows}\n ]\n}}\n')
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
