"""What a task on Ray costs through this scheduler, beside Ray alone.

    python benchmarks/on_ray.py --json benchmarks/results/on-ray.json

In turns on one local Ray of two processors: 300 tasks that add two numbers, 50 at once, by Ray's
own calls and by a `TaskGraph` with the executor; and a value of 20 MB that one task makes and eight
tasks measure.  Milliseconds of wall time, medians over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
import warnings
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator import TaskGraph
from orchestrator.executors.ray import Ray

TASKS, AT_ONCE, READERS, BYTES = 300, 50, 8, 20_000_000
Arm = Callable[[], Awaitable[None]]


def add(one: int, other: int) -> int:
    return one + other


def make() -> bytes:
    return bytes(BYTES)


def size(value: bytes) -> int:
    return len(value)


def arms() -> dict[str, dict[str, Arm]]:
    import ray

    warnings.simplefilter("ignore")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)
    adding, making, measuring = (
        ray.remote(max_retries=0)(function) for function in (add, make, size)
    )
    executor = Ray()

    async def ray_tasks() -> None:
        for start in range(0, TASKS, AT_ONCE):
            await asyncio.gather(*(adding.remote(start + i, 1) for i in range(AT_ONCE)))

    async def graph_tasks() -> None:
        graph = TaskGraph(limit=AT_ONCE)
        for number in range(TASKS):
            graph.add(add, number, 1, executor=executor)
        await graph.run()

    async def ray_value() -> None:
        value = making.remote()
        await asyncio.gather(*(measuring.remote(value) for _ in range(READERS)))

    async def graph_value() -> None:
        graph = TaskGraph()
        value = graph.add(make, executor=executor)
        for _ in range(READERS):
            graph.add(size, value, executor=executor)
        await graph.run()

    return {
        "a small task": {"ray": ray_tasks, "graph": graph_tasks},
        "20 MB into eight tasks": {"ray": ray_value, "graph": graph_value},
    }


async def measure(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, pair in arms().items():
        times: dict[str, list[float]] = {arm: [] for arm in pair}
        for number in range(rounds + 1):
            for arm, run in pair.items():
                began = time.perf_counter()
                await run()
                if number:  # the first starts workers
                    times[arm].append(1e3 * (time.perf_counter() - began))
        share = TASKS if name == "a small task" else 1
        ratios = [ours / theirs for ours, theirs in zip(times["graph"], times["ray"], strict=True)]
        row = {"what": name, "ratio": round(statistics.median(ratios), 2)}
        row |= {f"{arm}_ms": round(statistics.median(times[arm]) / share, 3) for arm in pair}
        print(row)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    report = {
        "schema": "reason.benchmark.on-ray/1",
        "cpus": os.cpu_count(),
        "load": [round(one, 1) for one in os.getloadavg()],
        "ray": metadata.version("ray"),
        "results": asyncio.run(measure(options.rounds)),
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
