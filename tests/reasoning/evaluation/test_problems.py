"""Problems drawn in bulk, what they come to, and how they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.errors import InvalidValue
from reasoning.evaluation import draw_problems, draw_word_problems, read_traces
from reasoning.problems import recognise


def test_a_seed_draws_the_same_held_out_problems() -> None:
    drawn = draw_problems("countdown", 20, numbers=4, seed=1)
    assert drawn == draw_problems("countdown", 30, numbers=4, seed=1)[:20]
    assert drawn != draw_problems("countdown", 20, numbers=4, seed=2)
    assert all(problem.held_out for problem in drawn)  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [0, 1_000_000])
def test_a_number_of_problems_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(InvalidValue, match=f"n: {count} is out of range"):
        draw_problems("countdown", count, numbers=4, seed=0)


def test_word_problems_are_the_same_for_a_seed_and_have_one_value() -> None:
    drawn = draw_word_problems(200)
    assert drawn == draw_word_problems(200)
    assert drawn[:50] == draw_word_problems(50) != draw_word_problems(50, seed=1)
    for problem in drawn:
        value = next(n for n in range(10_000) if problem.verify(f"\\boxed{{{n}}}").ok)
        assert problem.verify(f"{problem.expression} = {value}").ok
        assert not problem.verify(f"{value + 1}").ok
        assert recognise(problem.question).domain == "free-form"


def test_a_word_problems_value_may_have_the_unit_that_it_asks_for() -> None:
    problem = next(p for p in draw_word_problems() if "kilometres" in p.question)
    value = eval(problem.expression)
    assert problem.verify(f"{value} kilometres").ok
    assert problem.verify(f"{value} km").ok
    assert problem.canonical(f"{value}.0") == problem.canonical(f"{value} km") == str(value)
    assert not problem.verify(f"{value} miles").ok


def test_stored_answers_that_say_the_same_are_equal(tmp_path: Path) -> None:
    answers = ["0.5", r"\frac12", "1/2", "2", r"\sqrt{8}", None, ""]
    traces = [{"tokens": 9, "answer": one, "probes": [one, "1/2"]} for one in answers]
    stored = {
        "question_id": "a",
        "gold": ["1 / 2", r"2\sqrt2"],
        "probe_every": 3,
        "traces": traces,
    }
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps(stored))
    (question,) = read_traces([str(path)])
    assert question.right == {"1/2", "2√2"}
    given = ["1/2", "1/2", "1/2", "2", "2√2", None, None]
    assert [trace.answer for trace in question.traces] == given
    assert [trace.probes for trace in question.traces] == [(one, "1/2") for one in given]
