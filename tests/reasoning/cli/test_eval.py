"""What ``reason eval`` promises: every sample is kept at once, and none is paid for twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from reasoning.cli import main
from reasoning.evaluation import (
    EvalHeader,
    EvalStore,
    SampleRecord,
    StoredEval,
    StrategyRun,
    load_questions,
)
from reasoning.evaluation.suites import SuiteResults
from reasoning.values.accounting import ParallelStats
from tests.support.scripted_chat import Refusal, Script, ScriptedChat
from tests.support.serving_tools import serving
from tests.support.shell import Shell, running_shell

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
QUESTIONS, SAMPLES = 12, 4
TEXTS = ["so it is \\boxed{%s}", "The final answer is %s.", "I don't know, \\boxed{0}"]


class Varied(ScriptedChat):
    """Answers by the request's seed, right two times in three; tells when enough have come."""

    def __init__(self) -> None:
        super().__init__()
        self.enough, self.reached = 10**9, anyio.Event()

    def next_answer(self, body: dict[str, Any]) -> Script | Refusal:
        self.streamed.append(body)
        if len(self.streamed) == self.enough:
            self.reached.set()
        place, asked = body["seed"] % 3, body["messages"][-1]["content"]
        number = asked.split("number ")[1].split("?")[0]
        words = TEXTS[place] % number if place < 2 else TEXTS[2]
        return Script(chunks=[words], delay_s=0.02, usage={"completion_tokens": 5 + place})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Varied, str]]:
    chat = Varied()
    async with chat.running() as url:
        yield chat, url


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"question": f"Which is number {n}?", "answer": n} for n in range(1, QUESTIONS + 1)]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def records(path: Path, kind: str) -> list[dict[str, Any]]:
    whole = path.read_text().split("\n")[1:-1]
    return [one for one in map(json.loads, whole) if one["kind"] == kind]


def seeds(bodies: Sequence[dict[str, Any]]) -> set[int]:
    return {int(body["seed"]) for body in bodies}


async def run(shell: Shell, *arguments: str) -> tuple[int, str, str]:
    return await anyio.to_thread.run_sync(shell.run, *arguments)


async def test_killed_twice_no_sample_is_lost_or_paid_twice(
    server: tuple[Varied, str], questions: Path, tmp_path: Path
) -> None:
    chat, url = server
    out = tmp_path / "out.jsonl"
    command = ["eval", str(questions), "-o", str(out), "--base-url", url, "--parallel", "2"]
    command += [
        "--samples",
        str(SAMPLES),
        "--policy",
        "sc:n=4",
        "--strategy",
        "self-consistency:n=2",
    ]
    with running_shell(tmp_path) as shell:
        paid: set[int] = set()
        for number in (signal.SIGKILL, signal.SIGTERM):
            chat.enough, chat.reached = 15, anyio.Event()
            process: subprocess.Popen[str] = shell.start(*command)
            await chat.reached.wait()
            process.send_signal(number)
            await anyio.to_thread.run_sync(process.communicate)
            kept = {one["seed"] for one in records(out, "sample")}
            assert not paid & seeds(chat.streamed), "what is kept was asked for again"
            paid = kept
            chat.streamed.clear()
        out.write_bytes(out.read_bytes() + b'{"kind":"sample","question":"1"')  # a line cut short
        code, table, told = await run(shell, *command, "--json")
        assert code == 0, told
        assert not paid & seeds(chat.streamed)
        samples, runs = records(out, "sample"), records(out, "run")
        assert len(samples) == QUESTIONS * SAMPLES == len({one["seed"] for one in samples})
        assert len(runs) == QUESTIONS
        versions = json.loads(out.read_text().split("\n")[0])["versions"]
        assert "parallel-reason" in versions
        assert versions["server other"] == "of an unknown version"
        chat.streamed.clear()
        again = await run(shell, *command, "--json")
        assert again[1] == table
        assert not chat.streamed, "all is there, and nothing is asked"


async def test_a_killed_evaluation_is_listed_and_goes_on_by_its_record(
    server: tuple[Varied, str], questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def here(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))

    chat, url = server
    command = ["eval", str(questions), "--base-url", url, "--samples", str(SAMPLES)]
    command += ["--parallel", "2", "--policy", "sc:n=4", "-o", str(tmp_path / "out.jsonl")]
    with running_shell(tmp_path) as shell:
        chat.enough = 15
        process = shell.start(*command)
        await chat.reached.wait()
        process.send_signal(signal.SIGKILL)
        await anyio.to_thread.run_sync(process.communicate)
        paid = {one["seed"] for one in records(tmp_path / "out.jsonl", "sample")}
        chat.streamed.clear()
        (before,) = json.loads(here("runs", "list", "--json").stdout)
        assert (before["command"], before["status"]) == ("eval", "not ended")
        code, table, told = await run(shell, "runs", "resume", before["id"])
        assert code == 0, told
        assert "sc:n=4" in table
        assert not paid & seeds(chat.streamed)
        samples = records(tmp_path / "out.jsonl", "sample")
        assert len(samples) == QUESTIONS * SAMPLES
        (after,) = json.loads(here("runs", "list", "--json").stdout)
        assert (after["id"], after["status"]) == (before["id"], "finished")
        tokens = sum(one["tokens"] + one["prompt_tokens"] for one in samples)
        assert (after["branches"], after["tokens"]) == (1, tokens)
        assert after["answer"].startswith("sc:n=4 ")
    shown = here("runs", "show", after["id"]).stdout
    assert f"goes on from: {tmp_path / 'out.jsonl'}" in shown
    assert here("replay", "last", "--policy", "sc:n=2").exit_code == 0
    assert here("report", "last", "-o", str(tmp_path / "page.html")).exit_code == 0
    (tmp_path / "out.jsonl").unlink()
    done = here("runs", "resume")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "out.jsonl is gone; begin it anew" in done.stderr


def children(process: subprocess.Popen[str]) -> list[int]:
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(one) for one in told.split()]


@pytest.mark.parametrize("who", ["worker", "driver", "both"])
async def test_killed_workers_lose_no_sample_and_pay_none_twice(
    who: str, server: tuple[Varied, str], questions: Path, tmp_path: Path
) -> None:
    chat, url = server
    command = ["eval", str(questions), "--base-url", url, "--samples", str(SAMPLES), "--json"]
    out = tmp_path / "out.jsonl"
    shared = [*command, "-o", str(out), "--parallel", "4", "--workers", "2"]
    with running_shell(tmp_path) as shell:
        chat.enough = 15
        process = shell.start(*shared)
        await chat.reached.wait()
        workers = children(process)
        assert len(workers) == 2
        if who != "worker":
            process.kill()
        if who != "driver":
            os.kill(workers[0], signal.SIGKILL)
        await anyio.to_thread.run_sync(process.communicate)
        assert (process.returncode == 0) == (who == "worker")
        code, table, told = await run(shell, *shared)
        assert code == 0, told
        samples = [without_times(one) for one in records(out, "sample")]
        assert len(samples) == QUESTIONS * SAMPLES == len({one["seed"] for one in samples})
        paid = [int(body["seed"]) for body in chat.streamed]
        under_way = 4 if who != "worker" else 2
        assert len(paid) <= QUESTIONS * SAMPLES + under_way, "what was kept was asked for again"
        alone = tmp_path / "alone.jsonl"
        assert (await run(shell, *command, "-o", str(alone)))[:2] == (0, table)
    expected = [without_times(one) for one in records(alone, "sample")]
    assert sorted(samples, key=by_place) == sorted(expected, key=by_place)


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "wall_s"}


def by_place(record: dict[str, Any]) -> tuple[str, int]:
    return record["question"], record["sample"]


async def test_ctrl_c_ends_workers_and_keeps_what_they_have(
    server: tuple[Varied, str], questions: Path, tmp_path: Path
) -> None:
    chat, url = server
    out = tmp_path / "out.jsonl"
    with running_shell(tmp_path) as shell:
        chat.enough = 15
        command = ["eval", str(questions), "-o", str(out), "--base-url", url, "--workers", "2"]
        process = shell.start(*command, "--samples", "4", "--parallel", "4")
        await chat.reached.wait()
        workers = children(process)
        process.send_signal(signal.SIGINT)
        _, told = await anyio.to_thread.run_sync(process.communicate)
    assert process.returncode == 130
    assert "are missing; the same command goes on" in told
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    assert len(records(out, "sample")) >= 15 - 4


async def test_workers_fail_as_one_process_does(tmp_path: Path, questions: Path) -> None:
    command = ["eval", str(questions), "-o", str(tmp_path / "out.jsonl"), "--base-url"]
    with running_shell(tmp_path) as shell:
        said = [
            await run(shell, *command, "http://127.0.0.1:9/v1", "--workers", count)
            for count in ("1", "2", "0", "many")
        ]
    assert said[0] == said[1]
    assert "127.0.0.1:9" in said[1][2]
    assert all(code == 2 and "--workers" in told for code, _, told in said[2:])


def evaluated(*arguments: str) -> Any:
    done = CliRunner().invoke(main, ["eval", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A finished evaluation: four questions with samples, and runs of one strategy."""
    path = tmp_path / "kept.jsonl"
    rows = [{"question": f"What is {n}/2?", "answer": f"{n}/2"} for n in range(1, 5)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    header = EvalHeader(model="m", options={"seed": 0, "answer": "auto"})
    with EvalStore(path, header) as store:
        store.ask(load_questions(str(tmp_path / "mine.jsonl")))
        for n in range(1, 5):
            for sample in range(6):
                right = (sample * 7 + n) % 3 > 0
                store.add(
                    SampleRecord(
                        question=str(n),
                        sample=sample,
                        seed=sample,
                        text="…",
                        answer=f"\\frac{{{n}}}{{2}}" if right else str(n),
                        tokens=100 * n + sample,
                        prompt_tokens=10,
                        wall_s=1.0,
                    )
                )
            answer = str(n / 2) if n != 2 else None
            run = StrategyRun(question=str(n), arm="apr:n=4", seed=n, answer=answer, tokens=50)
            store.add(run.model_copy(update={"parallel": BRANCHED, "threads": 3}))
    return path


def test_all_arms_are_on_the_same_questions_and_need_no_model(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(QUORUM)
    own = f"{tmp_path / 'mine.py'}:Quorum:k=3"
    arms = [
        "--policy",
        "sc:n=6",
        "--policy",
        own,
        "--policy",
        "allocation:mean=4",
        "--strategy",
        "apr:n=4",
        "--against",
        "sc:n=1",
    ]
    arms += ["--samples", "6", "--json"]
    results = evaluated(str(tmp_path / "mine.jsonl"), "-o", str(kept), *arms)
    rows = {row["policy"]: row for row in results["results"]}
    assert list(rows) == ["sc:n=6", own, "allocation:mean=4", "apr:n=4"]
    assert rows["allocation:mean=4"]["batch"]["rounds"] >= 1
    assert results["pool"] == {
        "samples": 24,
        "answered": 1.0,
        "right": pytest.approx(2 / 3, abs=0.01),
        "cut": 0.0,
        "lost": 0,
        "logprobs": 0.0,
    }
    assert rows["sc:n=6"]["accuracy"] == 1.0, "half and \\frac12 are one answer"
    assert rows[own]["traces"] <= 6
    assert rows["apr:n=4"]["accuracy"] == 0.75
    assert rows["apr:n=4"]["runs"]["lost"] == 0
    assert rows["apr:n=4"]["runs"]["parallel"] == {
        "tokens": 60,
        "longest_thread": 36,
        "critical_path": 25,
        "acceleration": 0.4,
        "parallel_ratio": 0.75,
        "degree": 2.0,
    }
    shown = CliRunner().invoke(
        main, ["eval", str(tmp_path / "mine.jsonl"), "-o", str(kept), *arms[:-1]]
    )
    assert "longest thread 36 of 60, critical path 25, acceleration 0.40" in shown.stdout
    for row in rows.values():
        assert row["n"] == 4
        assert row["against"]["policy"] == "sc:n=1"
        low, high = row["against"]["gain_ci95"]
        assert low < row["against"]["gain"] < high
    assert [point["n"] for point in results["curve"]] == [1, 2, 3, 4, 5, 6]


BRANCHED = ParallelStats(
    tokens=60, longest_thread=36, parallel_tokens=45, written=50, critical_path=25
)
QUORUM = """
from dataclasses import dataclass
from pruning import Ballots, Ended, Finish, VotingPolicy

@dataclass(frozen=True, kw_only=True)
class Quorum(VotingPolicy[Ballots]):
    '''Stop once k votes agree.'''
    k: int = 2
    n: int = 8

    def start(self, state):
        return state.launch(self.n, "all at once")

    def on_end(self, state, ended: Ended):
        for answer, count in state.votes.items():
            if count >= self.k:
                return (Finish(answer=answer, reason=f"{count} agree"),)
        return super().on_end(state, ended)
"""


def test_a_long_name_takes_lines_and_no_figure_is_cut(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(QUORUM)
    own = f"{tmp_path / 'mine.py'}:Quorum:k=3,n=6"
    arms = ["--samples", "6", "--policy", own, "--against", "sc:n=1"]
    shown = evaluated(str(tmp_path / "mine.jsonl"), "-o", str(kept), *arms)
    assert len(own) > 60
    assert "…" not in shown
    assert "(51.0–100.0)" in shown


def test_a_grader_of_one_s_own_judges(kept: Path, tmp_path: Path) -> None:
    grader = tmp_path / "grade.py"
    grader.write_text("def whole(question, answer, text):\n    return answer.isdigit()\n")
    arms = ["--samples", "6", "--policy", "sc:n=6", "--grader", f"{grader}:whole", "--json"]
    results = evaluated(str(tmp_path / "mine.jsonl"), "-o", str(kept), *arms)
    assert results["results"][0]["accuracy"] == 0.0
    grader.write_text("def whole(question, answer, text):\n    return 1 / 0\n")


def test_a_dry_run_says_what_is_missing_and_what_it_will_cost(kept: Path, tmp_path: Path) -> None:
    more = [str(tmp_path / "mine.jsonl"), "-o", str(kept), "--samples", "8", "--dry-run"]
    told = evaluated(*more, "--price", "1", "10", "--json")
    assert (told["questions"], told["samples"], told["runs"]) == (4, 8, 0)
    assert told["tokens"] == 8 * 252  # the mean of those that are there, as a whole number
    assert told["cost"] == pytest.approx((8 * 10 + 8 * 252 * 10) / 1e6)
    assert "8 samples to ask" in evaluated(*more)


def test_a_policy_that_needs_observations_is_refused_before_any_is_paid(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    command = ["eval", "countdown", "-o", str(out), "--limit", "2", "--policy", "deepconf"]
    done = CliRunner().invoke(main, command)
    assert "deepconf needs confidence of each sample; give --observe 64" in done.stderr
    assert not out.exists()


def test_samples_of_another_setting_are_not_mixed(kept: Path, tmp_path: Path) -> None:
    command = ["eval", str(tmp_path / "mine.jsonl"), "-o", str(kept), "--samples", "6"]
    done = CliRunner().invoke(main, [*command, "--temperature", "1"])
    assert done.exit_code == 2
    assert "made with temperature None, not 1.0" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--model", "reason-1m", "made with model 'm', not 'reason-1m'"),
        ("--dialect", "npr", "made with dialect None, not 'npr'"),
    ],
)
def test_a_whole_file_of_another_model_or_tongue_is_not_shown_for_it(
    kept: Path, tmp_path: Path, option: str, value: str, told: str
) -> None:
    command = ["eval", str(tmp_path / "mine.jsonl"), "-o", str(kept), "--samples", "6"]
    assert CliRunner().invoke(main, [*command, "--model", "some/m"]).exit_code == 0
    done = CliRunner().invoke(main, [*command, option, value])
    assert done.exit_code == 2
    assert told in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        b'{"question": "1+1?", "answer": 2}',
        b'{"question": "1+1?", "answer": 2}\n',
        b"\x1f\x8b\x08 packed",
        b"a note",
        b'{"kind":"sample"',
    ],
)
def test_a_file_of_something_else_is_never_written_over(tmp_path: Path, content: bytes) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(content)
    done = CliRunner().invoke(main, ["eval", "countdown", "--limit", "1", "-o", str(mine)])
    assert done.exit_code == 2
    assert "no file of reason eval; give another file" in done.stderr or "line 1: " in done.stderr
    assert mine.read_bytes() == content


def test_samples_are_replayed_wherever_traces_are(kept: Path) -> None:
    done = CliRunner().invoke(main, ["replay", str(kept), "--policy", "sc:n=6", "--json"])
    assert json.loads(done.stdout)["results"][0]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (["--samples", "4"], "the last 8 answers were lost"),
        (["--samples", "4", "--limit", "1"], "samples: all 4 were lost"),
        (["--strategy", "self-consistency:n=2", "--limit", "2"], "n=2: all 2 were lost"),
    ],
)
async def test_where_all_is_lost_the_command_says_why_and_exits_2(
    questions: Path, tmp_path: Path, arms: list[str], words: str
) -> None:
    async with ScriptedChat(
        refuse=lambda body: (400, "no such model") if body.get("stream") else None
    ).running() as url:
        with running_shell(tmp_path) as shell:
            out = ["-o", str(tmp_path / "o.jsonl"), "--parallel", "2", *arms]
            code, _, told = await run(shell, "eval", str(questions), "--base-url", url, *out)
    assert code == 2
    last = told.splitlines()[-1]
    assert words in last
    assert "no such model" in last
    assert "the same command" in last
    assert "Traceback" not in told


class Telling(ScriptedChat):
    """Tells how likely its two tokens were, where it is asked to and the seed is even."""

    def next_answer(self, body: dict[str, Any]) -> Script | Refusal:
        self.streamed.append(body)
        told = {"content": [{"token": "4", "logprob": -0.5}, {"token": "2", "logprob": -0.25}]}
        choice: dict[str, Any] = {"index": 0, "delta": {"content": "\\boxed{42}"}}
        if body.get("logprobs") is True and body["seed"] % 2 == 0:
            choice["logprobs"] = told
        events = [{"choices": [choice]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]
        events.append({"choices": [], "usage": {"completion_tokens": 2}})
        lines = [f"data: {json.dumps(one)}\n\n" for one in events]
        return Script(raw=("".join(lines) + "data: [DONE]\n\n").encode())


async def test_a_sample_is_kept_with_its_log_probability_where_the_server_tells_it(
    questions: Path, tmp_path: Path
) -> None:
    out, chat = tmp_path / "out.jsonl", Telling()
    async with chat.running() as url:
        with running_shell(tmp_path) as shell:
            command = ["eval", str(questions), "--base-url", url, "-o", str(out), "--samples", "2"]
            code, printed, words = await run(shell, *command, "--policy", "sc:n=2")
    assert code == 0, words
    found = [one["logprob"] for one in records(out, "sample")]
    told = sum(body["seed"] % 2 == 0 for body in chat.streamed)
    assert 0 < told < len(found)
    assert sorted(found, key=str) == [-0.375] * told + [None] * (len(found) - told)
    share = f"{told / len(found):.0%}"
    assert f"log-probabilities of {share}, as the backend told them" in printed


JUDGE = """
from pathlib import Path

class Alike:
    def __init__(self):
        with Path("loaded").open("a") as file:
            file.write("once ")

    def __call__(self, trace, other, tokens):
        return float(trace.text[:9] == other.text[:9])
"""


def test_a_live_arm_loads_its_judge_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("judge.py").write_text(JUDGE)
    arm = "self-consistency:policy=deepprune:n=3,prefix=9,k2=1,judge=judge.py:Alike"
    command = ["arithmetic", "--limit", "3", "--model", "reason-1m", "--max-tokens", "128"]
    results = evaluated(*command, "--strategy", arm, "--json")
    assert results["results"][0]["n"] == 3
    assert Path("loaded").read_text() == "once "


def test_observed_samples_serve_policies_that_probe(tmp_path: Path) -> None:
    kept = tmp_path / "o.jsonl"
    command = [
        "arithmetic",
        "-o",
        str(kept),
        "--limit",
        "2",
        "--samples",
        "3",
        "--max-tokens",
        "200",
    ]
    arms = ["--policy", "parallel-probe:n=3", "--policy", "deepconf:n=3", "--json"]
    results = evaluated(*command, "--observe", "16", *arms)
    assert [row["n"] for row in results["results"]] == [2, 2]
    for sample in records(kept, "sample"):
        assert sample["every"] == 16
        assert len(sample["confidences"]) == sample["tokens"] // 16
        assert len(sample["probes"]) <= sample["tokens"] // 16
        assert all(one > 0 for one in sample["confidences"])
    assert any(answer for sample in records(kept, "sample") for answer in sample["probes"])
    odd = CliRunner().invoke(main, ["eval", *command[:2], str(tmp_path / "p"), "--observe", "9"])
    assert "observe: 9 is no multiple of 8" in odd.stderr


@pytest.mark.parametrize("option", ["report", "plot"])
def test_what_a_picture_lacks_is_told_before_the_work(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["eval", "countdown", "--limit", "1", "-o", str(tmp_path / "kept.jsonl")]
    done = CliRunner().invoke(main, [*arguments, f"--{option}", "page.html"])
    assert done.exit_code == 1
    assert f"{option} needs matplotlib; " in done.stderr
    assert not (tmp_path / "kept.jsonl").exists()


def test_a_report_is_one_page_in_which_texts_stay_texts(kept: Path, tmp_path: Path) -> None:
    with EvalStore(kept, StoredEval.read(kept).header) as store:
        text = "<script>alert(1)</script>"
        store.add(SampleRecord(question="1", sample=0, seed=0, text=text, answer="7", tokens=9))
    arms = ["--samples", "6", "--policy", "sc:n=6", "--strategy", "apr:n=4", "--against", "sc:n=1"]
    page = tmp_path / "page.html"
    evaluated(str(tmp_path / "mine.jsonl"), "-o", str(kept), *arms, "--report", str(page))
    said = page.read_text()
    assert "<script" not in said
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in said
    assert said.count("<svg") == 1
    for words in ("What is 1/2?", "sc:n=6", "apr:n=4", "Worth reading", "24 samples"):
        assert words in said
    made = tmp_path / "made.html"
    again = ["report", str(kept), "--policy", "sc:n=6", "--against", "sc:n=1", "-o", str(made)]
    assert CliRunner().invoke(main, again).stdout.strip() == str(made)
    for words in (
        "What is 1/2?",
        "sc:n=6",
        "apr:n=4",
        "Worth reading",
        "Again: <code>reason report",
    ):
        assert words in made.read_text()
    refused = ["eval", str(tmp_path / "mine.jsonl"), "-o", str(kept), *arms]
    done = CliRunner().invoke(main, [*refused, "--report", str(tmp_path / "no" / "page.html")])
    assert done.stderr.splitlines()[-1].startswith("reason: report: ")


async def test_what_a_server_refuses_is_lost_by_name_and_the_rest_is_measured(
    questions: Path, tmp_path: Path
) -> None:
    chat = Varied()
    chat.refuse = lambda body: (
        (400, "filtered") if "number 3?" in body["messages"][-1]["content"] else None
    )
    out = tmp_path / "o.jsonl"
    arms = ["--samples", "2", "--policy", "sc:n=2", "--strategy", "self-consistency:n=2", "--json"]
    async with chat.running() as url:
        with running_shell(tmp_path) as shell:
            command = ["eval", str(questions), "--base-url", url, "-o", str(out), *arms]
            code, printed, told = await run(shell, *command)
    assert code == 0, told
    assert "3 of 36 were lost (" in told
    assert "filtered" in told
    results = json.loads(printed)
    policy, live = results["results"]
    assert (policy["n"], live["n"], live["runs"]["lost"]) == (11, 11, 1)
    assert (results["pool"]["samples"], results["pool"]["lost"]) == (22, 2)
    assert {one["question"] for one in records(out, "sample") if one["lost"]} == {"3"}


def outside(suite: Any, name: str) -> list[str]:
    """Arms whose accuracy is not in the interval of what is committed for the same questions."""
    committed = (ROOT / "benchmarks" / "results" / f"suite-{name}.json").read_text()
    before = SuiteResults.model_validate_json(committed)
    return [*SuiteResults.model_validate(suite).outside(before)]


def test_what_papers_found_is_tried_again(tmp_path: Path) -> None:
    command = ["--suite", "sharing", "--quick", "-o", str(tmp_path / "s.jsonl"), "--json"]
    suite = evaluated(*command)
    assert [panel["name"] for panel in suite["panels"]] == ["hogwild", "group-think"]
    assert not outside(suite, "sharing")
    for panel in suite["panels"]:
        assert [claim["found"] for claim in panel["claims"]] == ["found here"]
        one, four = panel["evaluation"]["results"]
        assert four["span"] < one["span"] / 2
        low, high = four["against"]["gain_ci95"]
        assert low < 0 < high, "as accurate, as far as so few questions can tell"
    assert evaluated(*command) == suite, "all is kept"


def test_stopping_comes_out_within_its_committed_intervals(tmp_path: Path) -> None:
    command = ["--suite", "stopping", "--quick", "-o", str(tmp_path / "s.jsonl"), "--json"]
    suite = evaluated(*command)
    assert not outside(suite, "stopping")
    (panel,) = suite["panels"]
    assert len(panel["claims"]) == 3
    assert "the contrary here" not in [claim["found"] for claim in panel["claims"]]


@pytest.mark.parametrize(
    ("name", "limit", "panels"), [("apr", 4, 2), ("paths", 4, 1), ("atts", 6, 1)]
)
def test_some_questions_of_each_suite_come_out_as_committed(
    name: str, limit: int, panels: int, tmp_path: Path
) -> None:
    command = ["--suite", name, "--quick", "--limit", str(limit), "-o", str(tmp_path / "s.jsonl")]
    suite = evaluated(*command, "--json")
    assert [panel["evaluation"]["results"][0]["n"] for panel in suite["panels"]] == [limit] * panels
    assert not outside(suite, name)
    if name == "paths":
        sixteen = suite["panels"][0]["claims"][-1]
        assert sixteen["found"] == "not run here"
        assert "eight paths" in sixteen["lacking"]
    for row in suite["panels"][0]["evaluation"]["results"]:
        row["accuracy"] = 1 - row["accuracy"]
    assert outside(suite, name), "another accuracy would be seen"


def test_what_no_shipped_model_can_do_is_not_run_by_name() -> None:
    suite = evaluated("--suite", "backtrack", "--json")
    assert [panel["claims"][0]["found"] for panel in suite["panels"]] == ["not run here"] * 2
    assert suite["panels"][1]["claims"][0]["lacking"] == "no shipped model does Sudoku"
    assert suite["panels"][1]["evaluation"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a file"),
        (["--suite", "nosuch"], "choose apr, sharing, paths, stopping, atts, backtrack"),
        (["countdown", "--suite", "apr"], "leave yours out"),
        (["countdown", "--quick"], "for a --suite"),
    ],
)
def test_a_suite_has_arms_of_its_own(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["eval", *arguments])
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_server_of_ours_is_asked_as_any_other(tmp_path: Path) -> None:
    """It takes its own problems as they stand; what it refuses (log-probabilities) is left out."""
    questions = tmp_path / "q.jsonl"
    rows = [{"question": f"Compute {n} + 1", "answer": n + 1} for n in (1, 2)]
    questions.write_text("\n".join(map(json.dumps, rows)))
    with serving("--model", "reason-1m") as server:
        asked = [
            "--base-url",
            f"{server.url}/v1",
            "--model",
            "reason-1m/single",
            "--answer",
            "text",
        ]
        kept = ["-o", str(tmp_path / "kept.jsonl"), "--samples", "2", "--policy", "sc:n=2"]
        command = ["eval", str(questions), *asked, *kept, "--json"]
        done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.stderr
    (row,) = json.loads(done.stdout)["results"]
    assert (row["accuracy"], row["n"]) == (1.0, 2)
