"""A hub under a long and varied load: does it keep anything, and does it rest afterwards?

    python benchmarks/soak.py --json benchmarks/results/soak.json         # 100,000 tasks

One hub in a process of its own, eight workers in two others, and a client here that keeps some
hundred tasks under way: calls that are answered, names that nobody offers, deadlines that pass,
cancellations soon after submitting, and long arguments, drawn from a seed.  The hub's resident
memory is read every thousand tasks, its processor time for five seconds after the last.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

from protocol import Client, Hub, HubSettings, Registry, TaskRequest, TokenStore, Worker
from protocol import WorkerSettings as Settings
from protocol.errors import ProtocolError

TASKS, WORKERS, PROCESSES, AT_ONCE, EVERY = 100_000, 8, 2, 400, 1_000
FIRST = 10_000
"""Tasks after which memory must stay level."""
REST_S = 5.0
HERE = Path(__file__)

registry = Registry()


@registry.tool
async def echo(text: str) -> str:
    return text


@registry.tool
async def slow(seconds: float) -> float:
    await anyio.sleep(seconds)
    return seconds


def request(number: int, rng: random.Random) -> tuple[str, TaskRequest]:
    """One task and what is to become of it."""
    id, kind = str(number), rng.random()
    if kind < 0.6:
        text = "x" * rng.choice((1, 10, 100, 1000))
        return "answered", call(id, "echo", text=text)
    if kind < 0.65:
        return "answered", call(id, "echo", text="y" * rng.choice((20_000, 200_000)))
    if kind < 0.8:
        name = "".join(rng.choices("abcdefgh", k=12))
        return "no-worker", call(id, name, patience_s=rng.uniform(0, 0.3))
    if kind < 0.9:
        return "deadline", call(id, "slow", deadline_s=rng.uniform(0, 0.05), seconds=30.0)
    return "cancelled", call(id, "slow", seconds=30.0)


def call(id: str, name: str, **given: Any) -> TaskRequest:
    options = {key: given.pop(key) for key in ("deadline_s", "patience_s") if key in given}
    return TaskRequest(id=id, kind="tool", name=name, arguments=json.dumps(given), **options)


async def one(client: Client, number: int, rng: random.Random, ends: Counter[str]) -> None:
    kind, asked = request(number, rng)
    handle = client.submit(asked)
    if kind == "cancelled":
        await anyio.sleep(rng.uniform(0, 0.02))
        handle.cancel()
    try:
        await handle.outcome()
        ends["answered"] += 1
    except ProtocolError as error:
        ends[getattr(error, "reason", error.wire_code)] += 1
    except Exception as error:
        ends[type(error).__name__] += 1


async def load(url: str, token: str, tasks: int, seed: int, hub: int) -> dict[str, Any]:
    ends: Counter[str] = Counter()
    sizes: list[float] = []
    rng = random.Random(seed)
    numbers = iter(range(tasks))
    began = time.monotonic()
    async with Client(url, token) as client, anyio.create_task_group() as group:

        async def work() -> None:
            for number in numbers:
                await one(client, number, rng, ends)
                if number % EVERY == 0:
                    sizes.append(resident(hub))

        for _ in range(AT_ONCE):
            group.start_soon(work)
    seconds = time.monotonic() - began
    busy = processor_s(hub)
    await anyio.sleep(REST_S)
    idle = (processor_s(hub) - busy) / REST_S
    later = sizes[FIRST // EVERY :] or sizes
    return {
        "schema": "benchmark.soak/1",
        "tasks": tasks,
        "workers": WORKERS,
        "seed": seed,
        "seconds": round(seconds, 1),
        "ends": dict(sorted(ends.items())),
        "hub_mib_at_first": round(later[0], 1),
        "hub_mib_most": round(max(later), 1),
        "hub_mib_at_end": round(resident(hub), 1),
        "growth": round(max(later) / later[0] - 1, 3),
        "idle_cpu": round(idle, 4),
        "every_1000_mib": [round(size, 1) for size in sizes],
    }


def resident(pid: int) -> float:
    """MiB of a process."""
    return (
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    )


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- processes -----------------------------------------------------------------------------------


async def serve() -> None:
    """A hub; its URL and tokens go to stdout."""
    tokens = TokenStore()
    async with Hub(HubSettings(), tokens=tokens) as hub:
        worker, client = tokens.create("w"), tokens.create("c", scopes=["submit"])
        print(json.dumps([hub.url, worker, client]), flush=True)
        await anyio.sleep_forever()


async def help_out(url: str, token: str) -> None:
    async with anyio.create_task_group() as group:
        for number in range(WORKERS // PROCESSES):
            settings = Settings(slots=100, instance=f"{os.getpid()}.{number}")
            group.start_soon(Worker(url, token, registry, settings=settings).run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        anyio.run(serve)
        return
    if options.work:
        anyio.run(help_out, options.work, os.environ["REASON_TOKEN"])
        return
    hub = subprocess.Popen([sys.executable, HERE, "--serve"], stdout=subprocess.PIPE, text=True)
    assert hub.stdout is not None
    url, worker, client = json.loads(hub.stdout.readline())
    environment = os.environ | {"REASON_TOKEN": worker}
    command = [sys.executable, str(HERE), "--work", url]
    helpers = [subprocess.Popen(command, env=environment) for _ in range(PROCESSES)]
    try:
        found = anyio.run(load, url, client, options.tasks, options.seed, hub.pid)
    finally:
        for process in (*helpers, hub):
            process.kill()
            process.wait()
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
