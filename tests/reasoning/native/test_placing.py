"""Where branches stand and what follows them, counted by hand from the published positions."""

from __future__ import annotations

import pytest

from reasoning.language.native.catalog import FAMILIES, family
from reasoning.language.native.placing import BranchEnd, ForkPlace
from reasoning.values.context import Context, Segment

PROMPT = list(range(10))  # the plan ends at g = 9


def joined(name: str, which: str, lengths: list[int], *, tail: int = 0) -> tuple[int, int]:
    """Where every branch begins, and what follows, for branches of these lengths."""
    place = ForkPlace(
        base=Context.given(PROMPT),
        lead=[50] if name in ("multiverse", "npr") else [],
        placement=family(name).placement(which),
        prompt=len(PROMPT),
    )
    ends = []
    for length in lengths:
        segment = Segment(place.start, [60] * (length + tail))
        ends.append(BranchEnd(place.start.after(segment), list(segment.tokens), tail))
    assert {end.context.position - tail for end in ends} == {
        place.start.position + length for length in lengths
    }
    return place.start.position, place.joined(ends).position


@pytest.mark.parametrize("name", ["multiverse", "npr"])
def test_trained_positions_overlap_and_resume_behind_the_longest(name: str) -> None:
    assert joined(name, "trained", [4, 7, 5], tail=1) == (9 + 1, 9 + 7 + 1)


@pytest.mark.parametrize("name", ["multiverse", "npr"])
def test_the_engines_positions_are_one_and_two_later(name: str) -> None:
    assert joined(name, "engine", [4, 7, 5], tail=1) == (9 + 2, 9 + 7 + 3)


def test_parathinkers_engine_resumes_a_prompt_later() -> None:
    assert joined("parathinker", "trained", [4, 7]) == (10, 9 + 7 + 1)
    assert joined("parathinker", "engine", [4, 7]) == (10, 10 + 7 + 10)


def test_text_is_computed_again_at_increasing_positions() -> None:
    assert joined("threadweaver", "trained", [4, 7]) == (10, 10 + 4 + 7)


def test_no_sibling_sees_another_and_what_follows_sees_all() -> None:
    place = ForkPlace(
        base=Context.given(PROMPT), lead=[50], placement=family("multiverse").placement()
    )
    one, two = Segment(place.start, [61, 62]), Segment(place.start, [71])
    ends = [BranchEnd(place.start.after(part), part.tokens) for part in (one, two)]
    assert place.start.tokens == [*PROMPT, 50]
    assert place.joined(ends).tokens == [*PROMPT, 50, 61, 62, 71]
    assert all(entry.shift == 0 for entry in place.joined(ends).entries)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_described_by_a_file_of_its_own(name: str) -> None:
    found = family(name)
    assert found.name == name
    assert found.title
