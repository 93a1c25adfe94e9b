"""What a person at a terminal is promised."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from protocol import Report
from reasoning.cli import main
from reasoning.models.loaded import LoadedModel

REASON = [sys.executable, "-m", "reasoning"]
COUNTDOWN = "Use 3, 10, 21 and 23 to make 50"


def reason(*arguments: str, stdin: str | None = None) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, list(arguments), input=stdin)


def test_the_answer_is_alone_on_stdout_and_the_threads_are_on_stderr() -> None:
    done = subprocess.run([*REASON, "solve", COUNTDOWN], capture_output=True, text=True)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.strip().endswith("=50")
    problem, *tree, last = done.stderr.splitlines()
    assert problem == "problem: countdown"
    assert tree[0].startswith("✓ 1 ")
    assert any(line.startswith("  ✓ 1.1") for line in tree)
    assert last.startswith("apr · ")
    for word in ("work", "span", " s ", "verified"):
        assert word in last


def test_a_terminal_shows_the_live_tree() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        os.execv(sys.executable, [*REASON, "solve", COUNTDOWN])
    screen = b""
    try:
        while chunk := os.read(terminal, 65536):
            screen += chunk
    except OSError:  # the terminal is gone with its process
        pass
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert "▶ 1".encode() in screen  # a frame from the middle
    assert "✓ 1.1".encode() in screen
    assert b"\x1b[?25h" in screen  # the cursor is back


def test_json_is_one_object_that_fits_its_schema() -> None:
    done = reason("solve", COUNTDOWN, "--json", "--quiet")
    assert done.exit_code == 0
    raw = json.loads(done.stdout)
    report = Report.model_validate(raw)
    assert raw["schema"] == "reason.solve/1"
    assert report.verified is True
    assert report.strategy == "apr"
    assert report.model == "reason-5m"
    usage = report.usage
    assert usage.work_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.span_tokens <= usage.work_tokens
    assert usage.completion_tokens == sum(thread.tokens for thread in report.threads)
    counted = report.parallel
    assert counted is not None
    assert counted.written == usage.completion_tokens
    assert 0 < counted.critical_path < counted.longest_thread < counted.tokens
    assert counted.acceleration == round(1 - counted.longest_thread / counted.tokens, 4)
    assert counted.degree == pytest.approx(report.parallelism, abs=1e-3)
    assert {thread.parent for thread in report.threads} <= {None, "1"}
    assert {thread.state for thread in report.threads} == {"succeeded"}


def test_a_problem_comes_from_standard_input() -> None:
    done = reason("solve", "-", "--strategy", "single", stdin="Compute 17 * 3 + 5 - 12\n")
    assert done.stdout.strip() == "44"
    assert done.exit_code == 0


def test_help_answers_in_half_a_second_without_heavy_imports() -> None:
    code = (
        "import sys, reasoning.cli; print(sorted({'torch', 'rich', 'pydantic'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    helped = reason("solve", "--help")
    for option in ("--strategy", "--n", "--temperature", "--seed", "--max-tokens", "--timeout"):
        assert option in helped.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["solve", COUNTDOWN, "--strategy", "magic"], 2, "choose single"),
        (["solve", COUNTDOWN, "--model", "gpt-17"], 1, "give the path"),
        (["solve", "Why is the sky blue?"], 1, "name a model with --model"),
        (["solve", "Use 1, 1, 1 and 1 to make 99"], 1, "can't make 99"),
        (["solve", "Use 3, 10, 21 and 230 to make 50"], 2, "numbers: 230 is out of range"),
        (["solve", "Use 3, 10, 21 and 23 to make 500"], 2, "target: 500 is out of range"),
        (["solve", "Use 3 and 10 to make 50"], 2, "numbers: 2 given"),
        (["solve", "Compute 3 + (4"], 2, "expression"),
        (["solve", "Compute 99 * 99"], 1, "0 to 999"),
        (["solve", ""], 2, "empty"),
        (["solve", "why " * 100_000], 2, "characters"),
        (["solve", COUNTDOWN, "--n", "0"], 2, "n: 0"),
        (["solve", COUNTDOWN, "--strategy", "apr", "--n", "99"], 2, "1 to 32"),
        (["solve", COUNTDOWN, "--n", "9999"], 2, "1 to 1024"),
        (["solve", COUNTDOWN, "--n", "many"], 2, "'--n'"),
        (["solve", COUNTDOWN, "--colour"], 2, "--colour"),
        (["solve"], 2, "PROBLEM"),
        (["solve", COUNTDOWN, "--model", ""], 1, "give the path"),
        (["solve", COUNTDOWN, "--model", "a" * 300], 1, "give the path"),
        (["solve", "Use 3, 10, 21 and 23 to make 50.5"], 2, "target: 50.5"),
        (["eval", "countdown:numbers=9"], 2, "numbers"),
        (["eval", "countdown", "--strategy", "apr:n=" + "9" * 5000], 2, "strategy: "),
        (["solve", COUNTDOWN, "--temperature", "-1"], 2, "temperature: -1"),
        (["solve", COUNTDOWN, "--temperature", "nan"], 2, "temperature: nan"),
        (["solve", COUNTDOWN, "--timeout", "0"], 2, "timeout: 0"),
        (["solve", COUNTDOWN, "--max-tokens", "3"], 2, "max-tokens: 3"),
        (["solve", COUNTDOWN, "--draft", "reason-1m"], 2, "draft: the usual strategy takes none"),
        (["eval", "countdown", "--draft", "reason-1m"], 2, "draft: no strategy here takes one"),
        (["eval", "countdown", "--strategy", "No!"], 2, "strategy 'No!'"),
        (["eval", "countdown", "--limit", "0"], 2, "'--limit'"),
    ],
)
def test_bad_input_is_one_line_that_says_how_to_mend_it(
    arguments: list[str], code: int, words: str
) -> None:
    done = reason(*arguments)
    assert done.exit_code == code
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("reason: ")


def test_a_usage_error_under_json_is_an_object_too() -> None:
    done = reason("solve", COUNTDOWN, "--n", "many", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["code"] == "InvalidValue"


def test_input_that_is_not_utf8_is_refused() -> None:
    done = CliRunner().invoke(main, ["solve", "-"], input=b"\xff\xfe 3")
    assert done.exit_code == 2
    assert "not UTF-8" in done.stderr


def test_the_answer_is_out_even_if_nobody_reads_stderr(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    command = f"{sys.executable} -m reasoning solve '{COUNTDOWN}' 2>&1 >{answer} | true"
    subprocess.run(["bash", "-c", command], check=True)
    assert answer.read_text().strip().endswith("=50")


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['tokenizers'] = None\n"
        f"from reasoning.cli import main; main(['solve', '{COUNTDOWN}'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(r"pip install .*\[local\]'$", done.stderr.strip())
    assert len(done.stderr.splitlines()) == 1


def test_an_error_under_json_is_an_object_with_a_code() -> None:
    done = reason("solve", "Use 1, 1, 1 and 1 to make 99", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["code"] == "ProblemRefused"


@pytest.mark.parametrize(
    "damage", ["empty folder", "no config", "cut weights", "no tokenizer", "other markup"]
)
def test_a_broken_model_folder_is_one_line(
    shipped: LoadedModel, tmp_path: Path, damage: str
) -> None:
    from reasoning.models.catalog import shipped as shipped_models

    if damage != "empty folder":
        for file in shipped_models()["reason-5m"].iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    if damage == "no config":
        (tmp_path / "config.json").unlink()
    elif damage == "no tokenizer":
        (tmp_path / "tokenizer.json").unlink()
    elif damage == "other markup":
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"reason_markup": 7}))
    elif damage == "cut weights":
        (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    done = reason("solve", COUNTDOWN, "--model", str(tmp_path))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path) in done.stderr


def test_a_timeout_answers_with_what_there_is() -> None:
    five = "Use 12, 87, 45, 66 and 98 to make 13"
    done = reason("solve", five, "--timeout", "0.05", "--json")
    report = Report.model_validate_json(done.stdout)
    assert report.status == "timed-out"
    assert "time limit of 0.05 s" in done.stderr
    assert done.exit_code == 1


def start(*arguments: str) -> subprocess.Popen[str]:
    environment: dict[str, Any] = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*REASON, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0], ids=["loading", "loading torch", "running"])
def test_ctrl_c_stops_at_once_with_130(seconds: float) -> None:
    many = ["--strategy", "self-consistency", "--n", "1000", "--temperature", "1"]
    process = start("solve", "Use 12, 87, 45, 66 and 98 to make 13", *many)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - asked < 5
    assert "interrupted" in stderr
    assert "Traceback" not in stderr + stdout
