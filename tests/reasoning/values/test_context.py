"""Contexts as values: where the next token of a moved or joined one stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.values.context import Context, Segment

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(st.integers(1, 20), lengths, st.integers(-1, 1), st.integers(-1, 20))
def test_branches_and_what_follows_them_stand_where_a_rule_says(
    before: int, lengths: list[int], branch: int, resume: int
) -> None:
    plan = Context.given(range(before)).then([7]).moved(branch)
    ends = [plan.after(Segment(plan, range(length))) for length in lengths]
    conclusion = plan.join(ends).moved(resume)
    assert Segment(plan).home == before + 1 + branch
    assert Segment(conclusion).home == before + 1 + branch + max(lengths) + resume
    assert [entry.segment.home for entry in conclusion.entries[:2]] == [0, before]
    assert len(conclusion) == before + 1 + sum(lengths)


def test_a_moved_context_is_no_plain_text_but_at_its_place() -> None:
    text = Context.given([1, 2, 3])
    assert text.sequential
    assert not text.moved(-1).sequential
    assert text.moved(4).moved(-4).sequential


@given(lengths, st.data())
def test_the_first_tokens_of_a_text_are_a_text(lengths: list[int], data: st.DataObject) -> None:
    text = Context()
    for length in lengths:
        text = text.then(range(length))
    count = data.draw(st.integers(1, len(text)))
    first = text.first(count)
    assert first.tokens == text.tokens[:count]
    assert (len(first), first.position) == (count, count)
    assert text.first(len(text)) == text


@pytest.mark.parametrize(
    "context", [Context.given([1, 2]), Context.flow([Segment(Context(), [1])])]
)
def test_a_move_without_a_place_is_refused(context: Context) -> None:
    with pytest.raises(ValueError, match="can't be moved by -3"):
        context.moved(-3)
