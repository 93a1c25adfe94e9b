"""What the protocol costs on loopback, beside Ray actor calls and a2a-sdk, in the same run.

    python benchmarks/wire.py --json benchmarks/results/protocol.json

The hub is in this process and each worker in one of its own.  Arms take turns, and each is
measured in every round: round trips one after the other (p50 and p99 over all rounds), small tasks
a second with many under way (the best round), how much later a token reaches the hub's listener
than it was generated, and what 1,000 idle workers take of a hub's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from wire_peers import (
    CALLS,
    TASKS,
    Measured,
    a2a,
    quantiles,
    ray_actor,
    round_trips,
    throughput,
)

from orchestrator.errors import InvalidValue
from protocol import (
    GeneratedToken,
    Hub,
    HubSettings,
    ModelOffer,
    Registry,
    TaskHandle,
    TaskRequest,
    ThreadStart,
    Worker,
    WorkerSettings,
)
from protocol.hub.events import HubEvent

CHUNKS, IDLE = 400, 1_000
GAP_S = 0.005
HERE = Path(__file__)

registry = Registry()


async def echo(number: int) -> int:
    return number


registry.function(echo, name="echo")


# ---- workers, in processes of their own ----------------------------------------------------------


def microseconds() -> int:
    """Of the machine's monotonic clock, which processes share; small enough for a token's id."""
    return time.monotonic_ns() // 1000 % (1 << 31)


class Metronome:
    """A model whose tokens are the times at which they were generated."""

    offer = ModelOffer(name="metronome", backend="none", context=1 << 20, slots=64)

    def open(self, start: ThreadStart) -> Metronome:
        return self

    async def tokens(self) -> AsyncIterator[GeneratedToken]:
        for number in range(CHUNKS):
            await asyncio.sleep(GAP_S)
            yield GeneratedToken(microseconds(), 0.0, "length" if number == CHUNKS - 1 else None)

    def extend(self, tokens: Sequence[int]) -> None:
        raise InvalidValue("a metronome only stops at its end; it can't be extended")

    def close(self) -> None:
        pass


def work(url: str, count: int) -> None:
    token = os.environ["REASON_TOKEN"]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(count):
                instance = f"{os.getpid()}.{number}"
                settings = WorkerSettings(slots=1024, instance=instance)
                worker = Worker(url, token, registry, hosts=[Metronome()], settings=settings)
                group.start_soon(worker.run)

    anyio.run(main)


def started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment)


@asynccontextmanager
async def hub_with(processes: int, *, each: int = 1) -> AsyncIterator[Hub]:
    async with Hub(HubSettings(lease_s=30)) as hub:
        token = hub.tokens.create("bench")
        joined, everybody = 0, anyio.Event()

        def count(event: HubEvent) -> None:
            nonlocal joined
            joined += type(event).__name__ == "WorkerJoined"
            if joined == processes * each:
                everybody.set()

        hub.observe(count)
        environment = os.environ | {"REASON_TOKEN": token}
        command = [sys.executable, str(HERE), "--work", hub.url, "--count", str(each)]
        running = [started(command, environment) for _ in range(processes)]
        try:
            with anyio.fail_after(60):
                if running:
                    await everybody.wait()
            yield hub
        finally:
            for process in running:
                process.kill()
                process.wait()


def request(number: int, prefix: str) -> TaskRequest:
    arguments = json.dumps({"number": number})
    return TaskRequest(id=f"{prefix}{number}", kind="function", name="echo", arguments=arguments)


async def ours(prefix: str) -> Measured:
    async with hub_with(1) as hub:

        async def call(number: int) -> None:
            await hub.submit(request(number, prefix)).outcome()

        await round_trips(lambda n: call(-1 - n), 100)
        times = await round_trips(call, CALLS)
        return times, await throughput(lambda n: call(1_000_000 + n), TASKS)


async def chunks() -> list[float]:
    """How much later each token of 8 threads arrives."""
    late: list[float] = []
    async with hub_with(1) as hub:

        def hear(said: Any) -> None:
            if said.type == "chunk":
                now = microseconds()
                late.extend((now - token) % (1 << 31) / 1e6 for token in said.tokens)

        handles: list[TaskHandle] = []
        for number in range(8):
            start = ThreadStart(prompt=(number,)).model_dump_json()
            name = Metronome.offer.name
            handle = hub.submit(
                TaskRequest(id=f"t{number}", kind="thread", name=name, arguments=start), hear
            )
            handle.extend(())
            handles.append(handle)
        for handle in handles:
            await handle.outcome()
    assert len(late) == 8 * CHUNKS
    return late


def memory() -> dict[str, Any]:
    """What a hub of its own takes, alone and with idle workers."""
    done = subprocess.run(
        [sys.executable, str(HERE), "--memory"], stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def idle() -> dict[str, Any]:
    async with hub_with(0):
        alone = resident()
    async with hub_with(4, each=IDLE // 4) as hub:
        assert len(hub.workers) == IDLE
        await asyncio.sleep(2)
        return {
            "workers": IDLE,
            "hub_alone_mib": round(alone, 1),
            "hub_mib": round(resident(), 1),
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


ARMS: dict[str, Callable[[str], Awaitable[Measured]]] = {
    "hub and worker": ours,
    "ray actor": ray_actor,
    "a2a-sdk": a2a,
}


def measure(rounds: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    rates: dict[str, float] = dict.fromkeys(ARMS, 0.0)
    late: list[float] = []
    for number in range(rounds):
        for name, arm in ARMS.items():
            found, rate = asyncio.run(arm(f"r{number}-"))  # type: ignore[arg-type]
            times[name] += found
            rates[name] = max(rates[name], rate)
            print(f"{name}: {quantiles(found)}, {rate:,.0f}/s", flush=True)
        late += asyncio.run(chunks())
    base = sorted(times["ray actor"])[len(times["ray actor"]) // 2]
    rows = [
        {
            "arm": name,
            **quantiles(times[name]),
            "calls_per_s": round(rates[name]),
            "p50_to_ray": round(sorted(times[name])[len(times[name]) // 2] / base, 2),
        }
        for name in ARMS
    ]
    return {"calls": rows, "tokens_late": quantiles(late), "idle": memory()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--arm", choices=ARMS, action="append", help="measure these only")
    parser.add_argument("--work", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        with contextlib.suppress(KeyboardInterrupt):
            work(options.work, options.count)
        return
    if options.memory:
        print(json.dumps(asyncio.run(idle())))
        return
    for name in list(ARMS):
        if options.arm and name not in options.arm:
            del ARMS[name]
    results = {
        "schema": "benchmark.protocol/1",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        **measure(options.rounds),
    }
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
