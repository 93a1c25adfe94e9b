"""Problems drawn in bulk, what they come to, and how they are stored."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidValue
from reasoning.bench import draw_problems


def test_a_seed_draws_the_same_held_out_problems() -> None:
    drawn = draw_problems("countdown", 20, numbers=4, seed=1)
    assert drawn == draw_problems("countdown", 30, numbers=4, seed=1)[:20]
    assert drawn != draw_problems("countdown", 20, numbers=4, seed=2)
    assert all(problem.held_out for problem in drawn)  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [0, 1_000_000])
def test_a_number_of_problems_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(InvalidValue, match=f"n: {count} is out of range"):
        draw_problems("countdown", count, numbers=4, seed=0)
