"""Runs graphs over hub and workers while networks fail and processes die; counts what breaks.

    python benchmarks/faults.py --json benchmarks/results/faults.json     # 1,000 schedules
    python benchmarks/faults.py --seed 17 --verbose                       # one of them again

Each schedule follows from its seed: a graph of 50 tasks and two leaves that outlast a lease runs
with a journal in one process, over a hub in another and three workers in others.  Client and
workers are each behind a proxy that cuts, mutes, drops, doubles, swaps and delays frames; meanwhile
workers, the hub and the client are killed (and started again), workers are stopped for a while, and
wall clocks jump.  Then the journal must hold each task's right result, once, the run must have
ended by itself, and no task was begun while an earlier copy of it ran on a living worker.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import websockets.asyncio.client
import websockets.asyncio.server  # noqa: F401 (before processes are forked)
from fault_stage import (
    CLIENT,
    ERRORS,
    LEAVES,
    LIMIT_S,
    TASKS,
    WORKERS,
    Blow,
    Schedule,
    Stage,
    client_process,
    fork,
    free_ports,
    hub_process,
    proxy_process,
    worker_process,
)

import protocol.worker.worker  # noqa: F401
from orchestrator.journal.resume import open_journal  # noqa: F401
from protocol import TokenStore

SLACK_S = 0.1
"""A copy that is told to stop may take so long to do it, on a machine that is busy."""


class Executed(NamedTuple):
    """One execution of a task, from its begin to its end, or to that of its process."""

    number: int
    pid: int
    begun: float
    ended: float


class Play:
    """Plays one schedule with real processes."""

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        names = [f"w{number}" for number in range(WORKERS)]
        hub_port, *ports = free_ports(2 + len(names))
        self.stage = Stage(folder=folder, schedule=schedule, hub_port=hub_port)
        self.stage.ports = dict(zip((*names, CLIENT), ports, strict=True))
        store = TokenStore(folder / "tokens.db")
        self.stage.tokens = {name: store.create(name) for name in names}
        self.stage.tokens[CLIENT] = store.create(CLIENT, scopes=["submit"])
        store.close()
        self.bodies: dict[str, Callable[[], None]] = {
            name: partial(worker_process, self.stage, name) for name in names
        }
        self.bodies["hub"] = partial(hub_process, self.stage)
        self.bodies[CLIENT] = partial(client_process, self.stage)
        self.pids: dict[str, int] = {}
        self.killed: dict[int, float] = {}
        self.stopped: list[tuple[int, float, float]] = []
        self.done: Counter[str] = Counter()
        self.later: list[tuple[float, Callable[[], None]]] = []

    def start(self, name: str) -> None:
        self.pids[name] = fork(self.bodies[name], self.stage.folder / f"{name}.errors")

    def strike(self, blow: Blow, now: float) -> None:
        pid = self.pids.get(blow.target)
        if pid is None:
            return
        who = blow.target if blow.target in ("hub", CLIENT) else "worker"
        self.done[f"{blow.kind} {who}"] += 1
        if blow.kind == "stop":
            os.kill(pid, signal.SIGSTOP)
            self.stopped.append((pid, time.monotonic(), math.inf))
            self.later.append((now + blow.lasts, lambda: self.go_on(blow.target, pid)))
            return
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.killed[pid] = time.monotonic()
        del self.pids[blow.target]
        self.later.append((now + blow.lasts, lambda: self.start(blow.target)))

    def go_on(self, name: str, pid: int) -> None:
        if self.pids.get(name) == pid:
            os.kill(pid, signal.SIGCONT)
            since = self.stopped.pop(next(n for n, one in enumerate(self.stopped) if one[0] == pid))
            self.stopped.append((pid, since[1], time.monotonic()))

    def run(self) -> dict[str, Any]:
        reading, ready = os.pipe()
        proxy = fork(partial(proxy_process, self.stage, ready), self.stage.folder / "proxy.errors")
        os.close(ready)
        os.read(reading, 1)
        os.close(reading)
        for name in self.bodies:
            self.start(name)
        began = time.monotonic()
        self.later += [
            (blow.at, partial(self.strike, blow, blow.at)) for blow in self.stage.schedule.blows
        ]
        status = self._until_the_client_ends(began)
        seconds = time.monotonic() - began
        for pid in self.pids.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.kill(proxy, signal.SIGTERM)
        os.waitpid(proxy, 0)
        return self._report(status, seconds)

    def _until_the_client_ends(self, began: float) -> int | None:
        while (now := time.monotonic() - began) < LIMIT_S:
            due = [call for at, call in self.later if at <= now]
            self.later = [item for item in self.later if item[0] > now]
            for call in due:
                call()
            pid = self.pids.get(CLIENT)
            if pid is not None:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del self.pids[CLIENT]
                    return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def _executed(self) -> list[Executed]:
        """All that was executed."""
        path = self.stage.folder / "executed"
        ends: dict[tuple[str, str, str], float] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            number, pid, begun, end = line.split()
            ends.setdefault((number, pid, begun), self.killed.get(int(pid), math.inf))
            if end != "-":
                ends[number, pid, begun] = float(end)
        return [Executed(int(n), int(pid), float(at), end) for (n, pid, at), end in ends.items()]

    def _overlaps(self, runs: list[Executed]) -> int:
        """How often a task was begun while an earlier copy ran on a living worker."""
        return sum(
            first.ended > second.begun + SLACK_S and not self._stood(first.pid, second.begun)
            for number, second in enumerate(runs)
            for first in runs[:number]
        )

    def _stood(self, pid: int, at: float) -> bool:
        """Whether a process was stopped at a time, or just before."""
        return any(
            pid == one and since <= at <= until + SLACK_S for one, since, until in self.stopped
        )

    def _report(self, status: int | None, seconds: float) -> dict[str, Any]:
        problems = []
        if status is None:
            problems.append(f"the run did not end within {LIMIT_S:g} s")
        elif status:
            problems.append("the run failed: " + _tail(self.stage.folder / "client.errors"))
        problems += [
            f"{name} failed: {_tail(self.stage.folder / f'{name}.errors')}"
            for name in self.bodies
            if name != CLIENT and (self.stage.folder / f"{name}.errors").exists()
        ]
        lost, double = (TASKS + LEAVES, 0) if status else _committed(self.stage)
        executed = self._executed()
        network = json.loads((self.stage.folder / "done.json").read_text())
        return {
            "seed": self.stage.schedule.seed,
            "seconds": round(seconds, 2),
            "lost": lost,
            "double": double,
            "executions": len(executed),
            "overlaps": sum(self._overlaps(runs) for runs in _by_task(executed)),
            "faults": dict(self.done + Counter(network)),
            "problems": problems,
        }


def _by_task(executed: list[Executed]) -> list[list[Executed]]:
    found: dict[int, list[Executed]] = {}
    for one in sorted(executed, key=lambda one: one.begun):
        found.setdefault(one.number, []).append(one)
    return list(found.values())


def _tail(path: Path) -> str:
    """The last line of the innermost error that was written there."""
    lines = path.read_text().splitlines() if path.exists() else []
    told = [line.strip(" |+-") for line in lines if line.strip(" |").startswith(ERRORS)]
    return told[-1] if told else "?"


def _committed(stage: Stage) -> tuple[int, int]:
    """How many tasks have no result in the journal, and how many have more than one."""
    with sqlite3.connect(stage.journal) as db:
        added = [row[0] for row in db.execute("SELECT id FROM tasks")]
        ended = Counter(
            row[0] for row in db.execute("SELECT task FROM results WHERE state = 'succeeded'")
        )
    return sum(ended[id] == 0 for id in added), sum(count > 1 for count in ended.values())


def play(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return Play(Schedule.of(seed), Path(folder)).run()


# ---- many ----------------------------------------------------------------------------------------


def play_many(seeds: list[int], parallel: int, show: Callable[[dict[str, Any]], None]) -> None:
    """Play schedules, several at once, each from a process of its own."""
    waiting = list(reversed(seeds))
    running: dict[int, int] = {}
    while waiting or running:
        while waiting and len(running) < parallel:
            seed = waiting.pop()
            reading, writing = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(reading)
                try:
                    row = play(seed)
                except BaseException as error:
                    row = {"seed": seed, "problems": [f"harness: {error!r}"]}
                with os.fdopen(writing, "w") as file:
                    file.write(json.dumps(row))
                os._exit(0)
            os.close(writing)
            running[pid] = reading
        pid, _ = os.wait()
        with os.fdopen(running.pop(pid)) as file:
            show(json.loads(file.read()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play only this schedule")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="a line for each schedule")
    parser.add_argument("--rows", type=Path, help="also add a line for each schedule here")
    parser.add_argument("--json", type=Path, help="also write the totals here")
    parser.add_argument("--merge", type=Path, help="play nothing: total the lines of --rows")
    options = parser.parse_args()
    seeds = list(range(options.first, options.first + options.schedules))
    if options.seed is not None:
        seeds = [options.seed]
        print(Schedule.of(options.seed))
    rows: list[dict[str, Any]] = []
    if options.merge:
        seeds, rows = [], [json.loads(line) for line in options.merge.read_text().splitlines()]

    def show(row: dict[str, Any]) -> None:
        rows.append(row)
        if options.rows:
            with options.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if options.verbose or row["problems"] or row["overlaps"]:
            print(json.dumps(row), flush=True)

    play_many(seeds, options.parallel, show)
    results = totals(rows)
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(1 if results["failed_seeds"] else 0)


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    good = [row for row in rows if "seconds" in row]
    seconds = sorted(row["seconds"] for row in good)
    bad = [row["seed"] for row in rows if row["problems"] or row["lost"] or row["double"]]
    twice = [row["seed"] for row in rows if row.get("overlaps")]
    return {
        "schema": "benchmark.faults/1",
        "schedules": len(rows),
        "tasks": (TASKS + LEAVES) * len(rows),
        "lost": sum(row["lost"] for row in good),
        "double_committed": sum(row["double"] for row in good),
        "not_ended": sum(any("did not end" in text for text in row["problems"]) for row in rows),
        "failed_seeds": sorted(bad),
        "overlapping_seeds": sorted(twice),
        "executions": sum(row["executions"] for row in good),
        "overlaps": sum(row["overlaps"] for row in good),
        "faults": dict(sorted(sum((Counter(row["faults"]) for row in good), Counter()).items())),
        "seconds_p50": seconds[len(seconds) // 2] if seconds else None,
        "seconds_max": seconds[-1] if seconds else None,
    }


if __name__ == "__main__":
    main()
