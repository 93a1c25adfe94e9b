"""What a person finds of earlier runs: ``reason runs`` and ``reason view``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reasoning.cli import main
from reasoning.runs.record import RecordedRun

EACH = "Compute each: 1) 3+4*5; 2) (7-2)*6"
SAMPLES = ("Compute (17*3+5)*4-12", "--policy", "sc:n=3")


def reason(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def solve(*arguments: str) -> str:
    """The id under which a run is kept."""
    done = reason("solve", *arguments)
    assert done.exit_code == 0, done.output
    found = re.search(r" · run ([0-9a-f]{8})$", done.stderr.strip())
    assert found, done.stderr
    return found[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def both() -> tuple[str, str]:
    """Two runs that are kept."""
    return solve(EACH), solve(*SAMPLES)


def test_a_run_is_listed_found_and_shown(both: tuple[str, str]) -> None:
    first, second = both
    lines = reason("runs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [second, first]
    assert "→ 23, 30" in lines[1]
    (line,) = reason("runs", "--search", "7-2", "--verified").stdout.splitlines()
    assert line.startswith(first)
    (found,) = json.loads(reason("runs", "list", "--most", "1", "--json").stdout)
    assert found["id"] == second
    assert found["strategy"] == "self-consistency"
    shown = reason("runs", "show", first[:6], "--full").stdout
    assert shown.startswith(f"run {first} ")
    said = ("question: Compute each", "answer: 23, 30  (✓ verified)", "1.2  branch 2", "ended")
    for words in said:
        assert words in shown
    assert reason("runs", "show").stdout.startswith(f"run {second} ")


def test_what_differs_between_runs_is_told_and_equal_ones_do_not(both: tuple[str, str]) -> None:
    first, second = both
    again = solve(EACH)
    same = reason("runs", "diff", first, again)
    assert (same.exit_code, same.stdout) == (0, "")
    done = reason("runs", "diff", first, second)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert "~ answer was 23, 30 and is 212" in lines
    assert "~ setting policy was nothing and is sc:n=3" in lines
    assert any(line.startswith("- branch 1.1 ") for line in lines)
    assert any(line.startswith("+ branch 2 ") for line in lines)


def test_runs_are_exported_and_replayed(both: tuple[str, str], home: Path) -> None:
    first, second = both
    assert RecordedRun.from_json(reason("runs", "export", first).stdout).id == first
    assert len(reason("runs", "export", first, second).stdout.splitlines()) == 2
    assert reason("runs", "export", second, "--traces", "-o", "run.jsonl").exit_code == 0
    for name in ("run.jsonl", second):
        done = reason("replay", name, "--policy", "sc:n=2", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["results"][0]["accuracy"] == 1.0
    assert "is not kept" in reason("replay", "beef").stderr


def test_a_page_is_written_of_a_kept_or_an_exported_run(both: tuple[str, str], home: Path) -> None:
    first, _ = both
    assert reason("view", first).stdout.strip() == f"run-{first}.html"
    page = (home / f"run-{first}.html").read_text()
    assert page.startswith("<!doctype html>")
    reason("runs", "export", first, "-o", "one.json")
    assert reason("view", "one.json", "-o", "one.html").exit_code == 0
    assert (home / "one.html").read_text() == page
    assert reason("view", first, "-o", "no/such.html").exit_code == 2


def test_a_page_has_two_runs_and_no_more(both: tuple[str, str], home: Path) -> None:
    first, second = both
    assert reason("view", first, "last").stdout.strip() == f"run-{first}-{second}.html"
    assert (home / f"run-{first}-{second}.html").read_text().startswith("<!doctype html>")
    assert "name fewer" in reason("view", first, second, first).stderr


def test_a_run_that_can_not_go_on_is_refused_in_one_line(home: Path) -> None:
    solve(EACH)
    done = reason("runs", "resume")
    assert done.exit_code == 2
    assert "of reason solve has no journal; reason plan has one with --journal" in done.stderr
    assert "is of reason solve; name one of reason eval" in reason("report", "last").stderr


def test_an_evaluation_is_one_record_however_often_it_is_asked_for(home: Path) -> None:
    command = ["eval", "arithmetic", "--limit", "2", "--samples", "1", "--policy", "sc:n=1"]
    for more in ([], ["--strategy", "single"]):
        assert reason(*command, *more).exit_code == 0
    assert reason(*command, "-o", "other.jsonl", "--no-keep").exit_code == 0
    (line,) = reason("runs", "--command", "eval").stdout.splitlines()
    assert "eval sc:n=1, single of reason-5m  2 arms, " in line
    assert "arithmetic, 2 questions → sc:n=1 " in line
    assert reason("view", "-o", "page.html").exit_code == 0
    told = reason("runs", "export", "last", "--traces").stderr
    assert "is an evaluation; its samples are in " in told
    solve(EACH)
    ids = [line.split()[0] for line in reason("runs").stdout.splitlines()]
    assert "do not fit on one page" in reason("view", *ids).stderr


def test_a_record_with_a_hidden_setting_does_not_go_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "correct-horse")
    command = ["eval", "arithmetic", "--limit", "2", "--samples", "1", "--template"]
    assert reason(*command, "correct-horse {question}").exit_code == 0
    done = reason("runs", "resume")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "was given template, which is secret and not kept" in line


def test_runs_are_forgotten_when_it_is_said_which(both: tuple[str, str]) -> None:
    for wrong in ((), ("--all", "--older", "1d")):
        assert reason("runs", "prune", *wrong).exit_code == 2
    assert reason("runs", "prune", "--older", "1d").stdout == "0 forgotten\n"
    assert reason("runs", "prune", "--strategy", "multiverse").stdout == "1 forgotten\n"
    assert reason("runs", "prune", "--all").stdout == "1 forgotten\n"
    assert reason("runs").stdout == ""


def test_no_run_is_kept_where_that_is_not_wanted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reason("solve", EACH, "--no-keep").exit_code == 0
    (home / "reason").mkdir()
    (file := home / "reason" / "config.toml").write_text("keep = false\n")
    assert "· run" not in reason("solve", EACH).stderr
    file.unlink()
    monkeypatch.setenv("REASON_KEEP", "0")
    assert "· run" not in reason("solve", EACH).stderr
    assert not (home / "reason" / "runs.db").exists()


def test_the_answer_is_given_where_the_run_can_not_be_kept(home: Path) -> None:
    (home / "reason").write_text("a file where the folder would be")
    done = reason("solve", EACH)
    assert (done.exit_code, done.stdout.strip()) == (0, "23, 30")
    (line,) = [line for line in done.stderr.splitlines() if "not kept" in line]
    assert "--no-keep" in line


@pytest.mark.parametrize(
    "arguments", [("runs", "show", "beef"), ("view",), ("runs", "diff", "last", "last")], ids=str
)
def test_a_run_that_is_not_kept_is_refused_by_name(arguments: tuple[str, ...]) -> None:
    done = reason(*arguments)
    assert done.exit_code == 2
    assert "is not kept; reason runs lists those that are" in done.stderr


def test_a_file_that_is_no_run_is_refused_by_its_field(home: Path) -> None:
    (home / "odd.json").write_text('{"schema": "reason.run/2"}')
    done = reason("view", "odd.json")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "schema" in done.stderr
