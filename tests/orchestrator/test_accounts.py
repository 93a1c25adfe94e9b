"""What a run says of its time: the chain, the sum, and how much of it ran side by side."""

from __future__ import annotations

import anyio
import pytest

from orchestrator import TaskGraph, current_task

pytestmark = pytest.mark.anyio


async def work(*_: object) -> None:
    await anyio.sleep(0.1)


async def test_time_is_accounted_along_the_longest_chain_and_in_all() -> None:
    graph = TaskGraph()
    first = graph.add(work)
    graph.add(work, [graph.add(work, first) for _ in range(4)])
    await graph.run()
    run = graph.record()
    assert 0.3 <= run.span_s <= run.wall_s
    assert 0.6 <= run.busy_s <= run.span_s * 6
    assert run.parallelism == pytest.approx(run.busy_s / run.span_s)


async def test_a_task_that_waits_for_its_children_is_not_busy() -> None:
    async def parent() -> None:
        task = current_task()
        assert task is not None
        await task.graph.add(work).result()

    graph = TaskGraph()
    graph.add(parent)
    await graph.run()
    run = graph.record()
    assert 0.1 <= run.busy_s < 0.19
    assert 0.1 <= run.span_s < 0.19


async def test_a_queue_is_not_part_of_the_chain() -> None:
    graph = TaskGraph(limit=1)
    for _ in range(4):
        graph.add(work)
    await graph.run()
    run = graph.record()
    assert run.wall_s >= 0.4
    assert run.span_s < run.wall_s / 2
