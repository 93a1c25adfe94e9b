"""What tasks share: caches, rates, breakers; and what they stream, hedge and let go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestrator import (
    Breaker,
    Event,
    Hedge,
    Rate,
    ResultCache,
    Retry,
    Task,
    TaskGraph,
    TaskProgressed,
    as_completed,
    current_task,
    executed,
    fork,
    gather,
    transient,
)
from orchestrator.errors import InvalidValue, UnknownName
from orchestrator.scheduler.retries import retry_after, status_of

pytestmark = pytest.mark.anyio

CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


async def double(number: int) -> int:
    CALLS.append(number)
    await asyncio.sleep(0)
    return number * 2


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        await asyncio.sleep(0)
        yield number


# ---- streams -------------------------------------------------------------------------------------


async def test_items_of_a_generator_are_partial_results_and_its_value() -> None:
    graph = TaskGraph(name="counting")
    events: list[Event] = []
    graph.events.subscribe(events.append)
    counted = graph.add(count, 3)
    doubled = graph.map(double, counted)
    stream = counted.stream()
    streamed: list[int] = []

    async def read() -> None:
        streamed.extend([partial async for partial in stream])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.lowlevel.checkpoint()
        assert await graph.run(doubled) == [0, 2, 4]
    assert streamed == counted.value == [0, 1, 2]
    partials = [event for event in events if isinstance(event, TaskProgressed)]
    assert [(event.task, event.partial) for event in partials] == [("1", 0), ("1", 1), ("1", 2)]
    assert {(event.run, event.graph) for event in events} == {(graph.run_id, "counting")}
    assert events == sorted(events, key=lambda event: event.time)


async def test_results_of_a_map_come_one_by_one_as_they_end_or_in_order() -> None:
    gates = [anyio.Event() for _ in range(3)]

    async def wait(number: int) -> int:
        await gates[number].wait()
        if number:
            gates[number - 1].set()
        return number

    graph = TaskGraph()
    mapped = graph.map(wait, range(3))
    async with graph:
        gates[2].set()
        assert [task.value async for task in as_completed(mapped)] == [2, 1, 0]
        assert [task.value async for task in as_completed(mapped, ordered=True)] == [0, 1, 2]


async def rest(graph: TaskGraph, tasks: Any, **options: bool) -> list[str]:
    """The states of tasks after somebody has looked at the first that ended."""
    async with graph:
        async for _ in as_completed(tasks, **options):
            break
    return [task.state for task in graph.tasks]


async def test_who_leaves_results_early_cancels_those_that_are_left() -> None:
    async def last(number: int) -> int:
        await anyio.sleep(60 if number else 0)
        return number

    async def ever() -> AsyncIterator[int]:
        while True:
            yield 0
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(30):
        graph = TaskGraph()
        states = await rest(graph, [graph.add(last, number) for number in range(3)])
        assert states == ["succeeded", "cancelled", "cancelled"]
        graph = TaskGraph()
        states = await rest(graph, graph.map(last, range(3)))
        assert states == ["cancelled", "succeeded", "cancelled", "cancelled"]
        graph = TaskGraph()
        assert (await rest(graph, graph.map(last, ever())))[0] == "cancelled"


async def test_who_wants_it_leaves_results_early_and_lets_the_others_run() -> None:
    graph = TaskGraph()
    tasks = [graph.add(anyio.sleep, number / 100) for number in range(3)]
    assert set(await rest(graph, tasks, cancel=False)) == {"succeeded"}


async def test_a_map_whose_last_result_was_seen_ends_as_it_would() -> None:
    for _ in range(20):
        graph, left = TaskGraph(), 3
        mapped = graph.map(abs, [1, 2, 3])
        total = graph.add(sum, mapped)
        async with graph:
            async for _ in as_completed(mapped):
                left -= 1
                if not left:
                    break
        assert (mapped.state, total.value) == ("succeeded", 6)


async def test_a_map_takes_several_iterables_and_asynchronous_ones() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    graph = TaskGraph(limit=1)
    both = graph.map(add, [1, 2], graph.add(count, 2))
    coming = graph.map(double, count(3))
    await graph.run()
    assert (both.value, coming.value) == ([1, 3], [0, 2, 4])
    graph = TaskGraph()
    uneven = graph.map(add, [1, 2], [1])
    with pytest.raises(InvalidValue, match="map got 2, 1 items side by side"):
        await graph.run(uneven)


async def test_a_failure_ends_a_map_over_what_is_still_to_come() -> None:
    async def endless() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def fail(_: int) -> None:
        raise ValueError("no")

    graph = TaskGraph()
    mapped = graph.map(fail, endless())
    with anyio.fail_after(30), pytest.raises(ValueError, match="no"):
        await graph.run(mapped)


async def test_gather_may_return_errors_in_their_places() -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def both() -> list[str]:
        task = current_task()
        assert task is not None
        found = await gather(
            [task.graph.add(double, 1), task.graph.add(fail)], return_exceptions=True
        )
        return [repr(one) for one in found]

    graph = TaskGraph()
    assert await graph.run(graph.add(both)) == ["2", "ValueError('no')"]


async def test_values_that_nobody_needs_are_let_go_if_asked() -> None:
    graph = TaskGraph(keep="needed")
    first = graph.add(double, 1)
    second = graph.add(double, first)
    mapped = graph.map(double, [second, first])
    last = graph.add(double, second)
    await graph.run(second)
    assert (second.value, mapped.value, last.value) == (4, [8, 4], 8)
    with pytest.raises(InvalidValue, match="was let go"):
        _ = first.value


# ---- attempts ------------------------------------------------------------------------------------


class Status(Exception):
    def __init__(self, status: int, after: Any = None) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.headers = {} if after is None else {"Retry-After": after}


@pytest.mark.parametrize(
    ("on", "tries"),
    [
        ((ValueError, ConnectionError), 1),
        (Status, 3),
        (("Status",), 3),
        (transient, 3),
        (lambda error: status_of(error) == 404, 1),
    ],
)
async def test_errors_are_retried_by_class_name_or_predicate(on: Any, tries: int) -> None:
    calls = 0

    async def fail() -> None:
        nonlocal calls
        calls += 1
        raise Status(503)

    graph = TaskGraph()
    graph.add(fail, retry=Retry(times=2, delay=0, on=on)).acknowledge()
    await graph.run()
    assert calls == tries


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Status(429, "7"), 7.0),
        (Status(429, "Wed, 21 Oct 2015 07:28:00 GMT"), 0.0),
        (Status(429, "soon"), None),
        (ValueError(), None),
    ],
)
def test_a_server_says_when_to_come_again(error: Exception, seconds: float | None) -> None:
    assert retry_after(error) == seconds
    wait = Retry(delay=1, jitter=0).wait(1, __import__("random").Random(0), error)
    assert wait == max(1.0, seconds or 0.0)


async def test_a_hedge_takes_what_succeeds_first() -> None:
    calls: list[int] = []

    async def slow_at_first() -> int:
        calls.append(len(calls))
        await (asyncio.Event().wait() if len(calls) == 1 else asyncio.sleep(0))
        return len(calls)

    graph = TaskGraph()
    with anyio.fail_after(30):
        assert await graph.run(graph.add(slow_at_first, hedge=Hedge(after=0.01))) == 2


async def test_a_hedge_of_failures_raises_the_first() -> None:
    calls: list[int] = []

    async def fail() -> None:
        calls.append(1)
        raise ValueError(len(calls))

    graph = TaskGraph()
    task = graph.add(fail, hedge=Hedge(after=100, most=3))
    with anyio.fail_after(30), pytest.raises(ValueError, match="1"):
        await graph.run(task)
    assert len(calls) == 1  # a hedge is against slowness, a retry against failure


# ---- shared resources ----------------------------------------------------------------------------


def test_a_rate_gives_so_much_in_any_window() -> None:
    now = [0.0]
    rate = Rate(10, per=60, clock=lambda: now[0])
    rate.take(6, fresh=True)
    now[0] = 30.0
    rate.take(4, fresh=True)
    assert (rate.free, rate.free_in(1), rate.free_in(7)) == (0, 30.0, 60.0)
    now[0] = 60.0
    assert (rate.free, rate.free_in(6), rate.free_in(7)) == (6, 0.0, 30.0)
    rate.take(6, fresh=False)  # a task that goes on has paid before
    assert rate.free == 6


async def test_graphs_share_a_rate() -> None:
    rate = Rate(2, per=0.05)
    graphs = [TaskGraph(resources={"api": rate}) for _ in range(2)]
    for graph in graphs:
        for number in range(3):
            graph.add(double, number, resources={"api": 1})
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with anyio.create_task_group() as group:
        for graph in graphs:
            group.start_soon(graph.run)
    assert loop.time() - started >= 0.1  # six calls, two in any window
    assert len(CALLS) == 6
    with pytest.raises(InvalidValue, match="give 1 to 2"):
        TaskGraph(resources={"api": rate}).add(double, 1, resources={"api": 3})


def test_a_breaker_lets_one_try_after_its_rest() -> None:
    now = [0.0]
    breaker = Breaker(failures=2, rest=30, clock=lambda: now[0])
    for _ in range(2):
        assert breaker.free > 0
        breaker.heard(failed=True)
    assert (breaker.free, breaker.free_in(1)) == (0.0, 30.0)
    now[0] = 30.0
    assert breaker.free > 0
    breaker.take(1, fresh=True)
    assert breaker.free == 0.0  # one tries, others wait for how it goes
    breaker.give_back(1)
    breaker.heard(failed=False)
    assert not breaker.is_open
    assert breaker.free > 0


async def test_a_breaker_holds_tasks_back_and_then_lets_them_through() -> None:
    failing = [True]

    async def ask(number: int) -> int:
        CALLS.append(number)
        if failing[0] and len(CALLS) <= 2:
            raise ConnectionError("down")
        return number

    graph = TaskGraph(limit=1, resources={"server": Breaker(failures=2, rest=0.02)})
    retry = Retry(times=1, delay=0)
    asked = graph.map(ask, range(4), resources={"server": 1}, retry=retry)
    with anyio.fail_after(30):
        assert await graph.run(asked) == [0, 1, 2, 3]
    assert len(CALLS) == 6


# ---- caches and forks ----------------------------------------------------------------------------


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_cache_knows_results_by_function_and_arguments(
    tmp_path: Path, in_file: bool
) -> None:
    cache: Any = tmp_path / "cache.db" if in_file else ResultCache()

    async def run(*numbers: int) -> list[Task[Any]]:
        graph = TaskGraph()
        source = graph.add(double, numbers[0])
        tasks = [graph.add(double, number, cache=cache) for number in (*numbers, source)]
        await graph.run()
        return tasks

    first = await run(1, 1, 2)
    assert [task.value for task in first] == [2, 2, 4, 4]
    assert sorted(CALLS) == [1, 1, 2]  # the source, and each argument once
    again = await run(3, 2)
    assert [(task.value, task.cached) for task in again] == [(6, False), (4, True), (12, False)]


async def test_what_a_cache_gives_is_nobody_elses(tmp_path: Path) -> None:
    async def listed() -> list[int]:
        return [1]

    cache = ResultCache()
    for _ in range(2):
        graph = TaskGraph()
        found = await graph.run(graph.add(listed, cache=cache))
        assert found == [1]
        found.append(2)
    assert (cache.hits, cache.misses) == (1, 1)


async def test_a_result_that_a_cache_file_can_not_keep_is_refused(tmp_path: Path) -> None:
    async def thing() -> object:
        return object()

    graph = TaskGraph()
    with pytest.raises(InvalidValue, match="the result of task 1 can't be cached"):
        await graph.run(graph.add(thing, cache=tmp_path / "cache.db"))


def tree(path: Path, *leaves: int) -> tuple[TaskGraph, Task[int]]:
    async def parent(numbers: tuple[int, ...]) -> int:
        task = current_task()
        assert task is not None
        return sum(await gather([task.graph.add(double, number) for number in numbers]))

    graph = TaskGraph(journal=path, resume=True)
    return graph, graph.add(double, graph.add(parent, leaves))


async def test_a_fork_runs_again_from_a_task_and_keeps_the_rest(tmp_path: Path) -> None:
    graph, last = tree(tmp_path / "a", 1, 2)
    assert await graph.run(last) == 12
    CALLS.clear()
    for at, ran in ((None, []), ("1.1", [1, 6]), ("2", [6])):
        fork(tmp_path / "a", tmp_path / f"at {at}", at=at)
        forked, last = tree(tmp_path / f"at {at}", 1, 2)
        assert (await forked.run(last), CALLS) == (12, ran)
        assert forked.run_id != graph.run_id
        CALLS.clear()
    fork(tmp_path / "a", tmp_path / "changed")
    forked, last = tree(tmp_path / "changed", 1, 3)
    assert (await forked.run(last), CALLS) == (16, [3, 8])
    with pytest.raises(UnknownName, match="no such task"):
        fork(tmp_path / "a", tmp_path / "b", at="9")


# ---- the executed graph --------------------------------------------------------------------------


SEED = [1]


async def grow(path: Path, seed: int, leaves: int) -> TaskGraph:
    """Children are added in the order in which others happen to end."""
    SEED[0] = seed

    async def leaf(number: int) -> int:
        await asyncio.sleep(number * SEED[0] % 5 / 500)
        return number

    async def parent() -> int:
        task = current_task()
        assert task is not None
        first = [task.graph.add(leaf, number) for number in range(leaves)]
        return sum(
            [await task.graph.add(leaf, t.value + 9).result() async for t in as_completed(first)]
        )

    graph = TaskGraph(journal=path, name="grown")
    graph.add(double, graph.add(parent), retry=Retry(times=1))
    await graph.run()
    return graph


async def test_equal_runs_have_no_difference_whatever_their_timing(tmp_path: Path) -> None:
    graphs = [await grow(tmp_path / str(seed), seed, 4) for seed in (1, 3)]
    first, second = (executed(tmp_path / str(seed)) for seed in (1, 3))
    assert first.diff(second) == []
    assert graphs[0].executed().tasks == first.tasks
    assert graphs[0].executed().diff(graphs[1].executed()) == []
    assert type(first).from_json(first.to_json()) == first
    assert set(first.times) == {task.id for task in first.tasks}
    await grow(tmp_path / "more", 1, 5)
    lines = first.diff(executed(tmp_path / "more"))
    assert any(line.startswith("~ 1 (parent): value was") for line in lines)
    assert [line[:2] for line in lines].count("+ ") == 2


async def test_a_graph_whose_tasks_wait_for_each_other_is_refused(tmp_path: Path) -> None:
    graph = (await grow(tmp_path / "one", 1, 2)).executed()
    one, other, *rest = graph.tasks
    edges = [replace(one, edges=((other.id, "data", "success"),))]
    edges.append(replace(other, edges=((one.id, "data", "success"),)))
    with pytest.raises(InvalidValue, match="wait for each other"):
        graph.diff(replace(graph, tasks=(*edges, *rest)))
