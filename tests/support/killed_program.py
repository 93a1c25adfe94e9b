"""Runs journaled graphs in child processes, kills them at random moments, and checks each step.

    python killed_program.py FOLDER KILLS [SECONDS]

A leaf takes SECONDS on average.  Prints one JSON object: how often a child was killed, how many
runs ended, how often a leaf ran again that had returned but was not committed when the kill came,
and what was wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import anyio

from orchestrator import Task, TaskGraph, current_task

WIDTH, TWIGS, LEAVES = 4, 2, 3
LOG = -1
LEAF_S = 0.002


async def leaf(number: int) -> int:
    task = current_task()
    assert task is not None
    os.write(LOG, f"{task.id}\n".encode())
    await anyio.sleep(random.random() * 2 * LEAF_S)
    os.write(LOG, f"end {task.id}\n".encode())
    return number * number


async def twig(number: int) -> int:
    task = current_task()
    assert task is not None
    os.write(LOG, f"{task.id}\n".encode())
    leaves = [task.graph.add(leaf, number * LEAVES + index) for index in range(LEAVES)]
    return sum([await child.result() for child in leaves])


async def branch(number: int) -> int:
    task = current_task()
    assert task is not None
    os.write(LOG, f"{task.id}\n".encode())
    twigs = [task.graph.add(twig, number * TWIGS + index) for index in range(TWIGS)]
    return sum([await child.result() for child in twigs])


async def total(parts: list[int]) -> int:
    task = current_task()
    assert task is not None
    os.write(LOG, f"{task.id}\n".encode())
    return sum(parts)


def build(path: Path) -> tuple[TaskGraph, Task[int]]:
    graph = TaskGraph(journal=path, resume=True, limit=8)
    return graph, graph.add(total, [graph.add(branch, number) for number in range(WIDTH)])


EXPECTED = sum(number * number for number in range(WIDTH * TWIGS * LEAVES))
TASKS = WIDTH * (1 + TWIGS * (1 + LEAVES)) + 1


def child(path: Path, log: Path) -> None:
    global LOG
    LOG = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    random.seed(os.getpid())
    graph, last = build(path)
    value = graph.run_sync(last)
    assert value == EXPECTED, value
    assert len(graph) == TASKS, graph.states()


def committed(path: Path) -> list[str]:
    if not path.exists():
        return []
    with sqlite3.connect(path) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'results'").fetchone():
            return []
        return [row[0] for row in db.execute("SELECT task FROM results")]


def main(folder: Path, wanted: int) -> None:
    rng = random.Random(0)
    kills = runs = again = 0
    problems: list[str] = []
    while kills < wanted:
        path, log = folder / f"{runs}.db", folder / f"{runs}.log"
        log.touch()
        while True:
            before, read = set(committed(path)), log.stat().st_size
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    child(path, log)
                    code = 0
                finally:
                    os._exit(code)
            time.sleep(rng.uniform(0, 0.05 + LEAF_S * 15))
            if kills < wanted:
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            lines = log.read_text()
            ran = set(lines[read:].splitlines())
            ended = {line[4:] for line in lines[:read].splitlines() if line.startswith("end ")}
            again += len(ran & ended - before)
            problems += [f"{task} ran again after its commit" for task in sorted(ran & before)]
            after = committed(path)
            problems += [f"{task} was lost" for task in sorted(before - set(after))]
            if len(after) != len(set(after)):
                problems.append(f"committed twice: {after}")
            if os.WIFSIGNALED(status):
                kills += 1
            else:
                if os.WEXITSTATUS(status):
                    problems.append("a child failed; see stderr")
                break
        if len(committed(path)) != TASKS:
            problems.append(f"run {runs} ended with {len(committed(path))} of {TASKS} results")
        runs += 1
    found = {"kills": kills, "runs": runs, "returned_uncommitted": again, "problems": problems}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    LEAF_S = float(sys.argv[3]) if len(sys.argv) > 3 else LEAF_S
    main(Path(sys.argv[1]), int(sys.argv[2]))
