"""Arms compared: by question, at equal cost, and with what the orders of traces leave unknown."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import stdev
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import (
    AsyncConsensus,
    Began,
    Capped,
    Decisions,
    Evaluator,
    FixedSamples,
    Launch,
    Observation,
    PolicyError,
    ProbedConsensus,
    Question,
    QuestionOutcome,
    Summary,
    Trace,
    VotingPolicy,
    gain,
    summarise,
)
from pruning.evaluation.baseline import Cost
from pruning.policies.ballots import Ballots

INTERVALS = Path(__file__).parents[2] / "benchmarks" / "intervals.py"


def questions(count: int = 12, each: int = 8, seed: int = 0) -> list[Question]:
    rng = Random(seed)
    made = []
    for number in range(count):
        right = rng.random()
        traces = tuple(
            Trace(
                tokens=rng.randint(5, 90),
                answer="1" if rng.random() < right else rng.choice(["2", "3", None]),
            )
            for _ in range(each)
        )
        made.append(Question(id=f"q{number}", right=frozenset("1"), traces=traces))
    return made


def arm(name: str, **accuracies: float) -> Summary:
    return summarise(
        name,
        [
            QuestionOutcome(question=question, accuracy=accuracy, tokens=1, span=1, traces=1)
            for question, accuracy in accuracies.items()
        ],
    )


# Self-consistency by the number of samples.


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=9), st.integers(1, 12))
def test_the_curve_is_what_replays_are(answers: list[str | None], n: int) -> None:
    traces = tuple(Trace(tokens=9 - i, answer=answer) for i, answer in enumerate(answers))
    question = Question(id="q", right=frozenset("1"), traces=traces)
    evaluator = Evaluator(questions=[question], shuffles=3)
    runs = [evaluator.replay(FixedSamples(n=n), question, shuffle) for shuffle in range(3)]
    (outcome,) = evaluator.baseline(n).outcomes
    assert outcome.orders == tuple(float(run.answer == "1") for run in runs)
    assert outcome.tokens == pytest.approx(sum(run.tokens for run in runs) / 3)
    assert outcome.span == pytest.approx(sum(run.span for run in runs) / 3)
    assert (outcome.traces, outcome.traces_missing) == (
        min(n, len(answers)),
        max(0, n - len(answers)),
    )


@pytest.mark.parametrize("cost", ["tokens", "span", "traces"])
@given(share=st.floats(0, 1))
def test_equal_costs_are_met_between_whole_numbers_of_samples(cost: Cost, share: float) -> None:
    evaluator = Evaluator(questions=questions(), shuffles=2)
    one, every = (getattr(evaluator.baseline(n), cost) for n in (1, 8))
    wanted = one + share * (every - one)
    assert getattr(evaluator.curve.at(cost, wanted), cost) == pytest.approx(wanted)


def test_between_two_numbers_of_samples_lies_a_mixture_of_both() -> None:
    evaluator = Evaluator(questions=questions())
    two, three, mixed = (evaluator.baseline(n) for n in (2, 3, 2.25))
    assert mixed.policy == "sc:n=2.25"
    for low, high, between in zip(two.outcomes, three.outcomes, mixed.outcomes, strict=True):
        for name in ("accuracy", "tokens", "span", "traces"):
            ends = 0.75 * getattr(low, name) + 0.25 * getattr(high, name)
            assert getattr(between, name) == pytest.approx(ends)


def test_what_costs_less_than_a_sample_or_more_than_all_stands_beside_one_or_all() -> None:
    curve = Evaluator(questions=questions()).curve
    assert curve.at("tokens", 1).policy == "sc:n=1, the fewest"
    assert curve.at("tokens", 1e9).policy == "sc:n=8, the most"
    assert curve.at("tokens", curve.summary(1).tokens).policy == "sc:n=1"
    assert curve.at("tokens", curve.summary(8).tokens).policy == "sc:n=8"


# Traces that are not there.


@dataclass(frozen=True, kw_only=True)
class Greedy(VotingPolicy[Ballots]):
    """Launches more than the driver said that it can."""

    name: ClassVar[str] = "greedy"
    n: int = 4

    def start(self, state: Ballots) -> Decisions:
        state.running += 4
        return (Launch(count=30, reason="all"),)

    def observe(self, state: Ballots, observation: Observation) -> Decisions:
        if isinstance(observation, Began):
            return self.start(state)
        return super().observe(state, observation)


@pytest.mark.parametrize(
    ("policy", "missing"),
    [
        (FixedSamples(n=64), 60),
        (FixedSamples(n=4), 0),
        (AsyncConsensus(k=6, threshold=1.0), 2),
        (Capped(inner=FixedSamples(n=5), tokens=50), 1),
        (ProbedConsensus(k=2), 0),
        (Greedy(), 26),
    ],
)
def test_missing_traces_are_counted(policy: VotingPolicy[Ballots], missing: int) -> None:
    made = questions(count=3, each=4)
    summary = Evaluator(questions=made, shuffles=2).evaluate(policy)
    assert summary.traces_missing == missing
    assert summary.questions_short == (3 if missing else 0)


def test_an_early_decision_misses_no_traces() -> None:
    sure = Question(
        id="q", right=frozenset("1"), traces=tuple(Trace(tokens=5, answer="1") for _ in range(6))
    )
    summary = Evaluator(questions=[sure]).evaluate(AsyncConsensus(k=2, n=64, threshold=0.8))
    assert summary.traces < 6
    assert summary.traces_missing == 0


def test_a_question_without_traces_is_named() -> None:
    with pytest.raises(PolicyError, match="'q': no trace"):
        Evaluator(questions=[Question(id="q", right=frozenset("1"), traces=())])


# What one arm gains over another.


def test_a_gain_is_paired_by_question() -> None:
    gained = gain(arm("ours", a=1, b=0.5, c=0), arm("theirs", c=0, b=0.25, a=0.5))
    assert gained.mean == pytest.approx(0.25)
    assert gained.orders_error is None


def test_a_gain_over_a_mixture_of_equal_arms_is_not_certain() -> None:
    evaluator = Evaluator(questions=questions())
    same = gain(evaluator.baseline(2), evaluator.baseline(2))
    mixed = gain(evaluator.baseline(2), evaluator.baseline(2.01))
    assert mixed.mean != 0
    assert mixed.ci95 == pytest.approx(same.ci95, abs=0.01)
    assert mixed.questions_needed == same.questions_needed


def test_arms_over_other_questions_are_not_compared() -> None:
    ours, theirs = arm("ours", a=1, b=0), arm("theirs", a=1)
    with pytest.raises(PolicyError, match="ours and theirs: give outcomes on the same questions"):
        gain(ours, theirs)
    assert gain(ours.over({"a"}), theirs).mean == 0


@pytest.mark.parametrize(("step", "verdict"), [(0.2, "better"), (-0.2, "worse"), (0, "undecided")])
def test_the_verdict_is_the_sign_that_the_interval_shows(step: float, verdict: str) -> None:
    rng = Random(0)
    base = {f"q{number}": 0.3 + 0.4 * rng.random() for number in range(40)}
    other = {name: value + step + rng.uniform(-0.1, 0.1) for name, value in base.items()}
    assert gain(arm("ours", **other), arm("theirs", **base)).verdict == verdict


def test_the_error_of_the_orders_is_how_much_other_orders_change_the_gain() -> None:
    made = questions(count=20)
    gains = []
    for seed in range(40):
        evaluator = Evaluator(questions=made, shuffles=4, seed=seed)
        gains.append(gain(evaluator.evaluate(AsyncConsensus(k=3)), evaluator.baseline(1)))
    errors = [one.orders_error for one in gains if one.orders_error is not None]
    assert len(errors) == 40
    assert stdev(one.mean for one in gains) == pytest.approx(sum(errors) / 40, rel=0.3)


def test_the_same_arm_differs_by_no_order() -> None:
    evaluator = Evaluator(questions=questions())
    gained = gain(evaluator.baseline(3), evaluator.baseline(3))
    assert (gained.mean, gained.orders_error, gained.verdict) == (0, 0, "undecided")
    assert gained.ci95[0] < -0.1
    assert gained.ci95[1] > 0.1


def test_one_order_says_nothing_of_the_others() -> None:
    evaluator = Evaluator(questions=questions(), shuffles=1)
    assert gain(evaluator.baseline(3), evaluator.baseline(1)).orders_error is None


def test_arms_in_unlike_orders_are_compared_as_unrelated() -> None:
    made = questions()
    ours = Evaluator(questions=made, shuffles=16).baseline(2)
    theirs = Evaluator(questions=made, shuffles=8).baseline(2)
    apart = gain(ours, theirs).orders_error
    assert apart is not None
    assert apart > 0


# How often intervals hold the truth.


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    target = tmp_path / "intervals.json"
    command = [sys.executable, str(INTERVALS), "--alone", "--output", str(target)]
    subprocess.run([*command, "--draws", "300", "--count", "500"], check=True, timeout=300)
    for row in json.loads(target.read_text())["by_kind"]:
        held, few = row["mean"], row["questions"] < 60
        rare = "rare" in row["kind"]
        most = 1.0 if rare or (few and "live" in row["kind"]) else 0.99 if few else 0.97
        assert 0.93 <= held <= most, row
        # Whole differences that all fall on one side make steps, as they do for any interval.
        assert row["least"] >= (0.85 if row["kind"] == "live difference" else 0.89), row
