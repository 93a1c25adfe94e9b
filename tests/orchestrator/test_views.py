"""Pictures of runs: faithful, bounded, and safe with hostile names."""

from __future__ import annotations

import json
import re
from typing import Any

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Retry, Task, TaskGraph, current_task
from orchestrator.errors import InvalidValue
from orchestrator.views.diagrams import draw, from_json, to_dot, to_json, to_mermaid, to_networkx
from orchestrator.views.record import AttemptRecord, EdgeRecord, RunRecord, TaskRecord
from orchestrator.views.timeline import MOST_ROWS, critical_path, to_fragment, to_html

HOSTILE = 'end"]; </script><b>x</b> | --> {{data}} \\ "quoted"\nnewline'


async def give(value: int) -> int:
    return value


async def parent(count: int) -> int:
    task = current_task()
    assert task is not None
    task.charge(3)
    return sum([await task.graph.add(give, n).result() for n in range(count)])


class Once:
    left = 1

    async def __call__(self, _: Any) -> int:
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError(HOSTILE)
        return 1


@pytest.fixture(scope="module")
def run() -> RunRecord:
    graph = TaskGraph(name=HOSTILE)
    top = graph.add(parent, 3, name=HOSTILE)
    tried = graph.add(Once(), top, retry=Retry(delay=0))
    graph.add(give, 1, after={tried: "result > 5"})
    graph.run_sync()
    return graph.record()


def wide(count: int) -> RunRecord:
    graph = TaskGraph()
    last: Task[Any] = graph.add(give, 0)
    for index in range(count):
        graph.add(give, 1, after=last, name=f"item {index}")
    graph.run_sync()
    return graph.record()


def test_the_networkx_graph_has_every_edge_with_its_kind(run: RunRecord) -> None:
    graph = to_networkx(run)
    kinds = {(a, b): data["kind"] for a, b, data in graph.edges(data=True)}
    assert kinds == {
        ("1", "1.1"): "spawn",
        ("1", "1.2"): "spawn",
        ("1", "1.3"): "spawn",
        ("1", "2"): "data",
        ("2", "3"): "control",
    }
    assert networkx.is_directed_acyclic_graph(graph)


def test_hostile_text_stays_text_in_mermaid(run: RunRecord) -> None:
    lines = to_mermaid(run).splitlines()
    nodes = [line for line in lines if ":::" in line]
    assert len(nodes) == 6
    for line in nodes:
        assert re.fullmatch(r'  n\d+\["[\w .,:=\-+*/#;]*"\]:::\w+', line)
    assert any('-.->|"result #62; 5"|' in line for line in lines)


def test_hostile_text_stays_text_in_dot(run: RunRecord) -> None:
    text = to_dot(run)
    assert re.sub(r'"(?:[^"\\]|\\.)*"', "S", text).count('"') == 0
    assert text.count("->") - text.count("-->") == 5


def test_hostile_text_stays_text_in_the_page(run: RunRecord) -> None:
    page = to_html(run)
    assert page.count("</script>") == 2
    data = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert data is not None
    lanes = json.loads(data[1])["lanes"]
    assert [lane["id"] for lane in lanes] == ["1", "1.1", "1.2", "1.3", "2", "3"]
    assert lanes[0]["name"] == HOSTILE
    assert "<b>x</b>" not in page
    assert re.findall(r"https?://[^\"]*", page) == ["http://www.w3.org/2000/svg"] * 2  # a name
    assert "<b>x</b>" not in to_fragment(run)


def test_a_retried_task_shows_each_attempt(run: RunRecord) -> None:
    assert [attempt.error is None for attempt in run.tasks[-1].attempts] in ([True], [False, True])
    tried = next(task for task in run.tasks if task.id == "2")
    assert [attempt.error is None for attempt in tried.attempts] == [False, True]


def test_siblings_alike_are_drawn_as_one_above_the_most() -> None:
    drawing = draw(wide(500), most=100)
    assert [node.label for node in drawing.nodes] == ["1 give", "item x500"]
    assert [edge[:2] for edge in drawing.edges] == [(drawing.nodes[0].key, drawing.nodes[1].key)]
    assert "item x500" in to_mermaid(wide(500))


def test_plain_waiting_that_other_edges_imply_is_not_drawn() -> None:
    graph = TaskGraph()
    first = graph.add(give, 1)
    second = graph.add(give, first)
    graph.add(give, 3, after=[first, second])
    graph.add(give, 4, after={second: "success", first: "completion"})
    graph.run_sync()
    drawn = {(source, target, label) for source, target, _, label in draw(graph.record()).edges}
    ways = {("1", "2", ""), ("2", "3", ""), ("2", "4", ""), ("1", "4", "completion")}
    assert drawn == ways


def test_what_does_not_fit_is_counted() -> None:
    graph = TaskGraph()
    for index in range(50):
        graph.add(give, 1, name=f"{'abcdefghij'[index % 10]}{'klmno'[index // 10]}")
    graph.run_sync()
    drawing = draw(graph.record(), most=20)
    assert len(drawing.nodes) == 20
    assert drawing.nodes[-1].label == "... and 31 more tasks"


def test_the_page_of_a_large_run_stays_small() -> None:
    page = to_html(wide(30_000))
    assert len(page) < 4_000_000
    assert f"{30_001 - MOST_ROWS:,} shorter tasks are left out" in page


def test_the_critical_path_leads_from_the_first_to_the_last() -> None:
    def task(id: str, start: float, end: float) -> TaskRecord:
        return TaskRecord(
            id=id,
            name=id,
            state="succeeded",
            parent=None,
            added=0,
            ready=start,
            ended=end,
            attempts=(AttemptRecord(number=1, started=start, ended=end),),
            work=0,
            error=None,
        )

    run = RunRecord(
        name="run",
        version=0,
        tasks=(task("a", 0, 1), task("b", 0, 2), task("c", 2, 3), task("d", 0, 2.5)),
        edges=tuple(EdgeRecord(source=s, target="c", kind="data") for s in "ab"),
        wall_s=3,
        busy_s=1,
        span_s=3,
        work=0,
        span=0,
        wasted=0,
    )
    assert critical_path(run) == {"b", "c"}


def test_the_record_of_a_run_survives_json(run: RunRecord) -> None:
    assert from_json(to_json(run)) == run


@pytest.mark.parametrize(
    ("text", "field"),
    [("[]", "be an object"), ("{}", "schema"), ('{"schema": "orchestrator.run/1"}', "name")],
)
def test_json_that_is_no_record_names_the_field(text: str, field: str) -> None:
    with pytest.raises(InvalidValue, match=field) as caught:
        from_json(text)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(max_size=8), max_size=8))
def test_any_name_can_be_drawn(names: list[str]) -> None:
    graph = TaskGraph()
    for name in names:
        graph.add(give, 1, name=name)
    graph.run_sync()
    run = graph.record()
    assert from_json(to_json(run)) == run
    for picture in (to_mermaid(run), to_dot(run), to_html(run), to_fragment(run)):
        assert picture
