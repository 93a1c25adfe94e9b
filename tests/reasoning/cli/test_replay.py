"""What ``reason replay`` promises at a terminal."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reasoning.cli import main

FAR = 12  # questions


def traces(path: Path, *, questions: int = FAR, each: int = 12, seed: int = 0) -> Path:
    """Synthetic traces: harder questions are longer and less often right."""
    rng = Random(seed)
    lines = []
    for number in range(questions):
        right = 0.4 + 0.6 * rng.random()
        made = []
        for _ in range(each):
            tokens = round(rng.uniform(2000, 6000) / right)
            answer = "7" if rng.random() < right else rng.choice("1234")
            probes = [rng.choice(["1", answer]) for _ in range(tokens // 500)]
            made.append({"tokens": tokens, "answer": answer, "probes": probes})
        lines.append(
            json.dumps(
                {
                    "question_id": f"q{number}",
                    "question": "…",
                    "gold": "7",
                    "probe_every": 500,
                    "traces": made,
                }
            )
        )
    text = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.fixture
def stored(tmp_path: Path) -> str:
    return str(traces(tmp_path / "traces.jsonl.gz"))


def replay(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", *arguments])


def rows(*arguments: str) -> list[dict[str, Any]]:
    done = replay(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return found


def test_one_object_with_a_row_for_each_policy(stored: str) -> None:
    done = replay(stored, "--policy", "default", "--policy", "sc:n=64", "--json")
    printed = json.loads(done.stdout)
    assert printed["schema"] == "reason.replay/1"
    assert [row["policy"] for row in printed["results"]] == ["default", "sc:n=64"]
    for row in printed["results"]:
        assert row["n"] == FAR
        assert row["ci95"][0] <= row["accuracy"] <= row["ci95"][1]
        assert 0 < row["span"] <= row["tokens"]
        assert len(row["questions"]) == FAR
        deltas = [question["delta_n_matched"] for question in row["questions"]]
        assert sum(deltas) / FAR == pytest.approx(row["n_matched"]["gain"], abs=1e-3)


def test_the_default_policy_is_replayed_where_none_is_named(stored: str) -> None:
    assert rows(stored)[0] == rows(stored, "--policy", "default")[0]


def test_self_consistency_gains_nothing_over_itself(stored: str) -> None:
    (row,) = rows(stored, "--policy", "sc:n=5")
    assert row["n_matched"]["policy"] == row["token_matched"]["policy"] == "sc:n=5"
    assert row["n_matched"]["gain"] == row["token_matched"]["gain"] == 0


def test_each_policy_is_compared_with_the_one_asked_for(stored: str) -> None:
    ours, other = rows(
        stored, "--policy", "async:k=4", "--policy", "sc:n=12", "--against", "sc:n=12"
    )
    assert other["against"] is None  # itself
    assert ours["against"]["policy"] == "sc:n=12"
    assert ours["against"]["gain"] == pytest.approx(ours["accuracy"] - other["accuracy"], abs=1e-3)
    low, high = ours["against"]["gain_ci95"]
    assert low < ours["against"]["gain"] < high
    assert {question["delta_against"] for question in other["questions"]} == {None}
    (alone,) = rows(stored, "--policy", "async:k=4", "--against", "sc:n=12")
    assert alone == ours  # it is replayed where it is none of the arms


def test_self_consistency_is_met_at_equal_tokens_and_span(stored: str) -> None:
    (row,) = rows(stored, "--policy", "async:k=5,threshold=0.8")
    for name, cost in (("n_matched", "traces"), ("token_matched", "tokens")):
        assert row[name][cost] == pytest.approx(row[cost], abs=0.11)
    assert row["span_matched"]["span"] == pytest.approx(row["span"], abs=0.11)
    assert row["token_matched"]["questions_needed"] > 12
    assert row["token_matched"]["orders_error"] > 0
    done = replay(stored, "--policy", "async:k=5,threshold=0.8", "--equal", "span")
    assert "as long" in done.stdout  # the name of a row may take lines
    assert "as many" not in done.stdout


def test_a_file_with_too_few_traces_says_so(stored: str, tmp_path: Path) -> None:
    (row,) = rows(stored, "--policy", "sc:n=64")
    assert (row["traces"], row["traces_missing"], row["questions_short"]) == (12, 52, FAR)
    assert "sc:n=64, 12 of 64 traces" in replay(stored, "--policy", "sc:n=64").stdout
    done = replay(stored, "--policy", "adaptive:threshold=0.999")  # some orders settle earlier
    assert "too few traces on" in done.stdout
    lines = traces(tmp_path / "some.jsonl").read_text().splitlines()
    short = json.loads(lines[0])
    short["traces"] = short["traces"][:3]
    (tmp_path / "some.jsonl").write_text("\n".join([json.dumps(short), *lines[1:]]))
    done = replay(str(tmp_path / "some.jsonl"), "--policy", "sc:n=12")
    assert "too few traces on 1 question" in done.stdout


def test_equal_outcomes_are_not_shown_as_certain(tmp_path: Path) -> None:
    file = tmp_path / "easy.jsonl"
    trace = {"tokens": 900, "answer": "7"}
    lines = ({"question_id": f"q{i}", "gold": "7", "traces": [trace] * 8} for i in range(12))
    file.write_text("\n".join(map(json.dumps, lines)))
    (row,) = rows(str(file), "--policy", "async:k=4", "--against", "sc:n=8")
    assert row["ci95"] == [pytest.approx(0.7575, abs=1e-3), 1]
    assert row["against"]["gain_ci95"] == [pytest.approx(end, abs=1e-3) for end in (-0.221, 0.221)]
    assert row["against"]["verdict"] == "undecided"


def test_the_table_shows_each_policy_and_what_stands_beside_it(stored: str) -> None:
    done = replay(stored, "--policy", "esc:w=3,n=9", "--policy", "parallel-probe")
    assert done.exit_code == 0
    for words in ("esc:w=3,n=9", "parallel-probe", "as many traces", "tokens", "span", "95 %"):
        assert words in done.stdout


def test_the_same_seed_gives_the_same_numbers(stored: str) -> None:
    assert rows(stored, "--seed", "4") == rows(stored, "--seed", "4")
    assert rows(stored, "--seed", "4") != rows(stored, "--seed", "5")


def test_probes_are_charged_where_they_have_a_price(stored: str) -> None:
    (free,), (paid,) = rows(stored), rows(stored, "--probe-tokens", "20")
    assert paid["tokens"] == pytest.approx(free["tokens"] + 20 * free["probes"], abs=2)
    assert paid["accuracy"] == free["accuracy"]


def test_several_files_are_one_set(tmp_path: Path) -> None:
    first = traces(tmp_path / "a.jsonl", questions=3)
    text = (
        traces(tmp_path / "b.jsonl", questions=2)
        .read_text()
        .replace('"q0"', '"r0"')
        .replace('"q1"', '"r1"')
    )
    (tmp_path / "b.jsonl").write_text(text)
    assert rows(str(first), str(tmp_path / "b.jsonl"))[0]["n"] == 5


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_traces_come_from_a_pipe_too(tmp_path: Path, ending: str) -> None:
    content = traces(tmp_path / f"traces.{ending}").read_bytes()
    command = [sys.executable, "-m", "reasoning", "replay", "/dev/stdin", "--policy", "sc:n=4"]
    done = subprocess.run(command, input=content, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{FAR} questions" in done.stdout.decode()


def test_a_text_may_hold_any_line_break_but_the_lines_own(tmp_path: Path) -> None:
    file = traces(tmp_path / "traces.jsonl")
    file.write_text(file.read_text().replace("\\u2026", "a\u2028b\u0085c"), encoding="utf-8")
    assert "\u2028" in file.read_text(encoding="utf-8")
    assert rows(str(file), "--policy", "sc:n=4")[0]["n"] == FAR


def test_a_plot_is_drawn_in_each_format_that_is_asked_for(stored: str, tmp_path: Path) -> None:
    targets = [tmp_path / "plot.png", tmp_path / "plot.pdf"]
    asked = [part for target in targets for part in ("--plot", str(target))]
    assert replay(stored, "--policy", "sc:n=4", *asked).exit_code == 0
    assert [target.read_bytes()[:4] for target in targets] == [b"\x89PNG", b"%PDF"]


def test_matplotlib_is_imported_for_a_plot_only(stored: str) -> None:
    code = (
        "import sys, reasoning.cli; "
        f"sys.argv = ['reason', 'replay', {stored!r}, '--policy', 'sc:n=2', '--shuffles', '1']\n"
        "try: reasoning.cli.main()\n"
        "except SystemExit: print(*(n for n in ('matplotlib', 'torch') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == ""


# Our own runs.


def run_file(problem: str, *answers: str | None) -> dict[str, Any]:
    thread = {"parent": None, "name": "sample", "state": "succeeded", "text": "", "logprob": None}
    return {
        "schema": "reason.solve/1",
        "status": "finished",
        "problem": problem,
        "answer": answers[0],
        "verified": None,
        "reason": None,
        "votes": {},
        "confidence": 1.0,
        "strategy": "self-consistency",
        "model": "m",
        "usage": dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "work_tokens", "span_tokens"), 0
        ),
        "wall_s": 0.0,
        "threads": [
            {**thread, "id": str(i), "tokens": 10 + i, "answer": answer}
            for i, answer in enumerate(answers, 1)
        ],
    }


@pytest.mark.parametrize("indent", [None, 2])
def test_a_run_of_ours_is_replayed_and_its_verifier_says_who_is_right(
    tmp_path: Path, indent: int | None
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_file("Compute 3+4", "7", "7", "8", None), indent=indent))
    best, majority = rows(str(path), "--policy", "default", "--policy", "sc:n=4")
    assert (best["n"], best["accuracy"], majority["accuracy"]) == (1, 1.0, 1.0)
    assert majority["tokens"] == 11 + 12 + 13 + 14


def test_runs_on_lines_are_questions(tmp_path: Path) -> None:
    runs = [run_file("Compute 3+4", "7", "7"), run_file("Compute 3*4", "7", "7")]
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(map(json.dumps, runs)))
    (row,) = rows(str(path), "--policy", "sc:n=2")
    assert [question["accuracy"] for question in row["questions"]] == [1.0, 0.0]


def test_a_run_without_a_verifier_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_file("Why is the sky blue?", "scattering")))
    refused(replay(str(path)), "no verifier")


# Bad input.


def refused(done: Result, message: str) -> None:
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("reason: ")
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no question; give JSON lines"),
        (b"\xff\xfe", "no question; give JSON lines"),
        (b"\xff\xfd", "not UTF-8"),
        (b"{}\n", "of no format that is known here; give one of traces (ours"),
        (b"not json\n", "line 1: not JSON"),
        (b"\x1f\x8bnonsense", "give a file that can be read"),
        (gzip.compress(b"x" * 99)[:-9], "give a file that can be read"),
        (b'{"schema": "reason.solve/1"}', "run 1: status: Field required"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    refused(replay(str(path)), message)


def test_a_question_that_is_there_twice_is_refused(stored: str) -> None:
    refused(replay(stored, stored), "question 'q0' is there twice")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    refused(replay(str(tmp_path / "none")), "No such file")
    refused(replay(str(tmp_path)), "give a file that can be read")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("nope", "policy 'nope' does not exist; choose default, sc"),
        ("sc:m=3", "policy: sc has no setting 'm'; sc has n"),
        ("sc:n=many", "n: 'many' does not fit; give a whole number"),
        ("deepprune", "needs judge, which these traces lack"),
        ("parallel-probe:probe_every=0", "probe_every: 0 is out of range"),
    ],
)
def test_a_bad_policy_is_one_line(stored: str, policy: str, message: str) -> None:
    refused(replay(stored, "--policy", policy), message)


def test_an_error_is_an_object_too_where_json_is_asked_for(stored: str) -> None:
    done = replay(stored, "--policy", "nope", "--json")
    assert json.loads(done.stdout)["error"]["code"] == "UnknownName"


def test_a_plot_that_can_not_be_written_is_one_line(stored: str, tmp_path: Path) -> None:
    refused(replay(stored, "--plot", str(tmp_path / "none" / "plot.png")), "plot: ")
    refused(replay(stored, "--plot", str(tmp_path / "plot.nope")), "plot: ")
