"""What a policy or another arm did on each question, and what one gains over another.

The unit is the question.  Outcomes over orders of one question's traces are averaged first, and
intervals are over questions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum, sqrt
from typing import Literal

from pruning.evaluation.intervals import (
    Interval,
    difference_interval,
    mean_interval,
    questions_needed,
)
from pruning.policy import require

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True, kw_only=True)
class _Means:
    """What is measured of every run, as a mean.

    Attributes:
        accuracy: The share of right answers.
        tokens, span: Work and critical path, in tokens.
        traces, probes: How many were launched and answered.
        traces_missing: How many more the arm would have launched, had they been stored.
    """

    accuracy: float
    tokens: float
    span: float
    traces: float
    probes: float = 0.0
    judge_tokens: float = 0.0
    judge_seconds: float = 0.0
    traces_missing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class QuestionOutcome(_Means):
    """One arm on one question, as means over orders of its traces.

    Attributes:
        orders: The accuracy in each order, the same orders for every arm; empty where they are not
            known or there was one live run.
    """

    question: str
    orders: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Summary(_Means):
    """One arm over all questions: means, and the 95 % interval of the accuracy."""

    policy: str
    outcomes: tuple[QuestionOutcome, ...]

    @property
    def n(self) -> int:
        """The number of questions."""
        return len(self.outcomes)

    @cached_property
    def ci95(self) -> Interval:
        """The interval of the accuracy over questions; see `mean_interval`."""
        return mean_interval([outcome.accuracy for outcome in self.outcomes])

    @property
    def questions_short(self) -> int:
        """On how many questions traces were missing."""
        return sum(outcome.traces_missing > 0 for outcome in self.outcomes)

    def over(self, questions: Collection[str]) -> Summary:
        """The same arm on some of its questions.

        Raises:
            PolicyError: it has none of them.
        """
        kept = [outcome for outcome in self.outcomes if outcome.question in questions]
        return summarise(self.policy, kept)


COSTS = ("tokens", "span", "traces", "probes", "judge_tokens", "judge_seconds", "traces_missing")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The accuracy of one arm less that of another, paired by question.

    Attributes:
        ci95: The 95 % interval over questions; see `difference_interval`.
        orders_error: The standard error that the orders of traces leave in ``mean``, which more
            orders would make smaller and more questions would not.  It is a part of the width of
            ``ci95``; None where one order or one live run was seen.
        questions_needed: How many such questions an interval of ±1 point takes.
    """

    mean: float
    ci95: Interval
    orders_error: float | None
    questions_needed: int

    @property
    def verdict(self) -> Verdict:
        """The sign, where the interval excludes 0."""
        low, high = self.ci95
        return "better" if low > 0 else "worse" if high < 0 else "undecided"


def gain(summary: Summary, other: Summary) -> Gain:
    """The accuracy of ``summary`` less that of ``other``, paired by question.

    Raises:
        PolicyError: the two are not over the same questions.
    """
    theirs = {outcome.question: outcome for outcome in other.outcomes}
    same = theirs.keys() == {outcome.question for outcome in summary.outcomes}
    require(same, f"{summary.policy} and {other.policy}: give outcomes on the same questions")
    pairs = [(ours, theirs[ours.question]) for ours in summary.outcomes]
    deltas = [ours.accuracy - his.accuracy for ours, his in pairs]
    # Runs differ by one order's outcome at least; far less comes from a mixture of two numbers.
    orders = max(len(outcome.orders) for pair in pairs for outcome in pair)
    unit = 0.5 / orders if orders else 0.0
    return Gain(
        mean=mean(deltas),
        ci95=difference_interval(deltas, unit=unit),
        orders_error=_orders_error(pairs),
        questions_needed=questions_needed(deltas, unit=unit),
    )


def summarise(label: str, outcomes: Sequence[QuestionOutcome]) -> Summary:
    """The means of outcomes over questions.

    Raises:
        PolicyError: there is none.
    """
    require(len(outcomes) > 0, f"{label}: no question; give at least one")
    return Summary(
        policy=label,
        accuracy=mean([outcome.accuracy for outcome in outcomes]),
        outcomes=tuple(outcomes),
        **mean_costs(outcomes),
    )


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return sum(values) / len(values)


def mean_costs(runs: Sequence[object]) -> dict[str, float]:
    """The mean of every cost over runs or outcomes."""
    return {name: mean([getattr(run, name) for run in runs]) for name in COSTS}


def _orders_error(pairs: Iterable[tuple[QuestionOutcome, QuestionOutcome]]) -> float | None:
    """The standard error of a mean difference over the draw of orders alone."""
    variances = [_variance(ours.orders, theirs.orders) for ours, theirs in pairs]
    known = [variance for variance in variances if variance is not None]
    return sqrt(fsum(known)) / len(known) if len(known) == len(variances) else None


def _variance(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The variance of one question's mean difference: paired in the same orders, or of either."""
    if len(ours) == len(theirs):
        return _of_mean([mine - his for mine, his in zip(ours, theirs, strict=True)])
    one, other = _of_mean(ours), _of_mean(theirs)
    return None if one is None or other is None else one + other


def _of_mean(values: Sequence[float]) -> float | None:
    count = len(values)
    if count < 2:
        return None
    center = mean(values)
    return fsum((value - center) ** 2 for value in values) / (count - 1) / count
