"""A solution as data: what ``--json`` prints, and what a journal keeps."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

from protocol import Report
from reasoning import LoadedModel, Solution, solve_sync
from reasoning.run.stored import restore, store

QUESTION = "Use 3, 10, 21 and 23 to make 50"


@pytest.fixture(scope="module", params=[{"strategy": "apr"}, {"policy": "async:k=4"}])
def solution(request: pytest.FixtureRequest, shipped: LoadedModel) -> Solution:
    return solve_sync(QUESTION, model=shipped, **request.param)


def test_one_call_gives_what_json_gives(solution: Solution) -> None:
    found = solution.to_dict()
    assert json.loads(json.dumps(found)) == found == json.loads(solution.to_json(indent=2))
    assert Report.model_validate(found) == solution.report()
    assert (found["answer"], found["votes"]) == (solution.answer, solution.votes)
    assert found["usage"]["work_tokens"] == solution.usage.work_tokens


def test_its_repr_is_one_short_line(solution: Solution) -> None:
    assert len(repr(solution)) < 160
    assert str(solution.answer) in repr(solution)


def test_what_is_stored_comes_back_equal(solution: Solution) -> None:
    assert restore(json.loads(json.dumps(store(solution)))) == solution
    adapter = TypeAdapter(Solution)
    assert adapter.validate_json(adapter.dump_json(solution)) == solution
