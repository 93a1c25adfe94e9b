"""The schedules of `faults.py`: what each seed draws, the graph, and the processes of one run."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import websockets.asyncio.client
import websockets.asyncio.server  # noqa: F401 (before processes are forked)
from fault_proxy import Faults, Proxy

import protocol.worker.worker  # noqa: F401
from orchestrator import Task, TaskGraph
from orchestrator.journal.resume import open_journal  # noqa: F401
from protocol import (
    Client,
    ClientSettings,
    Devices,
    DeviceSettings,
    Hub,
    HubSettings,
    Registry,
    TokenStore,
    Worker,
    WorkerSettings,
)

TASKS, WIDTH, WORKERS, LEAVES = 50, 10, 3, 2
LONG_S = 2.5, 4.0
"""Of the leaves, which outlast a lease."""
LEASE_S = 2.0
CLIENT = "client"
LIMIT_S = 120.0
LOG = -1
ERRORS = ("protocol.", "orchestrator.", "AssertionError", "OSError", "RuntimeError", "KeyError")

registry = Registry()


@contextmanager
def noted(number: int) -> Iterator[None]:
    """Write when an execution begins, and when it ends, on the machine's clock."""
    begun = f"{number} {os.getpid()} {time.monotonic()}"
    os.write(LOG, f"{begun} -\n".encode())
    try:
        yield
    finally:
        os.write(LOG, f"{begun} {time.monotonic()}\n".encode())


@registry.function
async def step(number: int, below: list[int], seconds: float) -> int:
    with noted(number):
        await anyio.sleep(seconds)
    return number + sum(below)


@registry.function
def heavy(number: int, below: list[int], seconds: float) -> int:
    with noted(number):
        time.sleep(seconds)
    return number + sum(below)


@registry.function
def wide(number: int, below: list[int], text: str) -> str:
    with noted(number):
        return text + str(number + sum(below))


async def last(text: str) -> int:
    return int(text[-12:].lstrip("x"))


# ---- one schedule --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Blow:
    """What happens to one process, some time after the start."""

    at: float
    kind: str
    target: str
    lasts: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All that follows from a seed, but for the time that things take."""

    seed: int
    networks: tuple[Faults, ...]
    blows: tuple[Blow, ...]
    jump_s: float

    @classmethod
    def of(cls, seed: int) -> Schedule:
        rng = random.Random(seed)
        names = [f"w{number}" for number in range(WORKERS)]
        counts = (
            ("kill", names, 3),
            ("kill", ["hub"], 2),
            ("kill", [CLIENT], 2),
            ("stop", names, 2),
        )
        blows = [
            Blow(
                at=rng.uniform(0.05, 1.2),
                kind=kind,
                target=rng.choice(targets),
                lasts=rng.uniform(0, 2.0 if kind == "stop" else 0.5),
            )
            for kind, targets, most in counts
            for _ in range(rng.randint(0, most))
        ]
        return cls(
            seed=seed,
            networks=tuple(Faults.drawn(rng) for _ in (*names, CLIENT)),
            blows=tuple(sorted(blows, key=lambda blow: blow.at)),
            jump_s=rng.choice((0.0, -86_400.0, 3_600.0, 86_400.0)),
        )


def build(
    seed: int, journal: Path, devices: Devices
) -> tuple[TaskGraph, list[Task[Any]], list[list[int]]]:
    """The graph, its tasks, and what they must come to, row by row."""
    rng = random.Random(f"graph {seed}")
    graph = TaskGraph(journal=journal, resume=True, name="faults")
    rows: list[list[Task[Any]]] = []
    values: list[list[int]] = []
    for number in range(TASKS):
        index = number % WIDTH
        if index == 0:
            rows.append([])
            values.append([])
        picked = rng.sample(range(len(rows[-2])), 2) if len(rows) > 1 else []
        below = [rows[-2][i] for i in picked]
        value = number + sum(values[-2][i] for i in picked)
        kind, seconds = rng.random(), rng.uniform(0, 0.08)
        if kind < 0.1:
            text = "x" * rng.choice((100, 100_000, 700_000))
            long = graph.add(wide, number, below, text, executor=devices)
            task = graph.add(last, long)
        else:
            task = graph.add(
                step if kind < 0.7 else heavy, number, below, seconds, executor=devices
            )
        rows[-1].append(task)
        values[-1].append(value)
    for number in range(TASKS, TASKS + LEAVES):
        below = rng.sample(range(WIDTH), 2)
        waited = [rows[TASKS // WIDTH - 1][i] for i in below]
        rows.append([graph.add(step, number, waited, rng.uniform(*LONG_S), executor=devices)])
        values.append([number + sum(values[TASKS // WIDTH - 1][i] for i in below)])
    return graph, [task for row in rows for task in row], values


@dataclass(kw_only=True)
class Stage:
    """The files and ports of one schedule."""

    folder: Path
    schedule: Schedule
    tokens: dict[str, str] = field(default_factory=dict)
    hub_port: int = 0
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def journal(self) -> Path:
        return self.folder / "run.db"


def jump(seconds: float, after: float) -> None:
    """Let this process's wall clock jump, some time from now."""
    real, began = time.time, time.monotonic()
    time.time = lambda: real() + (seconds if time.monotonic() - began > after else 0.0)


def hub_process(stage: Stage) -> None:
    jump(stage.schedule.jump_s, 0.3)

    async def main() -> None:
        store = TokenStore(stage.folder / "tokens.db")
        settings = HubSettings(port=stage.hub_port, lease_s=LEASE_S)
        async with Hub(settings, tokens=store):
            await anyio.sleep_forever()

    anyio.run(main)


def client_process(stage: Stage) -> None:
    jump(stage.schedule.jump_s, 0.5)

    async def main() -> None:
        url = f"ws://127.0.0.1:{stage.ports[CLIENT]}"
        settings = ClientSettings(patience_s=LIMIT_S, slowest_s=0.3)
        async with Client(url, stage.tokens[CLIENT], settings) as client:
            devices = Devices(client, DeviceSettings(patience_s=30, attempts=1000, kills=1000))
            graph, tasks, values = build(stage.schedule.seed, stage.journal, devices)
            await graph.run()
            assert [task.value for task in tasks] == [v for row in values for v in row]

    anyio.run(main)


def worker_process(stage: Stage, name: str) -> None:
    global LOG
    LOG = os.open(stage.folder / "executed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    jump(-stage.schedule.jump_s, 0.2)
    url = f"ws://127.0.0.1:{stage.ports[name]}"
    settings = WorkerSettings(slots=4, slowest_s=0.3)
    worker = Worker(url, stage.tokens[name], registry, settings=settings)
    anyio.run(worker.run)


def proxy_process(stage: Stage, ready: int) -> None:
    schedule = stage.schedule
    target = f"ws://127.0.0.1:{stage.hub_port}"
    proxies = [
        Proxy(target, faults, f"{schedule.seed}/{name}", port=stage.ports[name])
        for name, faults in zip(stage.ports, schedule.networks, strict=True)
    ]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, done.set_result, None)
        started = 0

        def one() -> None:
            nonlocal started
            started += 1
            if started == len(proxies):
                os.write(ready, b"x")

        running = [asyncio.ensure_future(proxy.run(one)) for proxy in proxies]
        await done
        total = sum((proxy.done for proxy in proxies), Counter())
        (stage.folder / "done.json").write_text(json.dumps(total))
        for task in running:
            task.cancel()
        os._exit(0)

    asyncio.run(main())


def fork(body: Callable[[], None], errors: Path) -> int:
    """Run something in a process of its own; its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        body()
        code = 0
    except BaseException:
        with errors.open("a") as file:
            traceback.print_exc(file=file)
    finally:
        os._exit(code)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
