"""``reason eval`` killed twice in the middle, and twenty policies replayed over what it kept.

    python benchmarks/evaluation.py [--questions 500] [--samples 16]

A scripted chat server on loopback answers every question, some wrongly, by the seed of the request.
The command is killed after a third and after two thirds of the samples (SIGKILL, then SIGTERM) and
given again.  Writes ``results/evaluation.json``: how many samples were lost, how many were paid for
though they were kept, and how long all of it took.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import anyio

from tests.support.scripted_chat import Refusal, Script, ScriptedChat

RESULTS = Path(__file__).parent / "results" / "evaluation.json"
POLICIES = (
    *(f"sc:n={n}" for n in (1, 2, 4, 8, 16)),
    *("default", "async", "adaptive", "esc:w=4", "saturation", "rounds", "allocation:mean=8"),
    *(f"async:k={k},threshold={t}" for k in (4, 8, 16) for t in (0.9, 0.95)),
    *("async:k=8,cap=60", "cap:n=16,tokens=60"),
)
"""Twenty arms."""


class Answering(ScriptedChat):
    """Answers with a number that is right as often as its question is easy."""

    def __init__(self) -> None:
        super().__init__()
        self.enough, self.reached = sys.maxsize, anyio.Event()

    def next_answer(self, body: dict[str, Any]) -> Script | Refusal:
        self.streamed.append({"seed": body["seed"]})
        if len(self.streamed) == self.enough:
            self.reached.set()
        number = int(body["messages"][-1]["content"].split("number ")[1].split("?")[0])
        rng = Random(body["seed"])
        right = rng.random() < Random(number).betavariate(1.2, 0.8)
        tokens = rng.randint(20, 100)
        said = f"It is \\boxed{{{number if right else number + rng.choice((1, 1, 2, 3))}}}"
        return Script(chunks=[said], usage={"completion_tokens": tokens})


def kept(path: Path) -> list[int]:
    """The seeds of all samples that are in a file."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[1:-1]
    return [one["seed"] for one in map(json.loads, lines) if one["kind"] == "sample"]


def command(folder: Path, url: str, samples: int) -> list[str]:
    """The command whose death is tried."""
    asked = [sys.executable, "-m", "reasoning", "eval", str(folder / "questions.jsonl")]
    asked += ["-o", str(folder / "kept.jsonl"), "--base-url", url, "--samples", str(samples)]
    return [*asked, "--policy", "sc:n=1", "--json", "--parallel", "32"]


def begun(arguments: list[str]) -> subprocess.Popen[bytes]:
    """A process whose output is read later."""
    return subprocess.Popen(arguments, stdout=subprocess.PIPE)


async def killed_twice(folder: Path, questions: int, samples: int) -> dict[str, Any]:
    """Ask all, with two deaths."""
    server, total, path = Answering(), questions * samples, folder / "kept.jsonl"
    twice, asked, started = 0, 0, time.monotonic()
    async with server.running() as url:
        for number in (signal.SIGKILL, signal.SIGTERM, None):
            paid = set(kept(path))
            server.streamed.clear()
            server.enough, server.reached = total // 3, anyio.Event()
            process = begun(command(folder, url, samples))
            if number is not None:
                await server.reached.wait()
                process.send_signal(number)
            out, _ = await anyio.to_thread.run_sync(process.communicate)
            twice += sum(one["seed"] in paid for one in server.streamed)
            asked += len(server.streamed)
    seeds = kept(path)
    return {
        "lost": total - len(set(seeds)),
        "kept_twice": len(seeds) - len(set(seeds)),
        "paid_though_kept": twice,
        "asked_again_in_flight": asked - total,
        "accuracy_of_one": json.loads(out)["results"][0]["accuracy"],
        "wall_s": round(time.monotonic() - started, 1),
    }


def replayed(folder: Path) -> dict[str, Any]:
    """Replay all policies over what was kept, by the command."""
    arms = [part for one in POLICIES for part in ("--policy", one)]
    asked = [sys.executable, "-m", "reasoning", "replay", str(folder / "kept.jsonl"), *arms]
    started, before = time.monotonic(), os.times()
    subprocess.run([*asked, "--json"], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    wall = round(time.monotonic() - started, 1)
    return {"policies": len(POLICIES), "wall_s": wall, "cpu_s": round(spent, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--samples", type=int, default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {"question": f"Which is number {n}?", "answer": n}
            for n in range(1, given.questions + 1)
        ]
        (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
        found = anyio.run(killed_twice, folder, given.questions, given.samples)
        results = {**vars(given), "killed_twice": found, "replay": replayed(folder)}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
