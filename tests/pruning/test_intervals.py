"""Intervals over questions: never certain where nothing varies, and never out of range."""

from __future__ import annotations

from math import comb
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import (
    PolicyError,
    difference_interval,
    mean_interval,
    questions_needed,
    share_interval,
)
from pruning.evaluation.intervals import student

counts = st.integers(1, 300)


@pytest.mark.parametrize(
    ("count", "of", "ends"),
    [(0, 12, (0.0, 0.2425)), (12, 12, (0.7575, 1.0)), (81, 263, (0.2553, 0.3662))],
)
def test_a_share_has_wilsons_interval(count: int, of: int, ends: tuple[float, float]) -> None:
    assert share_interval(count, of) == pytest.approx(ends, abs=1e-4)  # Newcombe 1998


@given(counts, st.data())
def test_right_and_wrong_answers_have_the_interval_of_their_share(
    count: int, data: st.DataObject
) -> None:
    right = data.draw(st.integers(0, count))
    values = [1.0] * right + [0.0] * (count - right)
    assert mean_interval(values) == pytest.approx(share_interval(right, count), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_interval_of_a_mean_holds_it_and_stays_in_range(values: list[float]) -> None:
    low, high = mean_interval(values)
    mean = sum(values) / len(values)
    assert 0 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    assert low < high


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_the_interval_of_a_difference_stays_in_range(values: list[float]) -> None:
    low, high = difference_interval(values)
    assert -1 <= low < high <= 1
    turned = difference_interval([-value for value in values])
    assert turned == pytest.approx((-high, -low))


@given(st.floats(0, 1), counts)
def test_equal_outcomes_are_not_certainty(value: float, count: int) -> None:
    low, high = mean_interval([value] * count)
    assert high - low > 1 / (count + 4)
    low, high = difference_interval([value] * count)
    assert high - low > 0.05 / (count + 4)


@pytest.mark.parametrize("count", [1, 12, 60, 200])
def test_where_nothing_differs_three_in_n_may(count: int) -> None:
    low, high = difference_interval([0.0] * count)
    assert low == -high
    assert high == pytest.approx(3 / count, rel=0.15) or count == 1


def test_a_mixture_of_numbers_of_samples_is_no_difference() -> None:
    """Where two arms agree on all questions, the next number of samples must not hide it."""
    mixed = [0.02 / 16] * 20 + [-0.02 / 16] * 19 + [0.0]
    assert difference_interval(mixed) == pytest.approx((-0.0016, 0.0017), abs=1e-3)
    assert difference_interval(mixed, unit=1 / 32) == pytest.approx((-0.0722, 0.0722), abs=1e-3)
    assert questions_needed(mixed, unit=1 / 32) == 300
    one_order = [0.98 / 16] + [0.0] * 39
    assert difference_interval(one_order, unit=1 / 32) == difference_interval(one_order)


def test_many_questions_have_a_narrow_interval() -> None:
    narrow, wide = mean_interval([0.2, 1.0] * 200), mean_interval([0.2, 1.0] * 5)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert narrow[1] - narrow[0] < share_interval(240, 400)[1] - share_interval(240, 400)[0]


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (11, 2.2010), (100, 1.9840)],
)
def test_the_quantiles_of_students_t_are_those_of_tables(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, abs=4e-3)


def test_as_many_questions_as_needed_make_an_interval_of_a_point() -> None:
    some = [0.0, 0.0, 0.5, -0.25] * 15
    needed = questions_needed(some)
    low, high = difference_interval((some * needed)[:needed])
    assert (high - low) / 2 == pytest.approx(0.01, rel=0.1)
    low, high = difference_interval([0.0] * questions_needed([0.0] * 12))
    assert high == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "no value"), ([0.5, 1.5], "not from"), ([float("nan")], "not from")],
)
def test_what_is_no_share_is_refused(values: list[float], message: str) -> None:
    for interval in (mean_interval, difference_interval):
        with pytest.raises(PolicyError, match=message):
            interval(values)


def coverages(count: int, populations: list[tuple[float, float]]) -> list[float]:
    """How often the interval over so many questions, won, lost or neither, holds the truth."""
    totals = [0.0] * len(populations)
    for won, lost in ((w, x) for w in range(count + 1) for x in range(count + 1 - w)):
        same = count - won - lost
        low, high = difference_interval([1.0] * won + [-1.0] * lost + [0.0] * same)
        ways = comb(count, won) * comb(count - won, lost)
        for place, (up, down) in enumerate(populations):
            if low - 1e-9 <= up - down <= high + 1e-9:
                totals[place] += ways * up**won * down**lost * (1 - up - down) ** same
    return totals


@pytest.mark.parametrize(
    ("count", "least", "means"),
    [(12, 0.90, (0.95, 0.98)), (30, 0.91, (0.95, 0.97)), (60, 0.93, (0.95, 0.97))],
)
def test_intervals_of_live_differences_hold_the_truth_as_often_as_is_said(
    count: int, least: float, means: tuple[float, float]
) -> None:
    populations = [
        (share * gains, share * (1 - gains))
        for share in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
        for gains in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    ]
    found = coverages(count, populations)
    assert min(found) > least
    assert means[0] < fmean(found) < means[1]


@pytest.mark.parametrize("count", [12, 30, 60])
def test_intervals_of_shares_hold_the_truth_on_average(count: int) -> None:
    found = []
    for truth in (place / 50 for place in range(2, 49)):
        kept = [share_interval(right, count) for right in range(count + 1)]
        chances = [
            comb(count, k) * truth**k * (1 - truth) ** (count - k) * (low <= truth <= high)
            for k, (low, high) in enumerate(kept)
        ]
        found.append(sum(chances))
    assert 0.945 < fmean(found) < 0.965
    assert min(found) > 0.89
