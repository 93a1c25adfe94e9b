"""Planners' runs that are cut off and go on from their journals."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from orchestrator import Event, Patch, TaskGraph
from orchestrator.editing.patches import Add
from orchestrator.errors import InvalidValue, JournalUnusable, ReasonError, leaf
from orchestrator.journal.store import Journal
from protocol import Hub
from reasoning.planning import Constellation, ConstellationResult, RunResumed
from tests.support.chat_server import chat_server
from tests.support.planning_tools import Script, add, fleet
from tests.support.shell import Shell, line

anyio_test = pytest.mark.anyio
PROGRAM = "tests.support.killed_planner"
SLOW = add("b", "wait", {"seconds": 60})
PLAN = {"edits": [add("a", "read", {"path": "x"}), SLOW]}


async def carried_on(
    hub: Hub,
    script: Script,
    journal: Path,
    request: str | None = "Count",
    *,
    resume: bool = True,
    seconds: float = 20,
    **options: Any,
) -> tuple[ConstellationResult, list[Event]]:
    constellation = Constellation(hub, script, **options)
    events: list[Event] = []
    constellation.events.subscribe(events.append)
    found = await constellation.run(request, seconds=seconds, journal=journal, resume=resume)
    return found, events


@anyio_test
async def test_a_run_whose_time_was_over_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with fleet() as hub:
        first, _ = await carried_on(hub, Script(PLAN, {}), path, resume=False, seconds=1)
        script = Script(
            {"edits": [{"op": "change", "id": "b", "arguments": {"seconds": 1}}]},
            {"edits": [add("c", "count", {"texts": [{"$task": "a"}]})]},
            {"answer": "9"},
        )
        second, events = await carried_on(hub, script, path, None)
    assert first.status == "timed-out"
    assert (second.status, second.answer) == ("answered", "9")
    assert [event for event in events if isinstance(event, RunResumed)] == [
        RunResumed(version=1, ended=1, left=1)
    ]
    assert 'a: read {"path": "x"} is succeeded with "text of x"' in script.prompts[0]
    assert "The request:\nCount" in script.prompts[0]
    assert "- the run was interrupted and goes on" in script.prompts[0]
    assert "interrupted" not in script.prompts[1]
    assert "your last reply was refused: change b: task b is running" in script.prompts[1]
    assert second.turns == first.turns + len(script.prompts)
    assert (second.refused, second.graph.version) == (1, 2)
    found = {task.id: (task.state, task.value, task.device) for task in second.tasks}
    assert found["a"] == ("succeeded", "text of x", "box")
    assert found["c"] == ("succeeded", 9, "box")


@anyio_test
async def test_edits_that_removed_and_changed_tasks_are_not_undone(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    late = [add(id, "read", {"path": id}, after={"b": "success"}) for id in "cde"]
    edits = [
        {"op": "remove", "id": "c"},
        {"op": "change", "id": "d", "arguments": {"path": "new"}, "device": "box"},
        {"op": "disconnect", "source": "b", "target": "e"},
    ]
    plan = {"edits": [add("a", "read", {"path": "x"}), SLOW, *late]}
    async with fleet() as hub:
        await carried_on(hub, Script(plan, {"edits": edits}), path, seconds=1)
        script = Script({"answer": "ok"})
        outcome, _ = await carried_on(hub, script, path)
    shown = script.prompts[0]
    assert "c: read" not in shown
    assert 'd: read on box {"path": "new"} is waiting' in shown
    assert 'e: read {"path": "e"} is succeeded' in shown
    assert [task.id for task in outcome.tasks] == ["a", "b", "d", "e"]


@anyio_test
async def test_an_answered_run_gives_its_answer_again_and_asks_nobody(
    tmp_path: Path,
) -> None:
    path, script = tmp_path / "run.db", Script()
    async with fleet() as hub:
        first, _ = await carried_on(hub, Script(PLAN, {"answer": "enough"}), path)
        second, events = await carried_on(hub, script, path, None)
    assert (second.status, second.answer, second.turns) == ("answered", "enough", first.turns)
    assert second.tasks == first.tasks
    assert script.prompts == []
    assert "TaskStarted" not in {type(event).__name__ for event in events}


@anyio_test
async def test_a_planner_out_of_turns_goes_on_with_more_of_them(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    plan = {"edits": [add("a", "read", {"path": "x"}), add("b", "wait", {"seconds": 0.3})]}
    async with fleet() as hub:
        first, _ = await carried_on(hub, Script(plan, "?", "?"), path, most_turns=3)
        assert (first.status, first.turns, first.refused) == ("turns", 3, 2)
        same, _ = await carried_on(hub, Script(), path, most_turns=3)
        assert (same.status, same.turns) == ("turns", 3)
        script = Script({}, {"answer": "ok"})
        last, _ = await carried_on(hub, script, path, most_turns=9)
    assert (last.answer, last.refused) == ("ok", 2)
    assert "your last reply was refused: the reply holds no JSON object" in script.prompts[0]
    assert {task.id: task.state for task in last.tasks} == {"a": "succeeded", "b": "succeeded"}


# ---- what can't be gone on with ------------------------------------------------------------------


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database, but a text that is long enough to be taken for one" * 20)


def _database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE accounts (id INTEGER)")


def _graph(path: Path, name: str = "sums") -> None:
    async def one() -> int:
        return 1

    graph = TaskGraph(name=name, journal=path, functions=[one])

    async def main() -> None:
        async with graph:
            graph.apply(Patch(ops=(Add(id="a", function="one"),)))

    anyio.run(main)


def _namesake(path: Path) -> None:
    _graph(path, "constellation")


def _plan(path: Path) -> None:
    async def main() -> None:
        async with fleet() as hub:
            await carried_on(hub, Script({"answer": "1"}), path, "Count")

    anyio.run(main)


def _meddled(path: Path) -> None:
    _plan(path)
    journal = Journal(path, "constellation", resume=True)
    journal.noted('["Nonsense", {}]')
    journal.shut()


def _torn(path: Path) -> None:
    _plan(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


UNUSABLE: list[tuple[Callable[[Path], None], str, type[Exception], str]] = [
    (_garbage, "Count", JournalUnusable, "is damaged, or no journal (file is not a database)"),
    (_database, "Count", JournalUnusable, "is a database of something else; name another file"),
    (_graph, "Count", JournalUnusable, "is of graph 'sums', not 'constellation'"),
    (_namesake, "Count", ReasonError, "name another file"),
    (_meddled, "Count", JournalUnusable, "a note that no plan has written"),
    (_torn, "Count", JournalUnusable, "run.db"),
    (_plan, "Measure", InvalidValue, "request: the journal is of another one ('Count')"),
]


@pytest.mark.parametrize(("make", "request_", "kind", "told"), UNUSABLE)
def test_a_damaged_or_foreign_journal_is_refused_before_anything_begins(
    make: Callable[[Path], None],
    request_: str,
    kind: type[Exception],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reasoning.cli.main import main

    path = tmp_path / "run.db"
    make(path)

    async def run() -> None:
        async with fleet() as hub:
            await carried_on(hub, Script({"answer": "1"}), path, request_)

    with pytest.raises(ExceptionGroup) as caught:  # of the workers in the test
        anyio.run(run)
    error = leaf(caught.value)
    assert isinstance(error, kind)
    assert told in str(error)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    where = ["--base-url", "http://127.0.0.1:1/v1", "--journal", str(path), "--resume"]
    done = CliRunner().invoke(main, ["plan", request_, *where])
    assert done.exit_code in (1, 2)
    (only,) = done.stderr.strip().splitlines()
    assert told in only


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plan"], "request: there is none"),
        (["plan", "x", "--resume"], "resume: there is nothing to go on from; give --journal"),
        (["plan", "--journal", "{path}", "--resume"], "request: the journal holds none yet"),
        (["plan", "x", "--journal", "/no/such/run.db"], "unable to open database file"),
    ],
)
def test_wrong_usage_of_a_journal_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasoning.cli.main import main

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "new.db"
    done = CliRunner().invoke(main, [word.format(path=path) for word in arguments])
    assert done.exit_code in (1, 2)
    (only,) = done.stderr.strip().splitlines()
    assert told in only


def test_a_journal_that_holds_a_run_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    _plan(path)
    from reasoning.cli.main import main

    done = CliRunner().invoke(main, ["plan", "Count", "--journal", str(path)])
    assert done.exit_code == 1
    assert "holds a run; go on with it (resume=True, --resume)" in done.stderr


# ---- kill -9 -------------------------------------------------------------------------------------


def test_a_process_killed_20_times_repeats_nothing_and_keeps_every_edit(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", PROGRAM, tmp_path, "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 20
    assert found["halfway"] > 3
    assert found["problems"] == []


def _reply(prompt: str) -> str:
    """Adds three tasks, then one more; answers when that has ended."""
    if "none yet" in prompt:
        quick = [add(id, "noted", {"name": id}) for id in "ab"]
        return json.dumps({"edits": [*quick, add("c", "noted", {"name": "c", "seconds": 3})]})
    if "d: noted" not in prompt and "b: noted" in prompt and 'with "B"' in prompt:
        after = {"c": "success"}
        return json.dumps({"edits": [add("d", "noted", {"name": "d"}, after=after)]})
    return '{"answer": "done"}' if 'with "D"' in prompt else "{}"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("by_record", [False, True])
def test_a_plan_command_killed_in_the_middle_goes_on_by_resume(
    by_record: bool, shell: Shell, tmp_path: Path
) -> None:
    log, journal = tmp_path / "ran", tmp_path / "run.db"
    shell.environment["PLANNED_LOG"] = str(log)
    token, mine = shell.token("box"), shell.token("me", "--scope", "submit")
    hub, url = shell.hub()
    shell.start(
        *("worker", "--hub", url, "--token-file", token, "--no-model", "--slots", "4"),
        *("--register", "tests.support.planned_tools:registry"),
    )
    assert line(hub).startswith("box is here")
    with chat_server(_reply) as model:
        where = ("--base-url", model, "--hub", url)
        shell.environment["REASON_TOKEN"] = Path(mine).read_text()
        kept = ("--journal", str(journal))
        first = shell.start("plan", "Note them", *where, *kept)
        assert first.stderr is not None
        while "applied: version 2" not in (said := first.stderr.readline()):
            assert said
        _until_committed(journal, {"a", "b"}, version=2)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        (before,) = json.loads(shell.run("runs", "list", "--json")[1])
        assert (before["status"], before["question"]) == ("not ended", "Note them")
        again = ("runs", "resume") if by_record else ("plan", *where, *kept, "--resume")
        code, out, err = shell.run(*again)
    assert (code, out) == (0, "done"), err
    run = json.loads(shell.run("runs", "export", before["id"])[1])
    assert (run["report"]["status"], run["report"]["answer"]) == ("finished", "done")
    threads = zip(run["report"]["threads"], run["branches"], strict=True)
    assert [(task["id"], task["text"], branch["why"]) for task, branch in threads] == [
        (id, id.upper(), "succeeded on box") for id in "abcd"
    ]
    assert err.splitlines()[0] == "resumed at version 2: 2 ended, 2 to go"
    ran = log.read_text().split()
    assert [ran.count(id) for id in "abd"] == [1, 1, 1]
    assert ran.count("c") in (1, 2)  # it was running
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(30) == 0


def _until_committed(journal: Path, tasks: set[str], version: int) -> None:
    for _ in range(200):
        with sqlite3.connect(journal) as db:
            ended = {row[0] for row in db.execute("SELECT task FROM results")}
            (found,) = db.execute("SELECT max(version) FROM patches").fetchone()
        if ended >= tasks and found == version:
            return
        time.sleep(0.02)
    raise AssertionError("too little was committed")
