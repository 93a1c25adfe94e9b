"""The task graph by itself: tasks that spawn tasks, joined and accounted for."""

import random

import anyio

from orchestrator import TaskGraph, current_task


async def sample(seed: int) -> float:
    """One cheap estimate of pi, at a cost of 1,000 points."""
    rng = random.Random(seed)
    inside = sum(rng.random() ** 2 + rng.random() ** 2 < 1 for _ in range(1000))
    task = current_task()
    assert task is not None
    task.charge(1000)
    return 4 * inside / 1000


async def mean(*values: float) -> float:
    return sum(values) / len(values)


async def main() -> None:
    async with TaskGraph() as graph:
        samples = [graph.add(sample, seed) for seed in range(16)]
        # Tasks among the arguments are edges: this one runs when all sixteen have ended.
        estimate = graph.add(mean, *samples)
        print(f"pi is about {await estimate.result():.2f}")
    print(f"work {graph.work}, span {graph.span}: {graph.work / graph.span:.0f} times parallel")


anyio.run(main)
