"""The task graph: data flow, cancellation, failures, cost accounting and events."""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio
import networkx
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import (
    Event,
    EventStream,
    RunEnded,
    Task,
    TaskAdded,
    TaskCancelled,
    TaskEnded,
    TaskGraph,
    TaskReady,
    TaskStarted,
    current_task,
)
from orchestrator.errors import InvalidValue

pytestmark = pytest.mark.anyio

COSTS = st.integers(0, 9)


class Broken(Exception):
    """What failing tasks raise here."""


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await checkpoint()


async def give(value: int) -> int:
    await checkpoint()
    return value


async def add_up(*values: int) -> int:
    return sum(values)


async def fail(*_: Any) -> int:
    raise Broken("on purpose")


async def forever(*_: Any) -> None:
    await anyio.sleep_forever()


async def spend(cost: int, *_: Any, shared: int = 0) -> None:
    task = current_task()
    assert task is not None
    await checkpoint()
    task.charge(cost, shared=shared)


def states(graph: TaskGraph) -> dict[str, str]:
    return {task.id: task.state for task in graph.tasks}


def recorded() -> tuple[EventStream, list[Event]]:
    events = EventStream()
    seen: list[Event] = []
    events.subscribe(seen.append)
    return events, seen


# ---- values ------------------------------------------------------------------------------------


async def test_values_flow_along_task_arguments() -> None:
    async with TaskGraph() as graph:
        numbers = [graph.add(give, n) for n in (1, 2, 3)]
        total = graph.add(add_up, *numbers, 10)
    assert await total.result() == 16
    assert set(states(graph).values()) == {"succeeded"}


async def test_a_result_can_be_awaited_inside_the_block_and_again_later() -> None:
    async with TaskGraph() as graph:
        task = graph.add(give, 5)
        assert await task.result() == 5
    assert await task.result() == 5


async def test_a_function_may_return_none() -> None:
    async def nothing() -> Any:
        return None

    async with TaskGraph() as graph:
        task = graph.add(nothing)
    assert await task.result() is None


async def test_tasks_run_side_by_side() -> None:
    ready = anyio.Event()

    async def wait() -> None:
        await ready.wait()

    async def release() -> None:
        ready.set()

    with anyio.fail_after(1):
        async with TaskGraph() as graph:
            graph.add(wait)
            graph.add(release)


async def test_current_task_is_the_one_that_runs() -> None:
    seen: list[Task[Any] | None] = []

    async def own() -> None:
        seen.append(current_task())

    assert current_task() is None
    async with TaskGraph() as graph:
        task = graph.add(own)
    assert seen == [task]


# ---- parents and children ----------------------------------------------------------------------


async def test_a_parent_does_not_end_before_its_children() -> None:
    async def parent(graph: TaskGraph) -> str:
        graph.add(give, 1)
        return "value"

    events, seen = recorded()
    async with TaskGraph(events) as graph:
        task = graph.add(parent, graph)
    ends = [event.task for event in seen if isinstance(event, TaskEnded)]
    assert ends == ["1.1", "1"]
    assert await task.result() == "value"


async def test_children_are_cancelled_with_their_parent() -> None:
    async def parent(graph: TaskGraph, depth: int) -> None:
        if depth:
            graph.add(parent, graph, depth - 1)
        await anyio.sleep_forever()

    async with TaskGraph() as graph:
        top = graph.add(parent, graph, 2)
        await settle()
        assert states(graph) == dict.fromkeys(("1", "1.1", "1.1.1"), "running")
        top.cancel()
    assert states(graph) == dict.fromkeys(("1", "1.1", "1.1.1"), "cancelled")
    with pytest.raises(TaskCancelled, match=r"1 .*cancelled"):
        await top.result()


async def test_children_are_cancelled_when_their_parent_fails() -> None:
    async def parent(graph: TaskGraph) -> None:
        graph.add(forever)
        await settle()
        raise Broken

    async with TaskGraph() as graph:
        top = graph.add(parent, graph)
        with pytest.raises(Broken):
            await top.result()
    assert states(graph) == {"1": "failed", "1.1": "cancelled"}


async def test_cancelling_a_child_leaves_its_parent_and_siblings_alone() -> None:
    async def parent(graph: TaskGraph) -> int:
        doomed, spared = graph.add(forever), graph.add(give, 7)
        await settle()
        doomed.cancel()
        return await spared.result()

    async with TaskGraph() as graph:
        top = graph.add(parent, graph)
    assert await top.result() == 7
    assert states(graph) == {"1": "succeeded", "1.1": "cancelled", "1.2": "succeeded"}


async def test_cancelling_a_finished_task_changes_nothing() -> None:
    async with TaskGraph() as graph:
        task = graph.add(give, 3)
        await task.result()
        await settle()
        task.cancel()
        later = graph.add(add_up, task, 1)
    assert task.state == "succeeded"
    assert await task.result() == 3
    assert await later.result() == 4


@pytest.mark.parametrize("waits", [False, True])
async def test_a_task_cancelled_before_it_starts_is_never_called(waits: bool) -> None:
    calls = []

    async def call(*_: Any) -> None:
        calls.append(1)

    events, seen = recorded()
    async with TaskGraph(events) as graph:
        before = [graph.add(give, 1)] if waits else []
        task = graph.add(call, *before)
        task.cancel()
    assert task.state == "cancelled"
    assert calls == []
    assert TaskStarted(task=task.id) not in seen


async def test_an_outer_cancel_scope_ends_everything() -> None:
    async def parent(graph: TaskGraph) -> None:
        graph.add(forever)
        await graph.add(forever).result()

    events, seen = recorded()
    with anyio.CancelScope() as scope:
        async with TaskGraph(events) as graph:
            graph.add(give, graph.add(forever))
            graph.add(parent, graph)
            await settle()
            scope.cancel()
    assert scope.cancelled_caught
    assert set(states(graph).values()) == {"cancelled", "skipped"}
    ends = [event.task for event in seen if isinstance(event, TaskEnded)]
    assert sorted(ends) == sorted(states(graph))


async def test_an_error_in_the_block_cancels_the_tasks_and_leaves_unwrapped() -> None:
    graph = TaskGraph()

    async def block() -> None:
        async with graph:
            graph.add(forever)
            await settle()
            raise Broken("block")

    with pytest.raises(Broken, match="block"):
        await block()
    assert states(graph) == {"1": "cancelled"}


# ---- failures ----------------------------------------------------------------------------------


async def test_what_needs_a_failed_task_is_skipped() -> None:
    events, seen = recorded()
    async with TaskGraph(events) as graph:
        bad = graph.add(fail)
        needs = graph.add(add_up, graph.add(give, 1), bad)
        needs_that = graph.add(add_up, needs)
        with pytest.raises(Broken):
            await bad.result()
    assert [task.state for task in (bad, needs, needs_that)] == ["failed", "skipped", "skipped"]
    assert {event.task for event in seen if isinstance(event, TaskStarted)} == {"1", "2"}
    with pytest.raises(TaskCancelled, match="skipped"):
        await needs_that.result()


async def test_what_needs_a_cancelled_task_is_skipped() -> None:
    async with TaskGraph() as graph:
        doomed = graph.add(forever)
        needs = graph.add(add_up, doomed)
        await settle()
        doomed.cancel()
    assert (doomed.state, needs.state) == ("cancelled", "skipped")


async def test_a_failure_that_nobody_awaited_is_raised_on_exit() -> None:
    graph = TaskGraph()

    async def block() -> None:
        async with graph:
            graph.add(fail)
            graph.add(give, 1)

    with pytest.raises(Broken, match="on purpose"):
        await block()
    assert states(graph) == {"1": "failed", "2": "succeeded"}


async def test_an_awaited_failure_is_not_raised_again() -> None:
    async with TaskGraph() as graph:
        task = graph.add(fail)
        with pytest.raises(Broken):
            await task.result()
    assert isinstance(task.error, Broken)


async def test_a_child_failure_that_its_parent_handles_goes_no_further() -> None:
    async def parent(graph: TaskGraph) -> str:
        try:
            await graph.add(fail).result()
        except Broken:
            return "handled"
        return "missed"

    async with TaskGraph() as graph:
        task = graph.add(parent, graph)
    assert await task.result() == "handled"
    assert states(graph) == {"1": "succeeded", "1.1": "failed"}


async def test_an_error_reaches_the_waiter_without_group_wrappers() -> None:
    async def parent() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)

    async with TaskGraph() as graph:
        task = graph.add(parent)
        with pytest.raises(Broken):
            await task.result()


# ---- cost --------------------------------------------------------------------------------------


async def test_a_serial_chain_spans_all_its_work() -> None:
    async with TaskGraph() as graph:
        first = graph.add(spend, 2)
        graph.add(spend, 5, graph.add(spend, 3, first))
    assert (graph.work, graph.span) == (10, 10)


async def test_parallel_tasks_span_the_longest() -> None:
    async with TaskGraph() as graph:
        for cost in (2, 7, 3):
            graph.add(spend, cost)
    assert (graph.work, graph.span) == (12, 7)


async def test_a_child_starts_at_what_its_parent_had_spent() -> None:
    async def parent(graph: TaskGraph) -> None:
        await spend(4)
        child = graph.add(spend, 5)
        await spend(3)
        await child.result()
        await spend(1)

    async with TaskGraph() as graph:
        graph.add(parent, graph)
    assert (graph.work, graph.span) == (13, 10)


async def test_shared_cost_counts_for_the_span_only() -> None:
    async def charge() -> None:
        await spend(2, shared=5)

    async with TaskGraph() as graph:
        task = graph.add(charge)
    assert (task.work, task.clock) == (2, 7)
    assert (graph.work, graph.span) == (2, 7)


async def test_a_cancelled_task_counts_as_work_but_not_for_the_span() -> None:
    async def endless() -> None:
        await spend(9)
        await anyio.sleep_forever()

    async with TaskGraph() as graph:
        doomed = graph.add(endless)
        graph.add(spend, 4)
        await settle()
        doomed.cancel()
    assert (graph.work, graph.span) == (13, 4)


async def test_a_child_that_nobody_awaited_delays_what_needs_its_parent() -> None:
    async def parent(graph: TaskGraph) -> None:
        graph.add(spend, 8)

    async with TaskGraph() as graph:
        last = graph.add(spend, 1, graph.add(parent, graph))
    assert last.clock == graph.span == 9


class Fork(NamedTuple):
    """A task that spends, spawns and joins its children, and spends again."""

    before: int
    shared: int
    pause: int
    children: tuple[Fork, ...]
    after: int

    @property
    def work(self) -> int:
        return self.before + self.after + sum(child.work for child in self.children)

    @property
    def span(self) -> int:
        longest = max((child.span for child in self.children), default=0)
        return self.before + self.shared + longest + self.after


def forks(children: st.SearchStrategy[tuple[Fork, ...]]) -> st.SearchStrategy[Fork]:
    return st.builds(Fork, COSTS, COSTS, st.integers(0, 3), children, COSTS)


FORKS = st.recursive(
    forks(st.just(())), lambda inner: forks(st.lists(inner, max_size=3).map(tuple)), max_leaves=10
)


async def play(graph: TaskGraph, fork: Fork) -> None:
    await spend(fork.before, shared=fork.shared)
    children = [graph.add(play, graph, child) for child in fork.children]
    for _ in range(fork.pause):
        await checkpoint()
    for child in children:
        await child.result()
    await spend(fork.after)


@given(FORKS)
def test_work_and_span_of_fork_and_join_follow_the_recursive_rule(fork: Fork) -> None:
    async def main() -> TaskGraph:
        async with TaskGraph() as graph:
            graph.add(play, graph, fork)
        return graph

    graph = anyio.run(main)
    assert (graph.work, graph.span) == (fork.work, fork.span)
    assert networkx.is_tree(graph.to_networkx())


@given(st.lists(st.tuples(COSTS, st.sets(st.integers(0, 9), max_size=3)), max_size=10))
def test_span_is_the_longest_chain_of_data_edges(tasks: list[tuple[int, set[int]]]) -> None:
    clocks: list[int] = []
    for cost, needs in tasks:
        clocks.append(cost + max((clocks[n] for n in needs if n < len(clocks)), default=0))

    async def main() -> TaskGraph:
        async with TaskGraph() as graph:
            for cost, needs in tasks:
                graph.add(spend, cost, *[graph.tasks[n] for n in needs if n < len(graph.tasks)])
        return graph

    graph = anyio.run(main)
    assert [task.clock for task in graph.tasks] == clocks
    assert graph.span == max(clocks, default=0)
    assert networkx.is_directed_acyclic_graph(graph.to_networkx())


# ---- the record --------------------------------------------------------------------------------


async def test_ids_number_siblings_below_their_parent() -> None:
    async def parent(graph: TaskGraph, depth: int) -> None:
        for _ in range(2 if depth else 0):
            await graph.add(parent, graph, depth - 1).result()

    async with TaskGraph() as graph:
        graph.add(give, 1)
        graph.add(parent, graph, 2, name="tree")
    assert [task.id for task in graph.tasks] == [
        *("1", "2", "2.1", "2.1.1", "2.1.2", "2.2", "2.2.1", "2.2.2"),
    ]
    assert [task.name for task in graph.tasks[:3]] == ["give", "tree", "parent"]


async def test_tasks_of_an_inner_graph_are_roots_of_their_own() -> None:
    async def outer() -> list[str]:
        async with TaskGraph() as inner:
            inner.add(give, 1)
        return [task.id for task in inner.tasks]

    async with TaskGraph() as graph:
        task = graph.add(outer)
    assert await task.result() == ["1"]
    assert len(graph.tasks) == 1


async def test_to_networkx_has_an_edge_for_each_spawn_and_each_value() -> None:
    async def parent(graph: TaskGraph) -> None:
        first = graph.add(give, 1)
        await graph.add(add_up, first).result()
        await spend(3)

    async with TaskGraph() as graph:
        graph.add(add_up, graph.add(give, 2))
        graph.add(parent, graph)
    executed = graph.to_networkx()
    assert {edge: executed.edges[edge]["kind"] for edge in executed.edges} == {
        ("1", "2"): "data",
        ("3", "3.1"): "spawn",
        ("3", "3.2"): "spawn",
        ("3.1", "3.2"): "data",
    }
    node = executed.nodes["3"]
    assert (node["name"], node["state"], node["work"]) == ("parent", "succeeded", 3)
    assert networkx.is_directed_acyclic_graph(executed)


async def test_each_task_is_added_then_started_then_ended() -> None:
    async def parent(graph: TaskGraph) -> None:
        first = graph.add(spend, 2)
        graph.add(spend, 3, first, name="second")

    events, seen = recorded()
    async with TaskGraph(events) as graph:
        graph.add(parent, graph)
    by_task = {task: [event for event in seen if event.task == task] for task in states(graph)}
    assert by_task["1.2"] == [
        TaskAdded(task="1.2", name="second", parent="1", after=("1.1",)),
        TaskReady(task="1.2"),
        TaskStarted(task="1.2"),
        TaskEnded(task="1.2", state="succeeded", work=3),
    ]
    for own in by_task.values():
        assert [type(event) for event in own] == [TaskAdded, TaskReady, TaskStarted, TaskEnded]
    assert isinstance(seen[-1], RunEnded)


async def test_every_subscriber_gets_every_event_in_order() -> None:
    first: list[Event] = []
    events, second = recorded()
    events.subscribe(first.append)
    async with TaskGraph(events) as graph:
        graph.add(give, 1)
    assert first == second
    assert len(first) == 5


@pytest.mark.anyio
async def test_a_task_cannot_feed_its_own_child() -> None:
    async def child(value: object) -> None: ...

    async def parent(graph: TaskGraph) -> None:
        graph.add(child, current_task())

    with pytest.raises(InvalidValue, match="own child"):
        async with TaskGraph() as graph:
            graph.add(parent, graph)


@pytest.mark.anyio
async def test_a_listener_that_fails_is_heard_and_hangs_nobody() -> None:
    def fail(event: Event) -> None:
        if isinstance(event, TaskEnded):
            raise OSError("the listener broke")

    async def nothing() -> None: ...

    events = EventStream()
    events.subscribe(fail)
    with pytest.warns(RuntimeWarning, match="the listener broke"):
        async with TaskGraph(events) as graph:
            task = graph.add(nothing)
    await task.result()
