"""Building graphs: typed edges, dynamic fan-out, conditions, limits, attempts, joins."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel

from orchestrator import (
    AttemptFailed,
    Event,
    Processes,
    Retry,
    RunEnded,
    Task,
    TaskCancelled,
    TaskGraph,
    TaskStarted,
    Timeout,
    current_task,
    join,
)
from orchestrator.errors import InvalidValue, QuorumMissed, TaskStalled, TimeLimitReached

pytestmark = pytest.mark.anyio


async def one() -> int:
    return 1


async def add_up(values: list[int]) -> int:
    return sum(values)


async def fail() -> int:
    raise ConnectionError("on purpose")


async def sleep(seconds: float, value: int = 0) -> int:
    await anyio.sleep(seconds)
    return value


def here() -> TaskGraph:
    task = current_task()
    assert task is not None
    return task.graph


# ---- edges and values --------------------------------------------------------------------------


async def test_tasks_in_a_list_and_among_keyword_arguments_are_edges() -> None:
    async def scale(values: list[int], *, factor: int) -> int:
        return sum(values) * factor

    graph = TaskGraph()
    total = graph.add(scale, [graph.add(one), 5], kwargs={"factor": graph.add(sleep, 0, 3)})
    assert await graph.run(total) == 18


async def test_a_value_that_does_not_fit_its_parameter_fails_the_task_by_name() -> None:
    async def text() -> str:
        return "seven"

    async def halve(number: int) -> float:
        return number / 2

    graph = TaskGraph()
    task = graph.add(halve, graph.add(text))
    with pytest.raises(InvalidValue, match=r"task 2 \(halve\).* argument 1 .*valid integer"):
        await graph.run()
    assert task.state == "failed"


class Point(BaseModel):
    x: int


@dataclass
class Plain:
    x: int


@pytest.mark.parametrize("value", [Point(x=1), Plain(x=1), [1, 2], {"a": 1}, None, 2.5])
async def test_a_value_that_fits_arrives_unchanged(value: Any) -> None:
    async def give() -> Any:
        return value

    async def take(given: Point | Plain | list[int] | dict[str, int] | float | None) -> Any:
        return given

    graph = TaskGraph()
    assert await graph.run(graph.add(take, graph.add(give))) == value


async def test_synchronous_functions_run_in_threads_side_by_side() -> None:
    both = threading.Barrier(2, timeout=5)

    def meet() -> int:
        both.wait()
        return threading.get_ident()

    graph = TaskGraph()
    tasks = [graph.add(meet), graph.add(meet)]
    await graph.run()
    assert len({task.value for task in tasks} | {threading.get_ident()}) == 3


async def test_a_thread_adds_children_and_waits_for_them() -> None:
    def parent() -> int:
        child = here().add(one)
        return anyio.from_thread.run(child.result) + 1

    graph = TaskGraph()
    task = graph.add(parent)
    assert await graph.run(task) == 2
    assert graph.states() == {"1": "succeeded", "1.1": "succeeded"}


def test_run_sync_works_with_and_without_a_running_loop() -> None:
    def build() -> tuple[TaskGraph, Task[int]]:
        graph = TaskGraph()
        return graph, graph.add(one)

    async def notebook() -> int:
        graph, task = build()
        return graph.run_sync(task)

    graph, task = build()
    assert graph.run_sync(task) == 1
    assert asyncio.run(notebook()) == 1


async def test_a_graph_runs_once() -> None:
    graph = TaskGraph()
    await graph.run()
    with pytest.raises(InvalidValue, match="has run already"):
        await graph.run()


async def test_a_task_of_another_graph_is_refused() -> None:
    with pytest.raises(InvalidValue, match="another graph"):
        TaskGraph().add(add_up, [TaskGraph().add(one)])


# ---- fan-out and reduction ---------------------------------------------------------------------


async def test_map_calls_once_for_each_item_of_a_result_known_only_at_run_time() -> None:
    async def items() -> list[int]:
        return [3, 1, 2]

    async def square(item: int) -> int:
        await anyio.sleep(item / 1000)
        return item * item

    graph = TaskGraph()
    squares = graph.map(square, graph.add(items))
    assert await graph.run(squares) == [9, 1, 4]
    assert [task.name for task in squares.children] == ["square 1", "square 2", "square 3"]


async def test_map_over_nothing_is_an_empty_list() -> None:
    graph = TaskGraph()
    assert await graph.run(graph.map(sleep, [])) == []


async def test_map_within_one_slot_still_ends() -> None:
    graph = TaskGraph(limit=1)
    assert await graph.run(graph.map(partial(sleep, 0), range(20))) == list(range(20))


@pytest.mark.parametrize(("arity", "calls"), [(None, 1), (2, 7), (3, 4)])
async def test_reduce_joins_neighbours_level_by_level(arity: int | None, calls: int) -> None:
    async def concatenate(parts: list[str]) -> str:
        return "".join(parts)

    graph = TaskGraph()
    letters = graph.map(partial(letter), range(8))
    word = graph.reduce(concatenate, letters, arity=arity)
    assert await graph.run(word) == "abcdefgh"
    assert len(word.children) == calls


async def letter(index: int) -> str:
    return "abcdefgh"[index]


# ---- conditions --------------------------------------------------------------------------------


async def test_conditions_decide_what_runs_after_an_end() -> None:
    graph = TaskGraph()
    bad, good = graph.add(fail), graph.add(sleep, 0, 7)
    after = {
        "success of bad": graph.add(one, after=bad),
        "completion of bad": graph.add(one, after={bad: "completion"}),
        "always after skipped": graph.add(one, after={bad: "always"}),
        "seven": graph.add(one, after={good: "result > 5"}),
        "small": graph.add(one, after={good: "result < 5"}),
    }
    await graph.run()
    assert {name: task.state for name, task in after.items()} == {
        "success of bad": "skipped",
        "completion of bad": "succeeded",
        "always after skipped": "succeeded",
        "seven": "succeeded",
        "small": "skipped",
    }


async def test_a_condition_that_cannot_be_evaluated_fails_its_task() -> None:
    graph = TaskGraph()
    task = graph.add(one, after={graph.add(one): "result.name == 'x'"})
    with pytest.raises(InvalidValue, match="result"):
        await graph.run()
    assert task.state == "failed"


async def test_branches_meet_again_after_a_choice() -> None:
    graph = TaskGraph()
    chosen = graph.add(sleep, 0, 1)
    left = graph.add(one, after={chosen: "result == 1"})
    right = graph.add(one, after={chosen: "result == 2"})
    end = graph.add(one, after={left: "always", right: "always"})
    await graph.run()
    assert [task.state for task in (left, right, end)] == ["succeeded", "skipped", "succeeded"]


# ---- limits, priorities, resources -------------------------------------------------------------


class Meter:
    """How many tasks run at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def run(self, *_: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.sleep(0.001)
        self.now -= 1


async def test_no_more_tasks_run_than_the_limit() -> None:
    meter, graph = Meter(), TaskGraph(limit=3)
    for _ in range(20):
        graph.add(meter.run)
    await graph.run()
    assert meter.most == 3


async def test_named_resources_are_never_overdrawn_and_do_not_hold_up_others() -> None:
    gpu, others = Meter(), 0
    all_here = anyio.Event()

    async def other() -> None:
        nonlocal others
        others += 1
        if others == 8:
            all_here.set()
        with anyio.fail_after(5):
            await all_here.wait()

    graph = TaskGraph(resources={"gpu": 2})
    for _ in range(8):
        graph.add(gpu.run, resources={"gpu": 1})
    for _ in range(8):
        graph.add(other)
    await graph.run()
    assert (gpu.most, others) == (2, 8)


@pytest.mark.parametrize("resources", [{"gpu": 3}, {"gpu": 0}, {"tpu": 1}])
async def test_a_need_that_can_never_be_met_is_refused_at_once(resources: dict[str, int]) -> None:
    with pytest.raises(InvalidValue, match="resource"):
        TaskGraph(resources={"gpu": 2}).add(one, resources=resources)


async def test_higher_priority_goes_first() -> None:
    order: list[int] = []

    async def note(number: int) -> None:
        order.append(number)

    graph = TaskGraph(limit=1)
    for priority in (0, 5, -1, 5):
        graph.add(note, priority, priority=priority)
    await graph.run()
    assert order == [5, 5, 0, -1]


async def test_a_waiting_parent_gives_its_slot_and_resources_to_its_children() -> None:
    async def parent(depth: int) -> int:
        if not depth:
            return 1
        return await here().add(parent, depth - 1, resources={"gpu": 1}).result() + 1

    graph = TaskGraph(limit=1, resources={"gpu": 1})
    assert await graph.run(graph.add(parent, 30, resources={"gpu": 1})) == 31


# ---- attempts ----------------------------------------------------------------------------------


class Flaky:
    def __init__(self, failures: int, error: Exception) -> None:
        self.left = failures
        self.error = error

    async def __call__(self) -> str:
        if self.left:
            self.left -= 1
            raise self.error
        return "done"


async def test_a_failed_task_is_tried_again_with_growing_waits() -> None:
    graph = TaskGraph(seed=1)
    seen: list[Event] = []
    graph.events.subscribe(seen.append)
    retry = Retry(times=3, delay=0.001, factor=2, jitter=0.5)
    task = graph.add(Flaky(3, ConnectionError("down")), retry=retry)
    assert await graph.run(task) == "done"
    waits = [event.wait_s for event in seen if isinstance(event, AttemptFailed)]
    for wait, plain in zip(waits, (0.001, 0.002, 0.004), strict=True):
        assert 0.5 * plain <= wait <= 1.5 * plain
    assert [event.attempt for event in seen if isinstance(event, TaskStarted)] == [1, 2, 3, 4]
    assert len(graph.record().tasks[0].attempts) == 4


async def test_only_the_named_errors_are_tried_again() -> None:
    flaky = Flaky(1, ValueError("no"))
    graph = TaskGraph()
    graph.add(flaky, retry=Retry(times=5, delay=0, on=("ConnectionError", "TimeoutError")))
    with pytest.raises(ValueError, match="no"):
        await graph.run()
    assert flaky.left == 0


async def test_children_of_a_failed_attempt_are_cancelled_before_the_next() -> None:
    tried: list[Task[Any]] = []

    async def parent() -> int:
        tried.append(here().add(sleep, 100))
        await anyio.sleep(0.001)
        if len(tried) == 1:
            raise ConnectionError
        tried[-1].cancel()
        return 1

    graph = TaskGraph()
    assert await graph.run(graph.add(parent, retry=Retry(times=1, delay=0))) == 1
    assert [task.state for task in tried] == ["cancelled", "cancelled"]


async def test_a_run_timeout_stops_the_attempt() -> None:
    graph = TaskGraph()
    task = graph.add(sleep, 100, timeout=Timeout(run=0.01))
    with pytest.raises(TimeLimitReached, match=r"run timeout of 0\.01 s"):
        await graph.run()
    assert task.state == "failed"


async def test_an_idle_timeout_counts_from_the_last_progress() -> None:
    async def work(steps: int) -> int:
        task = current_task()
        assert task is not None
        for step in range(steps):
            await anyio.sleep(0.02)
            task.progress(step)
        await anyio.sleep(100 if steps < 5 else 0)
        return steps

    graph = TaskGraph()
    alive = graph.add(work, 8, timeout=Timeout(idle=0.5))
    stuck = graph.add(work, 2, timeout=Timeout(idle=0.5))
    with pytest.raises(TimeLimitReached, match="idle timeout"):
        await graph.run()
    assert (alive.value, stuck.partial) == (8, 1)


async def test_a_queue_timeout_fails_what_waits_too_long_for_a_slot() -> None:
    graph = TaskGraph(limit=1)
    graph.add(sleep, 0.1)
    late = graph.add(one, timeout=Timeout(queue=0.01))
    with pytest.raises(TimeLimitReached, match="queue timeout"):
        await graph.run()
    assert (late.state, graph.states()["1"]) == ("failed", "succeeded")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(times=-1),
        lambda: Retry(jitter=2),
        lambda: Retry(on="ValueError"),  # type: ignore[arg-type]
        lambda: Timeout(run=0),
        lambda: TaskGraph(limit=0),
        lambda: Processes(0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make: Any) -> None:
    with pytest.raises(InvalidValue, match="give"):
        make()


async def test_a_thread_that_cannot_be_stopped_is_counted_as_leaked() -> None:
    release = threading.Event()
    graph = TaskGraph()
    async with graph:
        task = graph.add(release.wait, 10)
        await anyio.sleep(0.1)
        task.cancel()
    release.set()
    assert (task.state, task.leaked, graph.record().leaked) == ("cancelled", True, 1)


# ---- joins -------------------------------------------------------------------------------------


async def test_the_first_to_succeed_wins_and_losers_keep_what_they_had() -> None:
    async def loser() -> None:
        task = current_task()
        assert task is not None
        task.charge(5)
        task.progress("half")
        await anyio.sleep(100)

    async def race() -> int:
        tasks: list[Task[Any]] = [here().add(fail), here().add(loser), here().add(sleep, 0.01, 7)]
        joined = await join(tasks, need=1)
        assert [task.partial for task in joined.losers] == [None, "half"]
        return joined.values[0]

    graph = TaskGraph()
    assert await graph.run(graph.add(race)) == 7
    assert graph.states() == {
        "1": "succeeded",
        "1.1": "failed",
        "1.2": "cancelled",
        "1.3": "succeeded",
    }
    assert (graph.work, graph.record().wasted) == (5, 5)


async def test_a_quorum_that_can_no_longer_be_reached_is_missed_at_once() -> None:
    async def vote() -> None:
        tasks = [here().add(fail), here().add(fail), here().add(sleep, 100)]
        await join(tasks, need=2)

    graph = TaskGraph()
    graph.add(vote)
    with pytest.raises(QuorumMissed, match="0 of 3 tasks succeeded and 2 were needed") as caught:
        await graph.run()
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_best_effort_takes_what_the_deadline_allows() -> None:
    async def collect() -> list[int]:
        tasks = [here().add(sleep, seconds, 1) for seconds in (0, 0, 100)]
        return (await join(tasks, within=0.05)).values

    graph = TaskGraph(limit=2)
    assert await graph.run(graph.add(collect)) == [1, 1]


async def test_a_join_may_leave_the_others_running() -> None:
    async def first() -> int:
        return len(
            (await join([here().add(sleep, t, 1) for t in (0, 0.02)], need=1, cancel=False)).losers
        )

    graph = TaskGraph()
    assert await graph.run(graph.add(first)) == 1
    assert set(graph.states().values()) == {"succeeded"}


async def test_a_join_of_nothing_has_no_winners() -> None:
    assert (await join([])).values == []


# ---- every run ends ----------------------------------------------------------------------------


async def test_tasks_that_wait_for_each_other_fail_instead_of_hanging() -> None:
    tasks: list[Task[Any]] = []

    async def wait(other: int) -> None:
        await tasks[other].result()

    graph = TaskGraph()
    tasks += [graph.add(wait, 1), graph.add(wait, 0)]
    with anyio.fail_after(5), pytest.raises(TaskStalled, match="waited for a task that waits"):
        await graph.run()


async def test_a_child_that_waits_for_its_parents_successor_fails() -> None:
    after: list[Task[Any]] = []

    async def parent() -> None:
        here().add(add_up, after)

    graph = TaskGraph()
    top = graph.add(parent)
    after.append(graph.add(one, after=top))
    with anyio.fail_after(5), pytest.raises(TaskStalled, match="remove one of its edges"):
        await graph.run()


async def test_tasks_that_never_wait_leave_the_loop_to_others() -> None:
    async def spin() -> None:
        until = time.monotonic() + 0.002
        while time.monotonic() < until:
            pass

    graph = TaskGraph()
    previous = graph.add(spin)
    for _ in range(100):
        previous = graph.add(spin, after=previous)
    beats = 0
    async with graph:
        while not previous.ended:
            await anyio.lowlevel.checkpoint()
            beats += 1
    assert beats > 3


async def test_what_a_task_leaves_in_the_context_does_not_reach_others() -> None:
    from contextvars import ContextVar

    mark: ContextVar[str] = ContextVar("mark", default="clean")

    async def leave() -> str:
        before = mark.get()
        mark.set("dirty")
        return before

    graph = TaskGraph()
    tasks = [graph.add(leave) for _ in range(5)]
    await graph.run()
    assert {task.value for task in tasks} == {"clean"}


# ---- processes ---------------------------------------------------------------------------------


async def test_processes_run_elsewhere_and_are_killed_when_cancelled() -> None:
    import os

    pool = Processes(2)
    graph = TaskGraph()
    async with graph:
        elsewhere = graph.add(os.getpid, executor=pool)
        stuck = graph.add(time.sleep, 1000, executor=pool)
        assert await elsewhere.result() != os.getpid()
        with anyio.fail_after(10):
            stuck.cancel()
            with pytest.raises(TaskCancelled):
                await stuck.result()
    assert not stuck.leaked


# ---- events ------------------------------------------------------------------------------------


async def test_a_slow_reader_loses_the_oldest_events_and_holds_up_nobody() -> None:
    graph = TaskGraph()
    for _ in range(100):
        graph.add(one)
    with graph.events.open(size=10) as events:
        await graph.run()
        late = [event async for event in events]
    assert len(late) == 10
    assert isinstance(late[-1], RunEnded)
    assert events.dropped == 2 * 100 + 1 - 10


async def test_a_reader_follows_a_run_as_it_goes() -> None:
    graph = TaskGraph()
    graph.add(sleep, 0.01)
    seen: list[str] = []

    async def read() -> None:
        with graph.events.open() as events:
            seen.extend([type(event).__name__ async for event in events])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.lowlevel.checkpoint()
        await graph.run()
    assert seen == ["TaskStarted", "TaskEnded", "RunEnded"]


async def test_a_closed_reader_gets_no_more_events() -> None:
    graph = TaskGraph()
    with graph.events.open() as events:
        graph.add(one)
    graph.add(one)
    await graph.run()
    assert len([event async for event in events]) == 2
