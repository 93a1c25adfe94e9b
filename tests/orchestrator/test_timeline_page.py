"""The page of a graph's run, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator import Retry, TaskGraph, current_task
from orchestrator.views.timeline import critical_path
from tests.support.browser import browsing

HOSTILE = "</script><script>window.caught = 1</script>{{data}}"
IDS = "[...document.querySelectorAll('.row')].map(row => row.querySelector('b').textContent)"


async def give(value: Any) -> Any:
    return value


async def parent(count: int) -> int:
    task = current_task()
    assert task is not None
    return sum([await task.graph.add(give, n, name=HOSTILE).result() for n in range(count)])


async def fail() -> None:
    raise ConnectionError(HOSTILE)


@pytest.fixture(scope="module")
def graph() -> TaskGraph:
    graph = TaskGraph(name="survey")
    top = graph.add(parent, 2)
    graph.add(give, top, name="last")
    failed = graph.add(fail, retry=Retry(times=1, delay=0))
    graph.add(give, failed, name="never")
    with pytest.raises(ConnectionError):
        graph.run_sync()
    return graph


def test_tasks_stand_on_an_axis_of_seconds(graph: TaskGraph, tmp_path: Path) -> None:
    (page := tmp_path / "page.html").write_text(graph.to_html(), encoding="utf-8")
    with browsing(tmp_path / "browser") as tab:
        tab.look(1280, 800)
        tab.open(page, "#3")
        assert tab.run("document.querySelector('h1').textContent") == "survey"
        assert tab.run(IDS) == ["1", "1.1", "1.2", "2", "3", "4"]
        signs = "[...document.querySelectorAll('.row .sign')].map(one => one.textContent).join('')"
        assert tab.run(signs) == "✓✓✓✓✗–"
        critical = (
            f"{IDS}.filter((_, at) => document.querySelectorAll('.row')[at].matches('.critical'))"
        )
        assert set(tab.run(critical)) == critical_path(graph.record())
        assert HOSTILE in tab.run("document.querySelector('#detail').textContent")
        assert (
            tab.run("document.querySelectorAll('.row')[4].querySelectorAll('i.lost').length") == 2
        )
        assert tab.run("document.querySelector('#axis').textContent").endswith("s")
        tab.run("ends = document.querySelector('#ends'), ends.value = 'cut'")
        tab.run("ends.dispatchEvent(new Event('change'))")
        assert tab.run(IDS) == ["3"]
        assert tab.run("window.caught") is None
        assert (tab.faults, tab.fetched) == ([], [])
