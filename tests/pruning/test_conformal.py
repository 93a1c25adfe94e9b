"""Conformal p-values and rate control: the guarantees as stated, and agreement with crepes."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import (
    Accept,
    AdaptiveLevel,
    Bank,
    ConformalController,
    Escalate,
    PolicyError,
    PolicySession,
    QuantileTracker,
    Resample,
    StepScored,
    level_for_budget,
    p_value,
    spread,
)

SCORES = st.lists(st.integers(0, 8).map(float), max_size=30)  # few values: ties are usual


@given(SCORES, st.integers(0, 8).map(float))
def test_p_values_are_those_of_crepes(calibration: list[float], score: float) -> None:
    from crepes import ConformalClassifier

    if not calibration:
        assert p_value([], score) == 1.0
        return
    peer = ConformalClassifier().fit(np.array(calibration))
    theirs = peer.predict_p(np.array([[score]]), all_classes=True, smoothing=False)
    assert p_value(sorted(calibration), score) == pytest.approx(float(theirs[0, 0]))


def test_mondrian_p_values_are_those_of_crepes() -> None:
    from crepes import ConformalClassifier

    rng = Random(3)
    turns = [rng.randrange(3) for _ in range(200)]
    scores = [rng.gauss(turn, 1) for turn in turns]
    bank = Bank(least=1)
    for turn, score in zip(turns[:150], scores, strict=False):
        bank.add(turn, score)
    peer = ConformalClassifier().fit(np.array(scores[:150]), bins=np.array(turns[:150]))
    theirs = peer.predict_p(
        np.array(scores[150:])[:, None], bins=np.array(turns[150:]), smoothing=False
    )
    ours = [bank.p_value(t, s) for t, s in zip(turns[150:], scores[150:], strict=True)]
    assert ours == pytest.approx(theirs[:, 0].tolist())


@given(SCORES.filter(bool))
def test_p_values_are_super_uniform_over_the_orders_of_any_scores(scores: list[float]) -> None:
    """Each score in turn is the new one: exchangeability itself, exact for any scores and ties."""
    count = len(scores)
    ps = [p_value(sorted(scores[:i] + scores[i + 1 :]), score) for i, score in enumerate(scores)]
    for k in range(1, count + 1):
        assert sum(p <= k / count + 1e-12 for p in ps) <= k


def test_p_values_are_super_uniform_over_many_seeds() -> None:
    levels, runs = (0.05, 0.1, 0.4, 0.8), 4000
    flagged = dict.fromkeys(levels, 0)
    for seed in range(runs):
        rng = Random(seed)
        scores = [round(rng.expovariate(1), 1) for _ in range(20)]
        p = p_value(sorted(scores[1:]), scores[0])
        for level in levels:
            flagged[level] += p <= level
    for level, count in flagged.items():
        assert count / runs <= level + 3 * math.sqrt(level * (1 - level) / runs)


def test_a_new_score_is_never_less_strange_than_impossible() -> None:
    assert p_value([1.0, 2.0, 3.0], 9.0) == 1 / 4
    assert p_value([1.0, 2.0, 3.0], 2.0) == 3 / 4
    assert p_value([1.0, 2.0, 3.0], 0.0) == 1.0
    with pytest.raises(PolicyError, match="not a number"):
        p_value([], float("nan"))


def test_the_spread_of_the_rate_is_by_units_not_by_traces() -> None:
    assert spread(0.4, 100) == pytest.approx(0.048, abs=0.001)
    assert spread(0.4, 1600) == pytest.approx(0.012, abs=0.001)


def test_bins_have_p_values_of_their_own_once_they_are_large_enough() -> None:
    bank = Bank(least=2)
    for score in (1.0, 1.0, 1.0):
        bank.add("early", score)
    bank.add("late", 9.0)
    assert bank.p_value("late", 5.0) == 2 / 5  # pooled: 9 of 1, 1, 1, 9
    bank.add("late", 9.0)
    assert bank.p_value("late", 5.0) == 1.0
    assert bank.p_value("early", 5.0) == 1 / 4


@given(SCORES, st.integers(1, 5))
def test_a_bin_keeps_its_newest_scores(scores: list[float], most: int) -> None:
    bank = Bank(least=1, most=most)
    for number, score in enumerate(scores, 1):
        bank.add(0, score)
        kept = bank.bins[0].scores
        assert max(1, min(most // 2, number)) <= len(kept) <= most
        assert kept == sorted(scores[number - len(kept) : number])


LEVELS = st.floats(0.05, 0.95)


@given(LEVELS, st.floats(0.01, 0.5), st.lists(st.floats(1e-3, 1), min_size=1, max_size=300))
def test_aci_keeps_its_bound_for_any_sequence(target: float, gamma: float, ps: list[float]) -> None:
    level = AdaptiveLevel(target=target, gamma=gamma)
    for p in ps:
        level.update(level.flags(p))
        assert abs(level.rate - target) <= level.bound + 1e-9


@given(LEVELS, st.floats(0.05, 2), st.lists(st.floats(0, 10), min_size=1, max_size=300))
def test_quantile_tracking_keeps_its_bound_for_any_sequence(
    target: float, eta: float, scores: list[float]
) -> None:
    tracker = QuantileTracker(target=target, top=10, eta=eta, quantile=3)
    for score in scores:
        tracker.update(tracker.flags(score))
        assert abs(tracker.rate - target) <= tracker.bound + 1e-9


def test_a_budget_of_calls_gives_a_level() -> None:
    assert level_for_budget(40, 100) == 0.4
    assert level_for_budget(500, 100) == 1.0
    with pytest.raises(PolicyError, match="steps: 0 is not above 0"):
        level_for_budget(1, 0)


@given(st.lists(st.integers(0, 8).map(float), min_size=1, max_size=30), LEVELS)
def test_a_budget_is_expected_to_be_met_exactly_but_for_ties(
    scores: list[float], level: float
) -> None:
    def called(scores: list[float]) -> int:
        """How many of them, each held against the others, have a p-value at most the level."""
        others = ([*scores[:at], *scores[at + 1 :]] for at in range(len(scores)))
        return sum(
            p_value(sorted(rest), one) <= level for rest, one in zip(others, scores, strict=True)
        )

    count = len(scores)
    exact = sum(place / count <= level for place in range(1, count + 1))
    assert called(scores) <= exact <= level * count + 1e-9
    assert level * count - exact < 1
    assert called([score + at / 100 for at, score in enumerate(scores)]) == exact, "without ties"
    assert called([1.0] * count) == 0, "all are equal"


def test_a_predicted_budget_is_met_within_its_spread() -> None:
    rng = Random(5)
    level = level_for_budget(300, 1000)
    bank = Bank(least=1)
    for _ in range(500):
        bank.add(0, rng.expovariate(1))
    calls = sum(bank.p_value(0, rng.expovariate(1)) <= level for _ in range(1000))
    assert abs(calls - 300) <= 3 * 1000 * (spread(level, 500) + spread(level, 1000))


def stream(seed: int, *, shift: float = 1.0, steps: int = 3000) -> list[StepScored]:
    """Scores that depend on a hidden difficulty of each question and on the turn."""
    rng = Random(seed)
    made: list[StepScored] = []
    while len(made) < steps:
        hard = rng.gauss(0, 0.5)
        for chain in range(8):
            for turn in range(rng.randint(1, 6)):
                late = len(made) > steps / 2
                score = 1 + (shift if late else 1.0) * math.exp(hard + rng.gauss(0.1 * turn, 0.3))
                made.append(StepScored(trace=chain, turn=turn, score=score))
    return made[:steps]


@pytest.mark.parametrize("method", ["aci", "quantile"])
@pytest.mark.parametrize("shift", [1.0, 2.0], ids=["same", "shifted at half time"])
def test_the_rate_is_held_for_a_stream_overall_and_in_every_turn(method: str, shift: float) -> None:
    session = PolicySession(policy=ConformalController(alpha=0.4, method=method))  # type: ignore[arg-type]
    flags: dict[int, list[bool]] = {}
    for step in stream(1, shift=shift):
        (decision,) = session.tell(step)
        flags.setdefault(step.turn, []).append(isinstance(decision, Escalate))
    every = [flag for turn in flags.values() for flag in turn]
    assert abs(sum(every) / len(every) - 0.4) <= 0.02
    for turn in flags.values():
        assert abs(sum(turn) / len(turn) - 0.4) <= 0.05


def test_a_growing_bank_alone_loses_the_rate_under_a_shift() -> None:
    session = PolicySession(policy=ConformalController(alpha=0.4, method="bank"))
    flags = [isinstance(session.tell(s)[0], Escalate) for s in stream(1, shift=2.0)]
    assert sum(flags) / len(flags) > 0.45


def test_a_strange_step_is_drafted_again_before_the_target_is_called() -> None:
    seeded = tuple((0, float(i)) for i in range(50))
    session = PolicySession(policy=ConformalController(method="bank", rejects=1, seeded=seeded))
    kinds = [type(session.tell(StepScored(trace=0, turn=0, score=99.0))[0]) for _ in range(2)]
    assert kinds == [Resample, Escalate]
    (accepted,) = session.tell(StepScored(trace=1, turn=0, score=1.0))
    assert isinstance(accepted, Accept)
    assert accepted.reason.startswith("turn 0: p 0.9")


def test_no_chain_waits_for_another() -> None:
    session = PolicySession(policy=ConformalController())
    for step in stream(2, steps=50):
        assert len(session.tell(step)) == 1
