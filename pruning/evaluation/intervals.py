"""Intervals of 95 % for means over questions, which hold for few questions and for rare events.

A question counts once, however many traces or orders it has.  `benchmarks/intervals.py` measures
how often these intervals cover, beside others that were tried (bootstraps, Student's t alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf, sqrt
from statistics import NormalDist

from pruning.policy import require

Interval = tuple[float, float]
Z = NormalDist().inv_cdf(0.975)
HALF = 0.5
"""The weight of each imaginary question that is added to a mean."""
FIFTH = 0.2
"""The weight of each imaginary question that is added to a difference."""
FEW = 0.1
"""The share of questions that differ at which an imaginary one differs by the root of the most."""
LEAST = 0.05
"""The least that an imaginary question differs by."""
EQUAL = 1e-9
"""Differences below this come from rounding."""


def share_interval(count: int, of: int) -> Interval:
    """The interval of a share, ``count`` of ``of`` (Wilson 1927).

    Raises:
        PolicyError: the numbers are not 0 ≤ count ≤ of, of > 0.
    """
    require(0 <= count <= of and of > 0, f"share: {count} of {of}; give 0 or more of 1 or more")
    return _wilson(count / of, of)


def mean_interval(values: Sequence[float]) -> Interval:
    """The interval of the mean of values in [0, 1], one for each question.

    It is Wilson's, for as many questions with outcomes 0 or 1 as would make the mean as certain
    (Kish's effective sample size).  Their number follows from the variance, to which half a
    question with 0 and half a question with 1 are added, so that equal values are not taken for
    certainty.  Outcomes of 0 and 1 alone have Wilson's interval itself.

    Raises:
        PolicyError: there is no value, or one is out of range.
    """
    _check(values, 0)
    count, total = len(values), sum(values)
    weight = count + 2 * HALF
    center = (total + HALF) / weight
    variance = (sum(value * value for value in values) + HALF) / weight - center * center
    worth = round(center * (1 - center) / variance, 12)  # 1 for right and wrong, to the last digit
    return _wilson(min(1.0, total / count), count * worth)


def difference_interval(values: Sequence[float], *, unit: float = EQUAL) -> Interval:
    """The interval of the mean of paired differences in [-1, 1], one for each question.

    It is Student's t over questions, to which two fifths of a question are added: one differs by as
    much as the largest difference seen, the other by as much the other way round
    (pseudo-observations in the manner of Agresti and Min 2005), and both by more where a small
    share of the questions differs, for then larger differences may be unseen.  So a few questions
    that all fall on one side, or differ equally, are not taken for certainty.  Where none
    differs at all, up to 1 - 0.05^(1/n), which is about 3/n, of all questions may (rule of three).

    Args:
        unit: What is too small to be a difference of outcomes, as half of 1/16 over 16 orders: it
            comes from rounding, or from between two whole numbers of samples.

    Raises:
        PolicyError: there is no value, or one is out of range.
    """
    _check(values, -1)
    count = len(values)
    if _none_differs(values, unit):
        rare, center = 1 - 0.05 ** (1 / count), sum(values) / count
        return max(-1.0, center - rare), min(1.0, center + rare)
    center, variance = _moments(values)
    half = student(count - 1) * sqrt(variance / (count + 2 * FIFTH))
    return max(-1.0, center - half), min(1.0, center + half)


def questions_needed(values: Sequence[float], half: float = 0.01, *, unit: float = EQUAL) -> int:
    """How many questions with differences such as these make an interval of ``half`` either way.

    ``unit`` is that of `difference_interval`.

    Raises:
        PolicyError: there is no value, or one is out of range.
    """
    _check(values, -1)
    if _none_differs(values, unit):
        return ceil(3 / half)
    _, variance = _moments(values)
    about = ceil(variance * (Z / half) ** 2)
    return ceil(variance * (student(max(2, about - 1)) / half) ** 2)


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, to 0.004; infinite without a degree of freedom.

    Source: Abramowitz and Stegun 26.7.5, and exact values for one and two degrees.
    """
    if freedom < 3:
        return (inf, 12.7062, 4.3027)[max(0, freedom)]
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return Z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def _wilson(share: float, count: float) -> Interval:
    """Wilson's interval of a share among ``count`` questions, which need not be whole."""
    squared = Z * Z / count
    center = (share + squared / 2) / (1 + squared)
    half = sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    return max(0.0, center - half), min(1.0, center + half)


def _moments(differences: Sequence[float]) -> tuple[float, float]:
    """The mean and variance of differences and of the two imaginary ones."""
    weight = len(differences) + 2 * FIFTH
    sizes = [abs(value) for value in differences]
    share = sum(sizes) / max(sizes) / len(sizes)  # that differ, where all of them do so equally
    largest = max(LEAST, max(sizes) ** (share / (share + FEW)))
    center = sum(differences) / weight
    squares = sum(value * value for value in differences) + 2 * FIFTH * largest * largest
    return center, squares / weight - center * center


def _none_differs(values: Sequence[float], unit: float) -> bool:
    return max(map(abs, values)) < max(EQUAL, unit - EQUAL)


def _check(values: Sequence[float], least: int) -> None:
    require(len(values) > 0, "interval: no value; give at least one question")
    inside = all(least - EQUAL <= value <= 1 + EQUAL for value in values)
    require(inside, f"interval: a value is not from {least} to 1; give shares or differences")
