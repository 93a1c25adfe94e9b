"""A solution as data: what ``--json`` prints, and what a journal keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator import TaskGraph
from orchestrator.journal.codec import from_json, to_json
from protocol import Report
from reasoning import LoadedModel, Solution, solve, solve_sync

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


def test_a_notebook_shows_answer_cost_and_lanes_of_branches(solution: Solution) -> None:
    cell = ElementTree.fromstring(solution._repr_html_())
    said = "".join(cell.itertext())
    for words in (solution.problem.question, str(solution.answer), "verified", "span"):
        assert words in said
    assert len(cell.findall("svg/rect")) == sum(len(one.stretches) for one in solution.threads)
    assert len(cell.findall("svg/text")) == len(solution.threads)


def test_what_a_model_wrote_is_text_in_a_notebook(solution: Solution) -> None:
    first = solution.threads[0]
    said = replace(first, name="<script>a</script>", answer='"><img src=x>')
    many = (said, *(replace(said, id=str(n)) for n in range(99)))
    cell = ElementTree.fromstring(replace(solution, answer=said.answer, threads=many)._repr_html_())
    assert not {"script", "img"} & {one.tag for one in cell.iter()}
    assert "and 40 more branches" in "".join(cell.itertext())


def test_what_is_stored_comes_back_equal(solution: Solution) -> None:
    assert from_json(to_json(solution, "1")) == solution


def test_a_journaled_task_may_return_a_solution(shipped: LoadedModel, tmp_path: Path) -> None:
    asked = []

    async def ask(question: str) -> Solution:
        asked.append(question)
        return await solve(question, model=shipped, strategy="single")

    async def answer(solution: Solution) -> str | None:
        return solution.answer

    def run() -> tuple[Solution, str | None]:
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        solved = graph.add(ask, "Compute 12 + 5 * 3")
        found = graph.run_sync(graph.add(answer, solved))
        return solved.value, found

    assert run() == run()
    assert asked == ["Compute 12 + 5 * 3"]
