"""What a task costs: this graph, a plain asyncio.TaskGroup, and the peers that are installed.

    python benchmarks/graph.py --json benchmarks/results/graph.json

Two shapes of 1,000 tasks that do nothing: ``layered`` is 10 wide and 100 deep, each task with two
predecessors; ``fan`` is 1 to 1,000 to 1.  Engines take turns, and the best of the rounds counts,
as a ratio to the TaskGroup.  Then: cost a task from 1,000 to 100,000 tasks, a patch of one task on
the largest graph, and how late a ready task starts while an editor is at work (10 and 20 unrelated
tasks; the editor thinks for 0.5 s).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import DEPTH, FAN, WIDTH, Run, installed, pairs

from orchestrator import Patch, Task, TaskGraph
from orchestrator.editing.patches import Add, Change


async def nothing(*_: Any) -> None:
    """What every task does."""


PEER_ROUNDS = 2


# ---- this graph --------------------------------------------------------------------------------


def layered(graph: TaskGraph, depth: int = DEPTH) -> TaskGraph:
    row: list[Task[None]] = []
    for _ in range(depth):
        row = [graph.add(nothing, *(row[i] for i in pairs(i) if row)) for i in range(WIDTH)]
    return graph


def fan(graph: TaskGraph) -> TaskGraph:
    first = graph.add(nothing)
    graph.add(nothing, [graph.add(nothing, first) for _ in range(FAN)])
    return graph


def ours(shape: Callable[[TaskGraph], TaskGraph], *, journal: bool = False) -> Run:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            graph = TaskGraph(journal=Path(folder) / "run.db" if journal else None)
            await shape(graph).run()

    return run


# ---- the baseline ------------------------------------------------------------------------------


async def group_layered() -> None:
    async def node(before: list[asyncio.Task[None]]) -> None:
        for task in before:
            await task

    row: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(DEPTH):
            row = [group.create_task(node([row[i] for i in pairs(i) if row])) for i in range(WIDTH)]


async def group_fan() -> None:
    await nothing()
    async with asyncio.TaskGroup() as group:
        for _ in range(FAN):
            group.create_task(nothing())
    await nothing()


# ---- measuring ---------------------------------------------------------------------------------


def timed(run: Run) -> float:
    gc.collect()
    started = time.perf_counter()
    asyncio.run(run())  # type: ignore[arg-type]
    return time.perf_counter() - started


def overhead(rounds: int) -> list[dict[str, Any]]:
    engines: dict[str, dict[str, Run]] = {
        "asyncio.TaskGroup": {"layered": group_layered, "fan": group_fan},
        "orchestrator": {"layered": ours(layered), "fan": ours(fan)},
        "orchestrator, journal": {
            "layered": ours(layered, journal=True),
            "fan": ours(fan, journal=True),
        },
    }
    peers = installed()
    best: dict[tuple[str, str], float] = {}
    for number in range(rounds):
        for name, shapes in (engines | peers).items():
            if number >= PEER_ROUNDS and name in peers:
                continue  # they are slow
            for shape, run in shapes.items():
                try:
                    seconds = timed(run)
                except Exception as error:
                    if name not in peers:
                        raise
                    print(f"{name}, {shape}: {type(error).__name__}: {error}"[:160], flush=True)
                    continue
                best[name, shape] = min(best.get((name, shape), 1e9), seconds)
    return [
        {
            "engine": name,
            "shape": shape,
            "ms": round(seconds * 1e3, 2),
            "us_per_task": round(seconds * 1e6 / 1000, 1),
            "ratio": round(seconds / best["asyncio.TaskGroup", shape], 2),
        }
        for (name, shape), seconds in best.items()
    ]


async def scale(count: int) -> dict[str, Any]:
    gc.collect()
    started = time.perf_counter()
    graph = layered(TaskGraph(functions=[nothing]), count // WIDTH)
    patches = []
    for number in range(20):
        before = time.perf_counter()
        graph.apply(
            Patch(
                ops=(
                    Add(id=f"x{number}", function="nothing", after={str(count // 2): "success"}),
                    Change(id=str(count), priority=number),
                )
            )
        )
        patches.append(time.perf_counter() - before)
    built = time.perf_counter() - started
    await graph.run()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "tasks": count,
        "build_s": round(built, 3),
        "seconds": round(seconds, 3),
        "us_per_task": round(seconds / count * 1e6, 1),
        "patch_ms": round(sorted(patches)[10] * 1e3, 3),
        "peak_mib": peak // 1024,
    }


async def editing(others: int) -> dict[str, Any]:
    """The probe of an editor's pause: when does the successor of the first task start?"""
    ended = started = 0.0

    async def first() -> None:
        nonlocal ended
        await asyncio.sleep(0.05)
        ended = time.perf_counter()

    async def successor() -> None:
        nonlocal started
        started = time.perf_counter()

    graph = TaskGraph(functions=[nothing])
    graph.add(successor, after=graph.add(first))
    for index in range(others):
        graph.add(asyncio.sleep, 0.3 * (index % 5 + 1))

    async def editor() -> None:
        for number in range(3):
            await asyncio.sleep(0.5)
            graph.apply(Patch(ops=(Add(id=f"x{number}", function="nothing"),)))

    graph.add(editor)
    await graph.run()
    return {"others": others, "late_ms": round((started - ended) * 1e3, 2)}


def table(rows: list[dict[str, Any]]) -> str:
    header = list(rows[0])
    lines = [header, *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def scales(rounds: int) -> list[dict[str, Any]]:
    """The best of a few runs each, after one that pays for imports."""
    asyncio.run(scale(1_000))
    counts = [count for count in (1_000, 10_000, 100_000) for _ in range(min(rounds, 3))]
    best: dict[int, dict[str, Any]] = {}
    for row in (asyncio.run(scale(count)) for count in counts):
        kept = best.setdefault(row["tasks"], row)
        if row["seconds"] < kept["seconds"]:
            best[row["tasks"]] = row
    return list(best.values())


PARTS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "scale": scales,  # before the peers, whose memory would count
    "editing": lambda _: [asyncio.run(editing(others)) for others in (10, 20)],
    "overhead": overhead,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="measure these only; the file keeps the others",
    )
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text())
    results |= {"schema": "benchmark.graph/1", "python": platform.python_version()}
    for part, measure in PARTS.items():
        if part in options.parts:
            results[part] = measure(options.rounds)
            print(table(results[part]), end="\n\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
