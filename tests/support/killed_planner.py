"""A planner's run that is killed by SIGKILL again and again, and resumed.

It prints what it saw as JSON, and is a program of its own because it forks.  Each child has a hub,
a worker and a planner, and dies with all of them; the planner's replies follow from what it is
told alone.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from protocol import Hub, Registry
from reasoning.planning import Constellation
from tests.support.protocol_tools import working

REQUEST = "Add up what the numbers are"
FIRST = 6
EXPECTED = sum(range(FIRST)) + 7
LOG = -1
tools = Registry()


def log(*line: object) -> None:
    os.write(LOG, f"{json.dumps(line)}\n".encode())


@tools.tool
async def work(name: str, number: int, why: str = "") -> int:
    """Give a number, after some work."""
    log("ran", name)
    await anyio.sleep(0.08)
    return number


@tools.tool
async def total(name: str, parts: list[int]) -> int:
    """Add up."""
    log("ran", name)
    return sum(parts)


class Planner:
    """Grows, changes and prunes the plan as results come."""

    async def reply(self, prompt: str, schema: str) -> str:
        tasks = dict(re.findall(r"^(\w+): \w+ (\{.* is \w+.*)$", prompt, re.M))
        log("told", prompt)
        await anyio.sleep(0.02)
        edits, answer = plan(tasks)
        return json.dumps({"edits": edits, "answer": answer})


def plan(tasks: dict[str, str]) -> tuple[list[dict[str, Any]], str | None]:
    done = {id: said.rpartition(" with ")[2] for id, said in tasks.items() if "succeeded" in said}
    first = [f"n{index}" for index in range(FIRST)]
    if not tasks:
        after = dict.fromkeys(first, "success")
        late = [
            _work("late", 7) | {"after": after},
            _work("spare", 99) | {"after": {"late": "success"}},
        ]
        return [_work(id, index) for index, id in enumerate(first)] + late, None
    if "half" not in tasks and len(done) >= FIRST // 2:
        edits = [_total("half", sorted(done)[: FIRST // 2])]
        if tasks["late"].endswith("waiting"):
            given = {"name": "late", "number": 7, "why": "changed"}
            edits.append({"op": "change", "id": "late", "arguments": given})
        if tasks["spare"].endswith("waiting"):
            edits.append({"op": "remove", "id": "spare"})
        return edits, None
    if "all" not in tasks and "half" in tasks:
        return [_total("all", [*first, "late"])], None
    return [], done.get("all")


def _work(id: str, number: int) -> dict[str, Any]:
    return {"op": "add", "id": id, "tool": "work", "arguments": {"name": id, "number": number}}


def _total(id: str, parts: list[str]) -> dict[str, Any]:
    arguments = {"name": id, "parts": [{"$task": part} for part in parts]}
    return {"op": "add", "id": id, "tool": "total", "arguments": arguments}


async def child(path: Path) -> None:
    async with Hub() as hub, working(hub, "box", registry=tools, slots=2):
        constellation = Constellation(hub, Planner(), most_turns=1000)
        outcome = await constellation.run(REQUEST, journal=path, resume=True)
        assert outcome.answer == str(EXPECTED), outcome
        assert {task.device for task in outcome.tasks if task.value is not None} == {"box"}


# ---- the parent's own view of a journal ----------------------------------------------------------


def rows(path: Path, query: str) -> list[Any]:
    if not path.exists():
        return []
    with sqlite3.connect(path) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'results'").fetchone():
            return []
        return db.execute(query).fetchall()


def committed(path: Path) -> list[str]:
    return [task for (task,) in rows(path, "SELECT task FROM results WHERE state = 'succeeded'")]


def planned(path: Path) -> dict[str, Any]:
    """The tasks and their arguments, as the patches say."""
    found: dict[str, Any] = {}
    for (patch,) in rows(path, "SELECT patch FROM patches ORDER BY version"):
        for op in json.loads(patch)["ops"]:
            if op["op"] == "remove":
                del found[op["id"]]
            elif op["op"] in ("add", "change"):
                found[op["id"]] = op["kwargs"]
    return found


class Watch:
    """Looks at each child's end, and keeps what was wrong."""

    def __init__(self, path: Path, logged: Path) -> None:
        self.path = path
        self.logged = logged
        self.problems: list[str] = []
        self.ran: dict[str, int] = {}

    def begun(self, read: int) -> None:
        """Wait until the child has asked its planner, or has ended."""
        for _ in range(2000):
            if self.logged.stat().st_size > read:
                return
            time.sleep(0.01)

    def look(self, before: list[str], plan: dict[str, Any], read: int) -> None:
        lines = [json.loads(line) for line in self.logged.read_text()[read:].splitlines()]
        again = {name for kind, name in lines if kind == "ran"} & set(before)
        self.problems += [f"{name} ran again after its commit" for name in sorted(again)]
        told = [text for kind, text in lines if kind == "told"]
        if told and plan:
            self.told(told[0], plan, before)
        after = committed(self.path)
        self.problems += [f"{name} was lost" for name in set(before) - set(after)]
        if len(after) != len(set(after)):
            self.problems.append(f"committed twice: {after}")

    def told(self, prompt: str, plan: dict[str, Any], before: list[str]) -> None:
        """The first prompt after a resume shows the plan as it was, and what had ended."""
        shown = dict(re.findall(r"^(\w+): \w+ (\{.*\}) is ", prompt, re.M))
        if {id: json.loads(text) for id, text in shown.items()} != plan:
            self.problems.append(f"the plan was {plan}, the planner was shown {shown}")
        if REQUEST not in prompt or "the run was interrupted" not in prompt:
            self.problems.append("the planner was not told of the request and the interruption")
        for name in before:
            if not re.search(rf"^{name}: .* is succeeded with ", prompt, re.M):
                self.problems.append(f"the planner was not shown the result of {name}")


def main(folder: Path, wanted: int) -> None:
    global LOG
    rng = random.Random(0)
    kills = runs = halfway = 0
    problems: list[str] = []
    while kills < wanted:
        watch = Watch(folder / f"{runs}.db", folder / f"{runs}.log")
        LOG = os.open(watch.logged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        while True:
            before, plan = committed(watch.path), planned(watch.path)
            read = len(watch.logged.read_text())
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    anyio.run(child, watch.path)
                    code = 0
                finally:
                    os._exit(code)
            if kills % 3:  # else it may still be starting
                watch.begun(read)
            time.sleep(rng.uniform(0, 0.6))
            if kills < wanted:
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            watch.look(before, plan, read)
            if not os.WIFSIGNALED(status):
                if os.WEXITSTATUS(status):
                    watch.problems.append("a child failed; see stderr")
                break
            kills += 1
            halfway += 0 < len(committed(watch.path)) < len(planned(watch.path))
        if not {"half", "all", "late"} <= set(committed(watch.path)):
            watch.problems.append(f"run {runs} ended with {committed(watch.path)}")
        problems += watch.problems
        runs += 1
    found = {"kills": kills, "halfway": halfway, "runs": runs, "problems": problems}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
