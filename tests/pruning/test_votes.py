"""Majority voting: who wins, in which order votes are listed, and with what confidence."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import majority

BALLOTS = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20)


@pytest.mark.parametrize(
    ("ballots", "winner"),
    [
        (["a"], "a"),
        (["a", "b", "b"], "b"),
        (["b", "a", "a", "b"], "b"),
        (["c", "b", "a"], "c"),
        ([None, "b", "a"], "b"),
        ([None, None, None, "a"], "a"),
        ([None, None], None),
        ([], None),
    ],
)
def test_most_votes_win_and_ties_go_to_the_earliest(
    ballots: list[str | None], winner: str | None
) -> None:
    assert majority(ballots).winner == winner


def test_votes_are_listed_most_first_and_the_earliest_first_among_equals() -> None:
    tally = majority(["b", "a", "c", "c", None, "a", "d"])
    assert list(tally.votes.items()) == [("a", 2), ("c", 2), ("b", 1), ("d", 1)]


def test_none_abstains() -> None:
    tally = majority([None, "a", None])
    assert tally.votes == {"a": 1}
    assert tally.abstained == 2


@pytest.mark.parametrize(
    ("ballots", "confidence"),
    [
        (["a", "a", "b", None], 0.5),
        (["a", None, None, None], 0.25),
        (["a"], 1.0),
        ([None], 0.0),
        ([], 0.0),
    ],
)
def test_confidence_is_the_share_of_all_traces(
    ballots: list[str | None], confidence: float
) -> None:
    assert majority(ballots).confidence == confidence


@pytest.mark.parametrize(
    ("ballots", "tied"),
    [
        (["a", "b", "c", "d"], True),
        (["a", "a", "b", "b", None], True),
        (["a", "a", "b"], False),
        (["a"], False),
        ([None, None], False),
        ([], False),
    ],
)
def test_a_winner_with_no_more_votes_than_another_is_tied(
    ballots: list[str | None], tied: bool
) -> None:
    assert majority(ballots).tied is tied


def test_an_empty_string_is_a_vote() -> None:
    tally = majority(["", "", "a"])
    assert tally.winner == ""
    assert tally.confidence == pytest.approx(2 / 3)


@given(BALLOTS)
def test_the_winner_has_the_maximal_count_and_was_cast_first_among_equals(
    ballots: list[str | None],
) -> None:
    tally = majority(iter(ballots))
    counts = Counter(ballot for ballot in ballots if ballot is not None)
    assert tally.votes == counts
    assert sum(tally.votes.values()) + tally.abstained == len(ballots)
    assert 0.0 <= tally.confidence <= 1.0
    best = [key for key in ballots if key is not None and counts[key] == max(counts.values())]
    assert tally.winner == (best[0] if best else None)


@given(BALLOTS, st.randoms(use_true_random=False))
def test_the_order_of_ballots_changes_no_count(ballots: list[str | None], rng: Random) -> None:
    shuffled = list(ballots)
    rng.shuffle(shuffled)
    before, after = majority(ballots), majority(shuffled)
    assert (before.votes, before.abstained) == (after.votes, after.abstained)
    assert before.confidence == after.confidence
