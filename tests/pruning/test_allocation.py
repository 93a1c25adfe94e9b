"""One budget over many questions: where samples go, what they cost, and what is believed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import (
    Allocation,
    Allocator,
    Evaluator,
    PolicyError,
    Question,
    QuestionState,
    Trace,
    allocate,
)
from pruning.allocation import changes, slopes
from pruning.evaluation.allocating import cut
from reasoning.policies import parse_allocation

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 12), max_size=5)
ASKED = st.lists(st.tuples(COUNTS, st.integers(0, 4), st.integers(1, 900)), min_size=1, max_size=6)


def allocator(asked: list[tuple[dict[str, int], int, int]], most: int = 64) -> Allocator:
    """Questions with votes, samples without an answer, and the cost of each sample."""
    states = {}
    for place, (votes, silent, cost) in enumerate(asked):
        samples = sum(votes.values()) + silent
        states[f"q{place}"] = QuestionState(
            votes=Counter(votes), samples=samples, cost=samples * cost, most=most
        )
    return Allocator(states=states)


def question(name: str, answers: str, *, right: str = "a", tokens: int = 100) -> Question:
    traces = tuple(Trace(tokens=tokens, answer=None if a == "-" else a) for a in answers)
    return Question(id=name, right=frozenset({right}), traces=traces)


@given(ASKED, st.floats(0, 5000))
def test_a_round_is_expected_to_cost_no_more_than_what_is_left(
    asked: list[tuple[dict[str, int], int, int]], left: float
) -> None:
    spreads = allocator(asked)
    planned = spreads.next_round(left)
    assert sum(spreads.expected(q) * count for q, count in planned.items()) <= left + 1e-6
    assert planned == allocator(asked).next_round(left)


@given(ASKED, st.integers(0, 80))
def test_a_budget_of_samples_is_never_overspent(
    asked: list[tuple[dict[str, int], int, int]], left: int
) -> None:
    spreads = allocator([(votes, silent, 1) for votes, silent, _ in asked], most=20)
    planned = spreads.next_round(left)
    assert sum(planned.values()) <= left
    assert all(count <= spreads.states[q].left for q, count in planned.items())


@given(st.integers(2, 10), st.integers(0, 4), st.integers(1, 40), st.integers(0, 2))
def test_an_open_question_is_sampled_before_a_settled_one(
    first: int, second: int, left: int, silent: int
) -> None:
    """Both have as many samples at as much each; of one, the margin is larger."""
    second = min(second, first - 2)
    settled, unsettled = {"a": first, "b": second}, {"a": first - 1, "b": second + 1}
    settled = {answer: count for answer, count in settled.items() if count}
    spreads = allocator([(settled, silent, 100), (unsettled, silent, 100)])
    planned = spreads.next_round(left * 100.0)
    assert planned.get("q1", 0) >= min(1, planned.get("q0", 0))
    assert next(iter(spreads.next_round(100)), "q1") == "q1"


@given(COUNTS, st.integers(0, 5))
def test_a_leader_is_likelier_to_change_the_more_samples_follow(
    votes: dict[str, int], silent: int
) -> None:
    chances = changes(votes, sum(votes.values()) + silent)
    assert chances[0] == 0
    assert max(chances) <= 1
    steps = [*slopes(chances)]
    assert len(steps) == len(chances) - 1
    assert all(one >= other - 1e-12 for one, other in pairwise(steps))
    assert sum(steps) >= max(chances) - 1e-9


def test_the_chance_of_a_change_is_that_of_the_urn() -> None:
    # 2 to 1: the second leads after two samples if both are its own: 1/4 · 2/5; or a new answer,
    # which has no vote yet, would need three.
    assert changes({"a": 2, "b": 1}, 3)[2] == pytest.approx(1 / 4 * 2 / 5)
    # A tie changes with the next vote of the second.
    assert changes({"a": 1, "b": 1}, 2)[1] == pytest.approx(1 / 3)
    assert changes({}, 0)[1] == 1


def test_of_two_equal_votes_the_cheaper_question_is_sampled() -> None:
    spreads = allocator([({"a": 2, "b": 2}, 0, 1000), ({"a": 2, "b": 2}, 0, 100)])
    assert spreads.next_round(300) == {"q1": 1}


def test_nothing_is_drawn_where_nothing_is_left() -> None:
    assert allocator([({"a": 1}, 0, 100)]).next_round(0) == {}
    assert allocator([({"a": 4}, 0, 100)], most=4).next_round(10_000) == {}
    with pytest.raises(PolicyError, match="budget"):
        allocator([({"a": 1}, 0, 100)]).next_round(-1)


def test_the_budget_goes_where_answers_disagree() -> None:
    easy, hard = question("easy", "a" * 40), question("hard", "ba" + "ab" * 3 + "a" * 32)
    done = allocate(Evaluator(questions=[easy, hard], shuffles=8), Allocation(mean=8))
    traces = {outcome.question: outcome.traces for outcome in done.summary.outcomes}
    assert traces["easy"] < traces["hard"]
    assert done.summary.tokens <= 8 * 100
    assert 1 < done.rounds <= 7
    assert done.span >= 100 * (done.rounds - 1)


@given(st.integers(1, 12), st.integers(0, 4), st.integers(1, 5))
def test_a_replay_spends_no_more_than_its_budget(mean: int, first: int, rounds: int) -> None:
    pool = [
        question("one", "aabba-ab" * 4, tokens=130),
        question("two", "cadbaaca" * 4, tokens=70),
        question("three", "aaaaaaaa" * 4, tokens=40),
    ]
    first = min(first, mean)
    plan = Allocation(mean=mean, first=first or 1, rounds=rounds)
    evaluator = Evaluator(questions=pool, shuffles=2)
    done = allocate(evaluator, plan)
    assert done.summary.tokens <= mean * 80 + 1e-6
    assert done == allocate(Evaluator(questions=pool, shuffles=2), plan)
    assert evaluator.beside(done.summary).token_matched.tokens <= mean * 80 + 1e-6


def test_what_outlives_the_budget_is_stopped_and_has_no_vote() -> None:
    assert cut([10, 20, 30], 60) == 30
    assert cut([10, 20, 30], 45) == 17  # 10, 17 and 17 tokens, and one that is left
    assert cut([], 5) == 0


def test_an_allocation_can_begin_with_the_default_policy() -> None:
    pool = [question("one", "ab" * 20), question("two", "a" * 40)]
    done = allocate(Evaluator(questions=pool, shuffles=4), Allocation(mean=10, first=0))
    one, two = done.summary.outcomes
    assert one.traces > two.traces
    assert two.accuracy == 1


def test_an_allocation_is_named_by_a_text() -> None:
    plan = parse_allocation("allocation:mean=6,first=3")
    assert (plan.mean, plan.first, plan.rounds) == (6, 3, 6)
    assert parse_allocation(plan.label) == plan
    with pytest.raises(ValueError, match="mean"):
        parse_allocation("allocation:mean=0")
