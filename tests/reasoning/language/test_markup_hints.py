"""What the shipped model refuses is restated only where the restated question can be posed."""

from __future__ import annotations

import pytest

from reasoning.language.markup_dialect import untaught
from reasoning.problems import FreeForm, recognise


@pytest.mark.parametrize(
    ("question", "stated"),
    [
        ("give me some 5 multiples of 9 please", "List 5 different multiples of 9"),
        ("can one get 50 out of 3, 10, 21, 23?", "Use 3, 10, 21 and 23 to make 50"),
    ],
)
def test_a_question_that_nearly_states_a_problem_is_restated(question: str, stated: str) -> None:
    assert isinstance(recognise(question), FreeForm)
    assert f"state it as {stated!r}" in str(untaught("free-form", question=question))


@pytest.mark.parametrize("question", ["List the multiples of 7 below 40", "make 24 from 3 3 8 8"])
def test_a_question_that_is_none_is_not_restated(question: str) -> None:
    assert "state it as" not in str(untaught("free-form", question=question))
