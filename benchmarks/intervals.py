"""How often intervals of 95 % hold the truth: ``python benchmarks/intervals.py``.

A population of questions is made (difficulties that are spread in eight ways), sixteen traces are
drawn for each, and self-consistency is replayed over them by the evaluator that everybody uses.
Samples of 12 to 200 questions are then drawn from it, and each method's interval of the mean is
asked whether it holds the population's.  Beside replayed arms there are live ones, which are right
or wrong once, and differences that are rare.

The shares of intervals that hold it go to ``results/intervals.json``: of ours by population, and
of all methods by kind of population.  For 12 questions that are won, lost or neither, the least
share that any rule could come to stands there, and ours by exact sums: see `attainable`.
``--attainable`` computes these alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb
from pathlib import Path
from random import Random
from statistics import NormalDist, fmean
from typing import Any

from pruning import (
    Evaluator,
    Interval,
    Question,
    Summary,
    Trace,
    difference_interval,
    mean_interval,
)
from pruning.evaluation.intervals import student

RESULTS = Path(__file__).parent / "results" / "intervals.json"
SIZES = (12, 30, 60, 200)
TRACES, SHUFFLES, RESAMPLES = 16, 16, 1000
DIFFICULTIES: dict[str, Callable[[Random], float]] = {
    "both ends": lambda rng: rng.betavariate(0.3, 0.3),
    "hard": lambda rng: rng.betavariate(0.5, 2),
    "easy": lambda rng: rng.betavariate(3, 0.4),
    "middle": lambda rng: rng.betavariate(2, 2),
    "nearly solved": lambda rng: (
        rng.betavariate(20, 0.5)
        if rng.random() < 0.6
        else rng.betavariate(0.3, 8)
        if rng.random() < 0.4
        else rng.random()
    ),
    "even": lambda rng: rng.random(),
    "very hard": lambda rng: rng.betavariate(0.3, 4),
    "very easy": lambda rng: rng.betavariate(8, 1),
}
"""How the chance that a trace is right is drawn for a question.  The intervals' constants were
chosen on the first five, and not on the last three."""
RARE = ((0.2, 0.7), (0.1, 0.5), (0.1, 0.8), (0.05, 1.0), (0.02, 0.8))
"""The share of questions that differ, and of these the share with a gain."""
Method = Callable[[Sequence[float]], Interval]


@dataclass(frozen=True, kw_only=True)
class Population:
    """The values of all questions; accuracies in [0, 1] or paired differences in [-1, 1]."""

    name: str
    kind: str
    values: list[float]

    @property
    def differences(self) -> bool:
        return "difference" in self.kind


def question(rng: Random, number: int, difficulty: Callable[[Random], float]) -> Question:
    """Sixteen traces; of the wrong ones a share has the same wrong answer."""
    right, together = difficulty(rng), rng.random()

    def answer() -> str:
        if rng.random() < right:
            return "right"
        return "wrong" if rng.random() < together else rng.choice("abcd")

    traces = tuple(Trace(tokens=rng.randint(500, 9000), answer=answer()) for _ in range(TRACES))
    return Question(id=str(number), right=frozenset({"right"}), traces=traces)


def populations(count: int, seed: int = 0) -> Iterator[Population]:
    """Replayed and live arms of ``count`` questions, and differences that are rare."""
    rng = Random(seed)
    for name, difficulty in DIFFICULTIES.items():
        questions = [question(rng, number, difficulty) for number in range(count)]
        replayed = Evaluator(questions=questions, shuffles=SHUFFLES).curve
        live, again = (Evaluator(questions=questions, shuffles=1, seed=s).curve for s in (1, 2))
        for n in (1, 4, 16):
            yield Population(
                name=f"{name}: sc:n={n}", kind="accuracy", values=accuracies(replayed.summary(n))
            )
        yield Population(
            name=f"{name}: sc:n=4", kind="live accuracy", values=accuracies(live.summary(4))
        )
        for n, other in ((4, 1), (8, 4), (16, 4), (16, 5.5)):
            yield Population(
                name=f"{name}: sc:n={n} less sc:n={other}",
                kind="difference",
                values=differences(replayed.summary(n), replayed.summary(other)),
            )
        yield Population(
            name=f"{name}: sc:n=8 less sc:n=2",
            kind="live difference",
            values=differences(live.summary(8), again.summary(2)),
        )
    yield from rare(rng, count)


def rare(rng: Random, count: int) -> Iterator[Population]:
    """Most questions do not differ; the others by a whole question, or by a part of one."""
    for share, gains in RARE:
        signs = [
            0.0 if rng.random() >= share else 1.0 if rng.random() < gains else -1.0
            for _ in range(count)
        ]
        name = f"{share:.0%} differ, {gains:.0%} of them up"
        yield Population(name=name, kind="rare difference", values=signs)
        parts = [sign * rng.randint(1, SHUFFLES) / SHUFFLES for sign in signs]
        yield Population(name=f"{name}, in part", kind="rare difference", values=parts)


def accuracies(summary: Summary) -> list[float]:
    return [outcome.accuracy for outcome in summary.outcomes]


def differences(summary: Summary, other: Summary) -> list[float]:
    pairs = zip(summary.outcomes, other.outcomes, strict=True)
    return [ours.accuracy - theirs.accuracy for ours, theirs in pairs]


# What was tried.


def student_interval(values: Sequence[float]) -> Interval:
    center = fmean(values)
    squares = sum((value - center) ** 2 for value in values)
    half = student(len(values) - 1) * (squares / (len(values) - 1) / len(values)) ** 0.5
    return center - half, center + half


@cache
def weights(count: int) -> Any:
    """How often each of ``count`` questions is drawn in each resample, over ``count``."""
    import numpy as np

    return np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES) / count


def resampled(values: Sequence[float]) -> Any:
    """The means of all resamples, sorted."""
    means = weights(len(values)) @ values
    means.sort()
    return means


def percentile_interval(values: Sequence[float]) -> Interval:
    """The bootstrap's percentiles (Efron 1979)."""
    means = resampled(values)
    return means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]


def bca_interval(values: Sequence[float]) -> Interval:
    """The bootstrap, bias-corrected and accelerated (Efron 1987)."""
    means, center, normal = resampled(values), fmean(values), NormalDist()
    below = (means.searchsorted(center) + means.searchsorted(center, "right")) / 2
    bias = normal.inv_cdf(min(0.999, max(0.001, below / RESAMPLES)))
    moved = [center - value for value in values]
    squares = sum(one**2 for one in moved)
    speed = -sum(one**3 for one in moved) / (6 * squares**1.5) if squares else 0.0

    def end(level: float) -> float:
        z = bias + normal.inv_cdf(level)
        place = normal.cdf(bias + z / (1 - speed * z)) * RESAMPLES
        return float(means[min(RESAMPLES - 1, max(0, int(place)))])

    return end(0.025), end(0.975)


OTHERS: dict[str, Method] = {
    "student": student_interval,
    "percentile": percentile_interval,
    "bca": bca_interval,
}


# What can be had.


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """All that can be seen of ``size`` questions, each won, lost or neither."""

    size: int

    @property
    def seen(self) -> list[tuple[int, int]]:
        """How many were won and lost."""
        return [(up, down) for up in range(self.size + 1) for down in range(self.size + 1 - up)]

    def chances(self, up: float, down: float) -> list[float]:
        """The chance of each, where a question is won and lost with these."""
        return [
            comb(self.size, won)
            * comb(self.size - won, lost)
            * up**won
            * down**lost
            * max(0.0, 1 - up - down) ** (self.size - won - lost)
            for won, lost in self.seen
        ]

    def held(self, up: float, down: float, method: Method) -> float:
        """How often a method holds the truth, exactly."""
        total = 0.0
        for (won, lost), chance in zip(self.seen, self.chances(up, down), strict=True):
            values = [1.0] * won + [-1.0] * lost + [0.0] * (self.size - won - lost)
            low, high = method(values)
            total += chance * (low - 1e-9 <= up - down <= high + 1e-9)
        return total


LEAST = 0.93


def attainable(outcomes: Outcomes, up: float, down: float) -> float:
    """The least coverage of a population by any rule that covers `LEAST` of all alike.

    A rule says for each outcome whether the interval is above the truth, below it, or holds it.
    It may be any rule that holds what was seen, moves no way back when a question turns from loss
    to neither or to gain, and covers `LEAST` in every population with the same truth, whatever the
    share of questions that differ.  What is left is a linear program in integers, which is solved
    to its bound.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    seen, truth = outcomes.seen, up - down
    places = {one: place for place, one in enumerate(seen)}
    shares = [*np.arange(max(abs(truth), 0.02), 1 + 1e-9, 0.02), up + down]
    alike = [outcomes.chances((s + truth) / 2, max(0.0, (s - truth) / 2)) for s in shares]
    order = []
    for (won, lost), place in places.items():
        for other in ((won + 1, lost), (won, lost - 1), (won + 1, lost - 1)):
            if other in places:
                order += [_step(len(seen), place, places[other])]
                order += [_step(len(seen), len(seen) + places[other], len(seen) + place)]
    gains = [(won - lost) / outcomes.size for won, lost in seen]
    free = [gain > truth + 1e-9 for gain in gains] + [gain < truth - 1e-9 for gain in gains]
    found = milp(
        -np.array(outcomes.chances(up, down) * 2),
        integrality=np.ones(2 * len(seen)),
        bounds=Bounds(np.zeros(2 * len(seen)), np.array(free, dtype=float)),
        constraints=[
            LinearConstraint(np.array([row * 2 for row in alike]), -np.inf, 1 - LEAST),
            LinearConstraint(np.array(order), -np.inf, 0),
        ],
    )
    return 1 + float(found.mip_dual_bound)


def _step(half: int, one: int, other: int) -> list[float]:
    """That what is missed at ``one`` is missed at ``other``."""
    row = [0.0] * (2 * half)
    row[one], row[other] = 1.0, -1.0
    return row


def bounds(population: Population, size: int) -> dict[str, Any] | None:
    """Ours and the least attainable; None of a population with other values than -1, 0 and 1."""
    if not population.differences or not set(population.values) <= {-1.0, 0.0, 1.0}:
        return None
    count, outcomes = len(population.values), Outcomes(size=size)
    up, down = population.values.count(1.0) / count, population.values.count(-1.0) / count
    return {
        "population": population.name,
        "kind": population.kind,
        "questions": size,
        "up": up,
        "down": down,
        "ours": round(outcomes.held(up, down, difference_interval), 4),
        "attainable": round(attainable(outcomes, up, down), 4),
    }


def measure(population: Population, name: str, method: Method, draws: int) -> list[dict[str, Any]]:
    """For each size, the share of intervals that hold the mean, and half their mean width."""
    rng, truth, rows = Random(0), fmean(population.values), []
    for size in SIZES:
        found = [method(rng.choices(population.values, k=size)) for _ in range(draws)]
        held = sum(low - 1e-9 <= truth <= high + 1e-9 for low, high in found)
        rows.append(
            {
                "population": population.name,
                "kind": population.kind,
                "method": name,
                "questions": size,
                "coverage": round(held / draws, 4),
                "half_width": round(fmean(high - low for low, high in found) / 2, 5),
            }
        )
    return rows


def by_kind(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean and the least coverage over the populations of each kind."""
    groups: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        key = row["kind"], row["method"], row["questions"]
        groups.setdefault(key, []).append(row["coverage"])
    return [
        {
            "kind": kind,
            "method": method,
            "questions": size,
            "mean": round(fmean(found), 4),
            "least": min(found),
            "greatest": max(found),
        }
        for (kind, method, size), found in groups.items()
    ]


def covered(population: Population, options: argparse.Namespace) -> list[dict[str, Any]]:
    """How often the intervals of all methods hold a population's mean."""
    ours = difference_interval if population.differences else mean_interval
    methods = {"ours": ours} | ({} if options.alone else OTHERS)
    rows = []
    for name, method in methods.items():
        draws = options.draws if name == "ours" else options.draws // 5
        rows += measure(population, name, method, draws)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--draws", type=int, default=2000, help="samples of each population")
    parser.add_argument("--count", type=int, default=2000, help="questions of a population")
    parser.add_argument("--alone", action="store_true", help="without what else was tried")
    parser.add_argument(
        "--attainable", action="store_true", help="these rows alone; the others stay as they are"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows, limits = [], []
    for population in populations(options.count):
        limits += [limit] if (limit := bounds(population, SIZES[0])) else []
        rows += [] if options.attainable else covered(population, options)
        print(f"{population.kind}: {population.name}", flush=True)
    results = json.loads(options.output.read_text()) if options.attainable else {}
    results |= {"schema": "reason.benchmarks.intervals/1", "attainable": limits}
    if not options.attainable:
        results |= {
            "draws": options.draws,
            "population": options.count,
            "by_kind": by_kind(rows),
            "ours": [row for row in rows if row["method"] == "ours"],
        }
    options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
