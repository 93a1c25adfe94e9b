"""Runs that are killed and go on: nothing that has ended runs twice, nothing is lost."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from orchestrator import (
    AttemptFailed,
    Event,
    Patch,
    Retry,
    Task,
    TaskEnded,
    TaskGraph,
    TaskState,
    current_task,
)
from orchestrator.editing.patches import Add
from orchestrator.errors import InvalidValue, JournalFenced, JournalUnusable, TaskCancelled
from orchestrator.journal.store import Journal

pytestmark = pytest.mark.anyio

CALLS: list[str] = []


class Point(BaseModel):
    x: int


async def point(x: int) -> Point:
    CALLS.append(f"point {x}")
    return Point(x=x)


async def move(start: Point) -> Point:
    CALLS.append(f"move {start.x}")
    return Point(x=start.x + 1)


async def fail_once(_: Point) -> int:
    CALLS.append("fail")
    if CALLS.count("fail") == 1:
        raise ConnectionError("down")
    return 1


async def children(count: int) -> list[int]:
    task = current_task()
    assert task is not None
    added = [task.graph.add(point, number) for number in range(count)]
    return [(await child.result()).x for child in added]


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def rows(path: Path, query: str) -> list[Any]:
    with sqlite3.connect(path) as db:
        return db.execute(query).fetchall()


async def test_a_finished_run_is_resumed_without_running_anything(tmp_path: Path) -> None:
    def build() -> tuple[TaskGraph, Task[Any]]:
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        graph.add(children, 3)
        return graph, graph.add(move, graph.add(point, 7))

    first, end = build()
    assert await first.run(end) == Point(x=8)
    CALLS.clear()
    second, end = build()
    assert await second.run(end) == Point(x=8)
    assert CALLS == []
    assert second.states() == first.states()
    assert set(second.record().edges) == set(first.record().edges)


async def test_failures_are_kept_or_tried_again_as_asked(tmp_path: Path) -> None:
    def build(**options: Any) -> tuple[TaskGraph, Task[int]]:
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True, **options)
        return graph, graph.add(fail_once, graph.add(point, 1))

    graph, task = build()
    with pytest.raises(ConnectionError):
        await graph.run()
    graph, task = build()
    with pytest.raises(ConnectionError, match="down"):
        await graph.run()
    graph, task = build(again=("failed", "skipped"))
    assert await graph.run(task) == 1
    assert CALLS == ["point 1", "fail", "fail"]


async def test_patches_are_applied_again(tmp_path: Path) -> None:
    def build() -> TaskGraph:
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True, functions=[point])
        graph.add(point, 1)
        return graph

    graph = build()
    async with graph:
        graph.apply(Patch(ops=(Add(id="x", function="point", args=(5,)),)))
    CALLS.clear()
    again = build()
    await again.run()
    assert (again["x"].value, again.version, CALLS) == (Point(x=5), 1, [])


async def test_notes_come_back_in_order_and_edits_that_fit_no_more_are_refused(
    tmp_path: Path,
) -> None:
    def build(*functions: Any) -> TaskGraph:
        return TaskGraph(journal=tmp_path / "run.db", resume=True, functions=functions)

    async with build(point) as graph:
        graph.note("first")
        graph.apply(Patch(ops=(Add(id="x", function="point", args=(5,)),)))
        graph.note("second")
    async with build(point) as graph:
        assert graph.notes == ["first", "second"]
        graph.note("third")
    async with build(point) as graph:
        assert graph.notes == ["first", "second", "third"]
    with pytest.raises(InvalidValue, match=r"edits do not fit this graph \(no function 'point'"):
        await build().run()
    async with TaskGraph(journal=tmp_path / "notes.db") as graph:
        graph.note("alone")
    with pytest.raises(JournalUnusable, match="holds a run"):
        await TaskGraph(journal=tmp_path / "notes.db").run()


async def test_a_cancelled_run_goes_on_where_it_was(tmp_path: Path) -> None:
    async def build(seconds: float) -> TaskGraph:
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        first = graph.add(point, 1)
        graph.add(pause, first, after=first)
        PAUSE[0] = seconds
        return graph

    with anyio.move_on_after(1.0) as scope:
        await (await build(100)).run()
    assert scope.cancelled_caught
    assert CALLS == ["point 1"]
    graph = await build(0)
    await graph.run()
    assert CALLS == ["point 1"]
    assert set(graph.states().values()) == {"succeeded"}


PAUSE = [0.0]


async def pause(_: Point) -> None:
    await anyio.sleep(PAUSE[0])


async def test_a_task_that_was_cancelled_by_name_stays_cancelled(tmp_path: Path) -> None:
    def build() -> TaskGraph:
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        graph.add(point, 1)
        return graph

    graph = build()
    graph.tasks[0].cancel()
    await graph.run()
    graph = build()
    await graph.run()
    with pytest.raises(TaskCancelled):
        _ = graph.tasks[0].value
    assert CALLS == []


async def test_grandchildren_come_back_below_a_parent_that_runs_again(tmp_path: Path) -> None:
    async def middle(count: int) -> int:
        return len(await children(count))

    async def top() -> int:
        task = current_task()
        assert task is not None
        found = await task.graph.add(middle, 2).result()
        await anyio.sleep(PAUSE[0])
        return found

    async def run(seconds: float) -> TaskGraph:
        PAUSE[0] = seconds
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        graph.add(top)
        async with anyio.create_task_group() as group:

            def stop(event: Event) -> None:
                if seconds and isinstance(event, TaskEnded) and event.task == "1.1":
                    group.cancel_scope.cancel()

            graph.events.subscribe(stop)
            group.start_soon(graph.run)
        return graph

    assert (await run(100))["1"].state == "cancelled"
    graph = await run(0)
    assert CALLS == ["point 0", "point 1"]
    assert graph.states() == dict.fromkeys(["1", "1.1", "1.1.1", "1.1.2"], "succeeded")
    assert graph["1.1.2"].parent is graph["1.1"]


async def test_a_new_attempt_is_not_given_the_cancelled_children_of_an_old_one(
    tmp_path: Path,
) -> None:
    first = [True]

    async def flaky() -> int:
        task = current_task()
        assert task is not None
        slow = task.graph.add(pause, Point(x=1))
        await task.graph.add(point, 1).result()
        if first[0]:
            raise ConnectionError("down")
        await slow.result()
        return 1

    def build() -> tuple[TaskGraph, Task[int]]:
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        return graph, graph.add(flaky, retry=Retry(times=1, delay=100, longest=100))

    PAUSE[0] = 100
    graph, _ = build()
    async with anyio.create_task_group() as group:
        graph.events.subscribe(
            lambda event: group.cancel_scope.cancel() if isinstance(event, AttemptFailed) else None
        )
        group.start_soon(graph.run)
    first[0], PAUSE[0] = False, 0
    graph, task = build()
    assert await graph.run(task) == 1
    states = ["cancelled", "succeeded", "succeeded", "succeeded"]
    assert [graph[f"1.{number}"].state for number in (1, 2, 3, 4)] == states
    assert len(graph.record().tasks[0].attempts) == 2


@pytest.mark.parametrize("again", [(), ("failed",)])
async def test_a_failure_that_an_ended_parent_handled_stays_handled(
    tmp_path: Path, again: tuple[TaskState, ...]
) -> None:
    async def fail() -> int:
        raise ConnectionError("down")

    async def careful() -> str:
        task = current_task()
        assert task is not None
        try:
            await task.graph.add(fail).result()
        except ConnectionError:
            return "handled"
        return "never"

    for _ in range(2):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True, again=again)
        assert await graph.run(graph.add(careful)) == "handled"
        assert graph.states() == {"1": "succeeded", "1.1": "failed"}


# ---- what can't be used ------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
async def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.db"
    if content is not None:
        path.write_bytes(content)
    else:
        rows(path, "CREATE TABLE other (x)")
    with pytest.raises(JournalUnusable, match="another file"):
        await TaskGraph(journal=path).run()


async def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    graph = TaskGraph(journal=path)
    for number in range(200):
        graph.add(point, number)
    await graph.run()
    data = bytearray(path.read_bytes())
    data[len(data) // 3 :] = random.Random(0).randbytes(len(data) - len(data) // 3)
    path.write_bytes(data)
    graph = TaskGraph(journal=path, resume=True)
    for number in range(200):
        graph.add(point, number)
    with pytest.raises(JournalUnusable, match="another file"):
        await graph.run()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM about",
        "DROP TABLE results",
        "UPDATE results SET state = 'asleep'",
        "UPDATE results SET attempt = 'one'",
        "UPDATE results SET value = '{'",
        "UPDATE results SET value = '\"a text\"'",
        "UPDATE tasks SET edges = '[{}]' WHERE parent = '1'",
        "UPDATE tasks SET parent = '7' WHERE parent = '1'",
        "INSERT INTO patches VALUES (1, 'no patch', 0)",
    ],
)
async def test_a_journal_that_says_what_cannot_be_is_refused(
    tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "run.db"
    graph = TaskGraph(journal=path)
    graph.add(children, 1)
    await graph.run()
    rows(path, statement)
    again = TaskGraph(journal=path, resume=True)
    again.add(children, 1)
    with pytest.raises(JournalUnusable, match=r"is damaged .*another file"):
        await again.run()


async def test_a_run_is_not_overwritten_unless_it_is_resumed(tmp_path: Path) -> None:
    graph = TaskGraph(journal=tmp_path / "run.db")
    graph.add(point, 1)
    await graph.run()
    with pytest.raises(JournalUnusable, match="resume=True"):
        await TaskGraph(journal=tmp_path / "run.db").run()


async def test_a_strict_resume_refuses_another_graph(tmp_path: Path) -> None:
    graph = TaskGraph(journal=tmp_path / "run.db")
    graph.add(point, 1)
    await graph.run()
    other = TaskGraph(journal=tmp_path / "run.db", resume="strict")
    other.add(point, 2)
    with pytest.raises(InvalidValue, match=r"point, arguments \(2,\)\) .* has 1 \(point\)"):
        await other.run()
    with pytest.raises(JournalUnusable, match="is of graph 'graph', not 'x'"):
        await TaskGraph(journal=tmp_path / "run.db", resume=True, name="x").run()


async def test_a_result_that_is_not_json_fails_its_task_by_name(tmp_path: Path) -> None:
    async def thing() -> object:
        return object()

    graph = TaskGraph(journal=tmp_path / "run.db")
    graph.add(thing)
    with pytest.raises(InvalidValue, match="result of task 1 can't be journaled"):
        await graph.run()


async def test_a_process_that_was_taken_for_dead_cannot_commit(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    gate = anyio.Event()

    async def late() -> int:
        await gate.wait()
        return 1

    graph = TaskGraph(journal=path)
    graph.add(point, 1)
    task = graph.add(late)

    async def run() -> None:
        async with graph:
            await anyio.sleep(0.05)
            Journal(path, "graph", resume=True).shut()
            gate.set()
            await task.wait()

    with pytest.raises(JournalFenced, match="epoch 2, this is 1"):
        await run()
    assert [row[0] for row in rows(path, "SELECT task FROM results")] == ["1"]


# ---- kill -9 -----------------------------------------------------------------------------------

PROGRAM = Path(__file__).parents[1] / "support" / "killed_program.py"


def test_killed_at_100_random_points_nothing_is_lost_or_repeated(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, "100"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 100
    assert found["runs"] > 0
    assert found["problems"] == []
