"""Slots, budgets and time while a task waits for others in several ways at once."""

from __future__ import annotations

import anyio
import pytest

from orchestrator import Budget, Patch, Task, TaskGraph, Timeout, current_task, join
from orchestrator.editing.patches import Connect
from orchestrator.errors import TimeLimitReached

pytestmark = pytest.mark.anyio


class Meter:
    """Counts how many of its calls compute at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def compute(self, seconds: float = 0.005) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.sleep(seconds)
        self.now -= 1


def here() -> TaskGraph:
    task = current_task()
    assert task is not None
    return task.graph


async def one_slot_left(graph: TaskGraph) -> bool:
    """Run a graph with ``limit=1``; whether what comes after its tasks runs one at a time."""
    meter = Meter()
    with anyio.fail_after(5):
        async with graph:
            for task in graph.tasks:
                await task.wait()
            for _ in range(3):
                graph.add(meter.compute)
    return meter.most == 1


@pytest.mark.parametrize("by_join", [True, False])
async def test_a_wait_that_is_cut_short_takes_its_slot_again(by_join: bool) -> None:
    meter, impatient_computes = Meter(), False

    async def compute() -> None:
        assert not impatient_computes
        await meter.compute()

    async def impatient() -> None:
        nonlocal impatient_computes
        child = here().add(anyio.sleep, 100)
        if by_join:
            await join([child], within=0.01)
        else:
            with anyio.move_on_after(0.01):
                await child.result()
            child.cancel()
            await child.wait()
        impatient_computes = True
        await meter.compute(0.03)
        impatient_computes = False

    graph = TaskGraph(limit=1)
    graph.add(impatient)
    for _ in range(5):
        graph.add(compute)
    assert await one_slot_left(graph)
    assert meter.most <= (1 if by_join else 2)  # its own timeout is not kept waiting for a slot


async def test_a_task_that_waits_in_many_places_gives_its_slot_back_once() -> None:
    async def parent() -> int:
        done = 0

        async def follow(child: Task[None]) -> None:
            nonlocal done
            await child.result()
            await anyio.sleep(0.002)
            await here().add(anyio.sleep, 0).result()
            done += 1

        children = [here().add(anyio.sleep, 0.003 * number) for number in range(5)]
        async with anyio.create_task_group() as group:
            for child in children:
                group.start_soon(follow, child)
        return done

    graph = TaskGraph(limit=1)
    task = graph.add(parent)
    for _ in range(10):
        graph.add(anyio.sleep, 0.002)
    assert await one_slot_left(graph)
    assert task.value == 5


async def test_a_task_cancelled_while_it_waits_leaves_no_slot_behind() -> None:
    async def parent() -> None:
        await here().add(anyio.sleep, 100).result()

    graph = TaskGraph(limit=1)
    tasks = [graph.add(parent) for _ in range(3)]

    async def cancel() -> None:
        await anyio.sleep(0.02)
        for task in tasks:
            task.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel)
        assert await one_slot_left(graph)
    assert {task.state for task in tasks} == {"cancelled"}


async def test_a_queue_timeout_holds_while_a_task_waits_for_its_budget() -> None:
    graph = TaskGraph()
    with Budget(tokens=10):
        graph.add(anyio.sleep, 0.3, reserve={"tokens": 10})
        late = graph.add(anyio.sleep, 0, reserve={"tokens": 10}, timeout=Timeout(queue=0.05))
    with pytest.raises(TimeLimitReached, match="queue timeout"):
        await graph.run()
    assert late.state == "failed"


async def test_an_edge_added_while_a_task_waits_for_its_budget_is_kept() -> None:
    order: list[str] = []

    async def note(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        order.append(name)

    graph = TaskGraph()
    with Budget(tokens=10):
        graph.add(note, "holds the budget", 0.03, reserve={"tokens": 10})
        starved = graph.add(note, "starved", 0, reserve={"tokens": 10})
    other = graph.add(note, "other", 0.08)
    async with graph:
        await anyio.sleep(0.01)
        graph.apply(Patch(ops=(Connect(source=other.id, target=starved.id),)))
    assert order == ["holds the budget", "other", "starved"]
