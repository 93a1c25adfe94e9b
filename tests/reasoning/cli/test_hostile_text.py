"""A hostile text goes through each command that prints what others wrote, and does nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator import AttemptFailed, Event, TaskEnded, TaskGraph
from orchestrator.errors import ReasonError
from protocol import Profile, WorkerJoined, WorkerLeft
from reasoning.cli import main, printing
from reasoning.cli.commands import hub, plan
from reasoning.cli.printing import print_json, print_tables, table
from reasoning.planning import (
    DeviceChanged,
    PlanApplied,
    PlanRefused,
    TaskGiven,
    TaskReported,
    TaskReturned,
    TaskUnplaced,
)
from reasoning.planning.reply import PlannerReply
from tests.support.chat_server import ChatHandler, chat_server

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e [/b] [bold]\r\nreason: forged"
"""Clears the screen, sets the title, turns text round, and looks like rich's markup and a line."""
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert not isinstance(done.exception, Exception), done.exception
    return done.output


def shown(said: str) -> None:
    """The text is there, readable, and in no line that it began."""
    assert r"\x1b[2J\x1b]0;owned\x07\x9b31m\x202e [/b] [bold]" in said
    assert not HIDDEN.search(said)
    assert not any(line.startswith("reason: forged") for line in said.splitlines())


def test_commands_print_by_functions_that_show_what_controls_a_terminal() -> None:
    folder = Path(printing.__file__).parent
    excepted = {folder / "printing.py", folder / "main.py"}
    for path in {*folder.rglob("*.py")} - excepted:
        assert not re.search(r"click\.s?echo\(|(?<![\w.])(?<!def )print\(", path.read_text()), path


def test_tables_and_json_hold_the_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    made = table(HOSTILE.splitlines()[0], "who", "what")
    made.add_row("x", HOSTILE.splitlines()[0])
    print_tables(made)
    assert capsys.readouterr().out.count(r"\x1b[2J\x1b]0;owned\x07\x9b31m\x202e [/b] [bold]") == 2
    print_json(json.dumps({"text": HOSTILE}, ensure_ascii=False))
    said = capsys.readouterr().out
    assert not HIDDEN.search(said)
    assert json.loads(said) == {"text": HOSTILE}


REPLY = PlannerReply.model_validate({"thought": HOSTILE})
PLANNED = [
    PlanApplied(turn=1, version=1, plan=REPLY),
    PlanRefused(turn=1, reasons=(HOSTILE,), text=HOSTILE),
    TaskReturned(task="a", value=HOSTILE),
    TaskEnded(task="a", state="failed", work=0, error=HOSTILE),
    AttemptFailed(task="a", attempt=1, error=HOSTILE, wait_s=0.0),
    TaskReported(task="a", text=HOSTILE),
    TaskGiven(task="a", device="w", attempt=1),
    TaskUnplaced(task="a", why=HOSTILE),
    DeviceChanged(device="w", state="gone", why=HOSTILE),
    DeviceChanged(device="", state="untold", why=HOSTILE),
]


@pytest.mark.parametrize("event", PLANNED, ids=lambda event: type(event).__name__)
def test_a_plan_shows_each_event_so(event: Event, capsys: pytest.CaptureFixture[str]) -> None:
    plan._show(event)
    said = capsys.readouterr().err
    if not isinstance(event, TaskGiven):
        shown(said)


def test_a_hub_shows_its_workers_so(capsys: pytest.CaptureFixture[str]) -> None:
    hub._show(WorkerLeft(worker="w", why=HOSTILE))
    shown(capsys.readouterr().err)
    with pytest.raises(ValueError, match="platform"):
        hub._show(WorkerJoined(worker="w", profile=Profile(platform=HOSTILE)))


def fail(text: str) -> None:
    raise ReasonError(text)


def test_a_run_s_journal_is_shown_and_compared_so(tmp_path: Path) -> None:
    paths = [tmp_path / "run.db", tmp_path / "other.db"]
    for path in paths:
        graph = TaskGraph(name=HOSTILE, journal=path, errors="first")
        graph.add(fail, HOSTILE + path.name, name=f"{HOSTILE}'; DROP TABLE tasks; --")
        with pytest.raises(ReasonError):
            graph.run_sync()
    said = run("graph", "show", str(paths[0]))
    shown(said)
    assert "DROP TABLE" in said
    assert json.loads(run("graph", "show", str(paths[0]), "--json"))["tasks"]
    shown(run("graph", "diff", str(paths[0]), str(paths[1])))
    assert {path.name for path in tmp_path.iterdir()} <= {
        f"{name}{end}" for name in ("run.db", "other.db") for end in ("", "-wal", "-shm", ".lock")
    }


def test_a_server_s_words_are_examined_so() -> None:
    class Hostile(ChatHandler):
        def do_GET(self) -> None:
            self._send("application/json", json.dumps({"data": [{"id": HOSTILE}]}))

    with chat_server(kind=Hostile) as url:
        said = run("doctor", "--base-url", url)
        assert not HIDDEN.search(said)
        assert r"\x1b[2J\x1b]0;owned\x07" in "".join(said.split())
        said = run("doctor", "--base-url", url, "--json")
        assert not HIDDEN.search(said)
        assert json.loads(said)["facts"][0]["model"] == HOSTILE
