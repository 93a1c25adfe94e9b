"""Tasks that wait for values from outside: from Python, another process, the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from orchestrator import AlreadyCompleted, TaskGraph, awaited, complete
from orchestrator.errors import InvalidValue, JournalUnusable
from orchestrator.journal.outside import complete_text
from reasoning.cli import main

pytestmark = pytest.mark.anyio


@dataclass
class Decision:
    approved: bool


async def told(decision: Decision, count: int) -> str:
    return f"{decision.approved} {count}"


def build(path: Path | None) -> tuple[TaskGraph, Any]:
    graph = TaskGraph(journal=path, resume=path is not None, limit=1)
    decision = graph.receive("decision", Decision)
    return graph, graph.add(told, decision, graph.receive("count", int))


async def asking(graph: TaskGraph, count: int) -> None:
    """Wait until so many values are waited for."""
    with anyio.fail_after(60), graph.events.open() as events:
        while len(graph.awaited) < count:
            await anext(events)


async def stopped(graph: TaskGraph) -> None:
    """Run a graph until all it can do is wait, and stop it."""
    async with anyio.create_task_group() as group:
        group.start_soon(graph.run)
        await asking(graph, 2)
        group.cancel_scope.cancel()


async def test_a_value_from_python_resumes_a_task_that_holds_no_slot() -> None:
    graph, last = build(None)
    async with graph:
        other = graph.add(asyncio.sleep, 0, "done")
        assert await other.result() == "done"  # with limit=1, though two tasks wait
        await asking(graph, 2)
        assert graph.awaited == {"decision": Decision, "count": int}
        with pytest.raises(InvalidValue, match="'count' is to be int, and 'three' does not fit"):
            graph.complete("count", "three")
        graph.complete("count", 3)
        with pytest.raises(AlreadyCompleted, match="the first one counts"):
            graph.complete("count", 4)
        graph.complete("decision", {"approved": True})  # JSON that fits will do
    assert last.value == "True 3"


async def test_a_value_that_comes_early_is_kept_and_checked_when_it_is_asked_for() -> None:
    graph = TaskGraph()
    graph.complete("early", "no number")
    task = graph.receive("early", int)
    async with graph:
        with pytest.warns(RuntimeWarning, match="'early' is to be int"):
            await asking(graph, 1)
        graph.complete("early", 2)
    assert task.value == 2


async def test_a_wait_may_have_a_timeout() -> None:
    graph = TaskGraph()
    task = graph.receive("never", timeout=0.01)
    with pytest.raises(TimeoutError, match="got no value for 'never'"):
        await graph.run(task)


async def test_values_come_while_no_process_runs_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    await stopped(build(path)[0])
    assert {(wait.name, wait.type) for wait in awaited(path)} == {
        ("decision", Decision),
        ("count", int),
    }
    with pytest.raises(InvalidValue, match="'count' is to be int"):
        complete(path, "count", 1.5)
    with pytest.raises(InvalidValue, match="'decision' is to be Decision"):
        complete_text(path, "decision", "yes")
    complete_text(path, "count", "7")
    complete(path, "decision", Decision(approved=False))
    with pytest.raises(AlreadyCompleted):
        complete(path, "count", 8)
    assert awaited(path) == []
    for _ in range(2):  # the second time, all has ended
        graph, last = build(path)
        assert await graph.run(last) == "False 7"


async def test_another_process_resumes_a_run_that_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    graph, last = build(path)
    code = "import sys; from orchestrator.journal.outside import complete_text as give; "
    code += "give(sys.argv[1], 'decision', sys.argv[2]); give(sys.argv[1], 'count', '1')"
    with anyio.fail_after(60):
        async with graph:
            await asking(graph, 2)
            given = json.dumps({"approved": True})
            await anyio.run_process([sys.executable, "-c", code, str(path), given])
    assert last.value == "True 1"


def given_anew(path: Path) -> None:
    """Give a number as soon as what was given before was refused."""
    while True:
        with contextlib.suppress(AlreadyCompleted):
            return complete(path, "hidden", 5)


async def test_what_another_process_could_not_check_is_refused_by_the_run(tmp_path: Path) -> None:
    class Local:
        def __init__(self, x: int) -> None:
            self.x = x

    path = tmp_path / "run.db"
    graph = TaskGraph(journal=path)
    task = graph.receive("hidden", list[Local] | int)
    with anyio.fail_after(60):
        async with graph:
            await asking(graph, 1)
            assert awaited(path)[0].type is None
            complete(path, "hidden", "text")
            with pytest.warns(RuntimeWarning, match="a value was refused: 'hidden'"):
                await anyio.to_thread.run_sync(given_anew, path)
    assert task.value == 5


async def test_the_command_line_shows_completes_resumes_and_compares(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    await stopped(build(path)[0])

    def reason(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["graph", *map(str, arguments)])
        return done.exit_code, done.output

    assert "task 1 waits for 'decision' (Decision)" in reason("show", path)[1]
    assert reason("complete", path, "count", "x")[0] == 2
    assert reason("complete", path, "count", "1") == (0, "count: given to task 2\n")
    assert "no task has asked for it yet" in reason("complete", path, "cuont", "1")[1]
    assert reason("fork", path, tmp_path / "fork.db") == (0, "")
    assert reason("diff", path, tmp_path / "fork.db") == (0, "")
    complete(path, "decision", Decision(approved=True))
    program = tmp_path / "program_that_waits.py"
    program.write_text(
        "from tests.orchestrator.test_outside import build\n"
        "def main(journal):\n    return build(journal)[0]\n"
    )
    command = [sys.executable, "-m", "reason" + "ing", "graph", "resume", path, f"{program}:main"]
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False)
    )
    assert (done.returncode, done.stdout) == (0, "3 tasks: 3 succeeded\n"), done.stderr
    code, text = reason("diff", path, tmp_path / "fork.db")
    assert code == 1
    assert "~ 3 (told): state was succeeded and is open" in text
    assert reason("show", tmp_path / "none.db")[0] == 1


def test_a_file_that_is_no_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match="is not there"):
        complete(tmp_path / "none.db", "x", 1)
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at" * 40)
    with pytest.raises(JournalUnusable, match="is damaged, or no journal"):
        awaited(tmp_path / "text.db")
