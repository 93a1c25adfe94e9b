"""What a calibration promises: wrong merges are rare, or nothing is pruned."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue
from pruning import DeepPrune, FixedSamples, Question, Replay, Trace, agree
from pruning.judge.gate import TAUS, clusters, merges
from reasoning.judging import calibration as calibrations
from reasoning.judging.calibration import (
    Calibration,
    RiskTarget,
    ThresholdTest,
    apply,
    learn_then_test,
    load,
)

POLICY = DeepPrune(n=8, prefix=10, vote="soft")


def question(number: int, rng: Random) -> Question:
    """Eight traces; the harder the question, the more answers."""
    hard = rng.random()
    answers = ["a" if rng.random() > hard else rng.choice("bcd") for _ in range(8)]
    traces = tuple(Trace(tokens=50, answer=a, text=f"{i}{a}") for i, a in enumerate(answers))
    return Question(id=str(number), right=frozenset("a"), traces=traces)


def noisy(sharpness: float) -> Any:
    """A judge that is right on average, the more so the sharper it is; the same each time."""

    def judge(one: Trace, other: Trace, tokens: int) -> float:
        pair = "".join(sorted((one.text, other.text)))
        noise = Random(pair).gauss(0, 1)
        signal = sharpness if agree(one, other) else -sharpness
        return 1 / (1 + math.exp(-(signal + noise)))

    return judge


# What a merge is.


def test_a_merge_is_wrong_if_the_answer_is_not_the_clusters_first() -> None:
    traces = tuple(Trace(tokens=50, answer=a, text=a) for a in "aabb")
    asked = Question(id="q", right=frozenset(), traces=traces)
    always = merges(POLICY, asked, lambda one, other, tokens: 1.0)
    assert (always.loss, always.count) == (2 / 3, 3)
    knowing = merges(POLICY, asked, lambda one, other, tokens: float(agree(one, other)))
    assert (knowing.loss, knowing.count) == (0, 2)
    never = merges(POLICY, asked, lambda one, other, tokens: 0.0)
    assert (never.loss, never.count) == (0, 0)


def test_traces_without_an_answer_are_merged_wrongly_even_with_each_other() -> None:
    traces = tuple(Trace(tokens=50, answer=None, text=a) for a in "xy")
    asked = Question(id="q", right=frozenset(), traces=traces)
    assert merges(POLICY, asked, lambda one, other, tokens: 1.0).loss == 1


@pytest.mark.parametrize("seed", range(5))
def test_what_is_counted_are_the_policys_own_clusters(seed: int) -> None:
    asked, judge = question(seed, Random(seed)), noisy(1.0)
    policy = replace(POLICY, tau=0.6, k=3, k1=2, k2=8)
    found = clusters(policy, asked.traces, judge, seed=seed)
    run = Replay(policy=policy, stored=asked.traces, judge=judge, seed=seed).run()
    largest = max(found, key=len)
    kept = {d.decision.trace for d in run.log if type(d.decision).__name__ == "Resume"}
    assert kept == (set(largest) if len(largest) > 1 else {c[0] for c in found})


def test_short_traces_end_before_they_are_judged() -> None:
    traces = tuple(Trace(tokens=n, answer="a", text=str(n)) for n in (5, 50, 60))
    found = clusters(POLICY, traces, lambda one, other, tokens: 1.0)
    assert found == [[1, 2]]


# The promise.


@pytest.mark.parametrize("risk", [0.1, 0.3])
@pytest.mark.parametrize("delta", [0.1, 0.3])
def test_the_risk_is_exceeded_no_more_often_than_delta_over_many_sets(
    risk: float, delta: float
) -> None:
    rng = Random(0)
    judge = noisy(1.0)
    population = [question(number, rng) for number in range(200)]
    table = [
        [merges(replace(POLICY, tau=tau), q, judge, orders=1).loss for q in population]
        for tau in TAUS[::3]
    ]
    truth = [sum(row) / len(row) for row in table]
    assert truth[0] < risk < truth[-1]  # the promise can be broken
    broken, opened, sets = 0, 0, 400
    for _ in range(sets):
        drawn = rng.choices(range(200), k=60)
        _, valid = learn_then_test(
            [[row[i] for i in drawn] for row in table], RiskTarget(risk=risk, delta=delta)
        )
        broken += any(truth[index] > risk for index in valid)
        opened += bool(valid)
    assert broken / sets <= delta + 3 * math.sqrt(delta * (1 - delta) / sets)
    assert opened > 0


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=30, max_size=30), min_size=1, max_size=6),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_valid_thresholds_are_the_first_ones_and_each_has_a_small_p_value(
    losses: list[list[float]], risk: float, delta: float
) -> None:
    values, valid = learn_then_test(losses, RiskTarget(risk=risk, delta=delta))
    assert valid == frozenset(range(len(valid)))
    assert all(values[index] <= delta for index in valid)
    if len(valid) < len(values):
        assert values[len(valid)] > delta


def test_a_rate_at_the_risk_is_never_shown_to_be_below_it() -> None:
    values, valid = learn_then_test([[0.2] * 500], RiskTarget(risk=0.2, delta=0.4))
    assert values[0] > 0.4
    assert not valid


def test_small_shares_open_the_gate_that_the_mean_alone_leaves_shut() -> None:
    rng, goal = Random(1), RiskTarget(risk=0.1, delta=0.1)
    drawn = [
        [sum(rng.random() < 0.05 for _ in range(8)) / 8 for _ in range(60)] for _ in range(200)
    ]
    opened = sum(goal.p_value(losses) <= goal.delta for losses in drawn)
    assert opened >= 100  # by Hoeffding's and Bentkus' bounds 1 or 2
    at_risk = [
        [sum(rng.random() < 0.1 for _ in range(8)) / 8 for _ in range(60)] for _ in range(400)
    ]
    assert sum(goal.p_value(losses) <= goal.delta for losses in at_risk) <= 0.1 * 400 + 18


@given(st.floats(0.02, 0.5), st.floats(0.02, 0.5))
def test_fewer_questions_than_needed_show_nothing(risk: float, delta: float) -> None:
    goal = RiskTarget(risk=risk, delta=delta)
    assert learn_then_test([[0.0] * goal.fewest], goal)[1] == {0}
    if goal.fewest > 2:
        assert not learn_then_test([[0.0] * (goal.fewest - 2)], goal)[1]


@pytest.mark.parametrize("field", ["risk", "delta"])
def test_a_goal_out_of_range_is_refused(field: str) -> None:
    with pytest.raises(InvalidValue, match=f"{field}: 1 is out of range"):
        RiskTarget(**{"risk": 0.1, "delta": 0.1, field: 1})


# What comes of it.


def tried(*valid: tuple[float, float]) -> list[ThresholdTest]:
    rows = [ThresholdTest(tau=t, loss=0, merges=m, p_value=0, valid=True) for t, m in valid]
    return [*rows, ThresholdTest(tau=0.1, loss=0.9, merges=9, p_value=1, valid=False)]


def test_the_laxest_valid_threshold_is_taken() -> None:
    goal = RiskTarget(risk=0.1, delta=0.1)
    assert calibrations._choice(tried((0.9, 0), (0.8, 2)), goal, 100) == (0.8, "")


@pytest.mark.parametrize(
    ("rows", "count", "why"),
    [
        ((), 100, "no tau keeps the rate of wrong merges at 0.1 with probability 0.9"),
        (((0.9, 0.0),), 100, "what keeps the rate of wrong merges at 0.1 .* merges nothing"),
        ((), 24, "24 questions are too few .*; 25 would do at best"),
    ],
)
def test_without_a_valid_threshold_that_merges_the_gate_is_shut(
    rows: tuple[tuple[float, float], ...], count: int, why: str
) -> None:
    import re

    tau, said = calibrations._choice(tried(*rows), RiskTarget(risk=0.1, delta=0.1), count)
    assert tau is None
    assert re.fullmatch(why, said)


class Known:
    """As much of a judge as a calibration file is checked against."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint


def stored(tau: float | None = 0.7, why: str = "") -> Calibration:
    return Calibration(
        judge="f1",
        policy="deepprune:n=8,prefix=10,vote=soft",
        risk=0.1,
        delta=0.1,
        questions=50,
        orders=4,
        tau=tau,
        why=why,
        tried=(),
        marks=("m",),
    ).sealed()


def read(path: Path, fingerprint: str = "f1") -> Calibration:
    return load(path, Known(fingerprint))  # type: ignore[arg-type]


def test_a_calibration_is_read_as_written(tmp_path: Path) -> None:
    calibrations.write(stored(), tmp_path / "gate.json")
    assert read(tmp_path / "gate.json") == stored()
    assert [path.name for path in tmp_path.iterdir()] == ["gate.json"]
    assert stored().gated == replace(POLICY, tau=0.7)


def test_the_policy_of_a_shut_gate_votes_over_all_and_says_why(tmp_path: Path) -> None:
    policy = apply(stored(None, "no tau would do"), {})
    asked = question(0, Random(0))
    run = Replay(policy=policy, stored=asked.traces).run()
    plain = Replay(policy=FixedSamples(n=8), stored=asked.traces).run()
    assert (run.answer, run.tokens) == (plain.answer, plain.tokens)
    assert "no tau would do" in run.log[0].decision.reason


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tau": 0.1}, "was changed since it was written; run reason calibrate again"),
        ({"risk": 0.5}, "was changed since it was written"),
        ({"judge": "f2"}, "was changed since it was written"),
        ({"schema": "reason.calibration/2"}, "schema: .*; run reason calibrate again"),
        ({"more": 1}, "more: .*; run reason calibrate again"),
        ({"risk": 2}, "risk: .*; run reason calibrate again"),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    path = tmp_path / "gate.json"
    calibrations.write(stored(), path)
    change(path, **fields)
    with pytest.raises(InvalidValue, match=message):
        read(path)


def test_a_file_of_another_judge_is_refused(tmp_path: Path) -> None:
    calibrations.write(stored(), tmp_path / "gate.json")
    with pytest.raises(InvalidValue, match="is of another judge, or of older weights"):
        read(tmp_path / "gate.json", "f2")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"No such file.*; run reason calibrate again"):
        read(tmp_path / "gate.json")


@pytest.mark.parametrize("given", [{"tau": 0.5}, {"prefix": 20}, {"n": 9}, {"vote": "hard"}])
def test_another_parameter_than_was_calibrated_is_refused(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(InvalidValue, match=f"it is of {name}=.*; leave {name} out"):
        apply(stored(), given)


def test_what_only_reads_the_clusters_out_is_free() -> None:
    assert apply(stored(), {"tau": 0.7, "k2": 3}) == replace(POLICY, tau=0.7, k2=3)
    with pytest.raises(InvalidValue, match="k2: 0 is out of range"):
        apply(stored(), {"k2": 0})
