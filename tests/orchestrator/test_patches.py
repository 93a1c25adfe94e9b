"""Editing a graph while it runs: atomic, versioned, never late and never in a circle."""

from __future__ import annotations

import itertools
import json
import re
import time
from typing import Any

import anyio
import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Patch, Task, TaskGraph
from orchestrator.editing.patches import Add, Change, Connect, Disconnect, Expect, Remove
from orchestrator.errors import InvalidValue, PatchRefused

pytestmark = pytest.mark.anyio


async def one() -> int:
    return 1


async def add_up(*values: int) -> int:
    return sum(values)


async def wait(event: anyio.Event) -> int:
    await event.wait()
    return 2


async def fail() -> int:
    raise ValueError("on purpose")


def graph_of(*functions: Any) -> TaskGraph:
    return TaskGraph(functions=functions or (one, add_up, fail))


def reasons(graph: TaskGraph, *ops: Any, **fields: Any) -> list[str]:
    with pytest.raises(PatchRefused) as caught:
        graph.apply(Patch(ops=ops, **fields))
    return [conflict.reason for conflict in caught.value.conflicts]


# ---- what patches do ---------------------------------------------------------------------------


async def test_a_patch_from_json_adds_tasks_that_take_results() -> None:
    graph = graph_of()
    first, gate = graph.add(one), anyio.Event()
    slow = graph.add(wait, gate)
    async with graph:
        await first.result()
        version = graph.apply(
            Patch.parse(
                json.dumps(
                    {
                        "base": 0,
                        "ops": [
                            {
                                "op": "add",
                                "id": "x",
                                "function": "add_up",
                                "args": [{"$task": "1"}, 5],
                            },
                            {
                                "op": "connect",
                                "source": slow.id,
                                "target": "x",
                                "when": "completion",
                            },
                        ],
                    }
                )
            )
        )
        assert (version, graph["x"].state) == (1, "waiting")
        gate.set()
    assert graph["x"].value == 6


async def test_an_edge_from_a_task_that_has_ended_resolves_at_once() -> None:
    graph = graph_of()
    gate = anyio.Event()
    done, bad = graph.add(one), graph.add(fail)
    blocked = graph.add(one, after=graph.add(wait, gate))
    async with graph:
        await done.result()
        with pytest.raises(ValueError, match="on purpose"):
            await bad.result()
        graph.apply(Patch(ops=(Add(id="a", function="one"), Connect(source="1", target="a"))))
        graph.apply(Patch(ops=(Connect(source=bad.id, target=blocked.id),)))
        assert blocked.state == "skipped"
        await graph["a"].result()
        gate.set()


async def test_change_gives_a_waiting_task_other_work() -> None:
    graph = graph_of()
    gate = anyio.Event()
    slow = graph.add(wait, gate)
    task = graph.add(add_up, slow)
    async with graph:
        graph.apply(Patch(ops=(Change(id=task.id, args=(20, 3), name="other"),)))
        assert await task.result() == 23
        gate.set()
    assert task.name == "other"
    assert task.after == ()


async def test_a_removed_task_never_runs_and_the_run_still_ends() -> None:
    graph = graph_of()
    gate = anyio.Event()
    slow = graph.add(wait, gate)
    last = graph.add(add_up, slow)
    async with graph:
        graph.apply(Patch(ops=(Remove(id=last.id),)))
        gate.set()
    assert list(graph.states()) == [slow.id]


async def test_a_disconnected_task_no_longer_waits() -> None:
    graph = graph_of()
    gate = anyio.Event()
    slow = graph.add(wait, gate)
    task = graph.add(one, after=slow)
    async with graph:
        graph.apply(Patch(ops=(Disconnect(source=slow.id, target=task.id),)))
        assert await task.result() == 1
        gate.set()


# ---- what is refused ---------------------------------------------------------------------------


async def test_each_operation_that_conflicts_is_named_and_nothing_is_applied() -> None:
    graph = graph_of()
    gate = anyio.Event()
    done, slow = graph.add(one), graph.add(wait, gate)
    last = graph.add(add_up, slow)
    async with graph:
        await done.result()
        before = graph.record()
        found = reasons(
            graph,
            Add(id="fine", function="one"),
            Remove(id=done.id),
            Change(id=slow.id, priority=3),
            Connect(source=last.id, target="fine"),
            Connect(source="fine", target=last.id),
            Add(id="fine", function="one"),
            Add(id="y", function="nothing"),
            Disconnect(source=slow.id, target=last.id),
            Connect(source="gone", target=last.id),
        )
        assert found == [
            "task 1 is succeeded; only what has not started can be edited",
            "task 2 is running; only what has not started can be edited",
            "an edge from fine to 3 would close a cycle; remove a way from 3 to fine first",
            "there is a task fine already",
            "no function 'nothing' is registered (registered: add_up, fail, one)",
            "task 3 takes the result of 2; change its args",
            "there is no task gone",
        ]
        after = graph.record()
        assert (after.tasks, after.edges, graph.version) == (before.tasks, before.edges, 0)
        gate.set()
    assert last.value == 2


async def test_what_was_edited_after_the_base_version_is_not_edited_again() -> None:
    graph = graph_of()
    gate = anyio.Event()
    slow = graph.add(wait, gate)
    a, b = graph.add(one, after=slow), graph.add(one, after=slow)
    async with graph:
        graph.apply(Patch(base=0, ops=(Change(id=a.id, priority=1),)))
        graph.apply(Patch(base=0, ops=(Change(id=b.id, priority=1),)))
        assert reasons(graph, Change(id=a.id, priority=2), base=0) == [
            "task 2 was edited in version 1, after version 0"
        ]
        assert graph.apply(Patch(base=2, ops=(Change(id=a.id, priority=2),))) == 3
        gate.set()


async def test_a_precondition_that_does_not_hold_refuses_the_patch() -> None:
    graph = graph_of()
    graph.add(one)
    expect = (Expect(id="1", states=("succeeded",)),)
    assert reasons(graph, Add(id="x", function="one"), expect=expect) == [
        "task 1 is ready, not succeeded"
    ]
    assert len(graph) == 1
    await graph.run()


async def test_a_task_that_others_wait_for_is_removed_only_with_them() -> None:
    graph = graph_of()
    first = graph.add(one)
    last = graph.add(add_up, first)
    assert reasons(graph, Remove(id=first.id)) == ["task 2 waits for 1; rewire or remove it too"]
    graph.apply(Patch(ops=(Remove(id=first.id), Remove(id=last.id))))
    await graph.run()
    assert len(graph) == 0


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "Invalid JSON"),
        ('{"ops": []}', "ops"),
        ('{"ops": [{"op": "explode"}]}', "ops.0"),
        ('{"ops": [{"op": "add", "id": "1", "function": "one"}]}', "ops.0.add.id"),
        ('{"ops": [{"op": "remove", "id": "1", "x": 1}]}', "ops.0.remove.x"),
        ('{"ops": [{"op": "change", "id": "1", "timeout": {"run": -1}}]}', "timeout"),
    ],
)
def test_a_patch_that_is_none_names_the_field(text: str, field: str) -> None:
    with pytest.raises(InvalidValue, match=field) as caught:
        Patch.parse(text)
    assert "\n" not in str(caught.value)


# ---- cycles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ('{"op": "add", "id": "a", "function": "one", "args": [{"$task": 1}]}', r"\$task is 1"),
        ('{"op": "add", "id": "a", "function": "one", "args": [{"$task": ["1"]}]}', r"\$task is"),
        ('{"op": "add", "id": "a", "function": "one", "args": [[[{"$task": "1"}]]]}', "argument"),
        ('{"op": "add", "id": "a", "function": "one", "args": [{"x": {"$task": "1"}}]}', "argu"),
        ('{"op": "add", "id": "a", "function": "one", "kwargs": {"x": {"$task": "9"}}}', "no task"),
        (
            '{"op": "add", "id": "a", "function": "one", "after": {"a": "success"}}',
            "wait for itself",
        ),
        ('{"op": "add", "id": "a", "function": "one", "resources": {"gpu": 1}}', "gpu"),
    ],
)
async def test_an_operation_that_makes_no_sense_is_refused(operation: str, reason: str) -> None:
    graph = graph_of()
    graph.add(one)
    with pytest.raises(PatchRefused) as refused:
        graph.apply(Patch.parse(f'{{"ops": [{operation}]}}'))
    (conflict,) = refused.value.conflicts
    assert re.search(reason, conflict.reason)
    assert (len(graph), graph.version) == (1, 0)


async def test_a_base_that_the_graph_has_not_reached_is_refused() -> None:
    graph = graph_of()
    (reason,) = reasons(graph, Add(id="a", function="one"), base=3)
    assert reason == "base is 3, the graph is at 0"
    assert len(graph) == 0


async def test_a_deep_chain_built_back_to_front_needs_no_recursion() -> None:
    graph = TaskGraph()
    tasks = [graph.add(one) for _ in range(3000)]
    for later, earlier in itertools.pairwise(tasks):
        graph.apply(Patch(ops=(Connect(source=earlier.id, target=later.id),)))
    assert reasons(graph, Connect(source=tasks[0].id, target=tasks[-1].id)) != []
    await graph.run()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_exactly_the_edges_that_close_a_cycle_are_refused(pairs: list[tuple[int, int]]) -> None:
    graph = TaskGraph()
    tasks: list[Task[Any]] = [graph.add(one) for _ in range(10)]
    model: networkx.DiGraph[int] = networkx.DiGraph()
    model.add_nodes_from(range(10))
    for a, b in pairs:
        if model.has_edge(a, b):
            continue
        closes = networkx.has_path(model, b, a)
        try:
            graph.apply(Patch(ops=(Connect(source=tasks[a].id, target=tasks[b].id),)))
        except PatchRefused:
            assert closes
        else:
            assert not closes
            model.add_edge(a, b)
    graph.run_sync()
    assert set(graph.states().values()) == {"succeeded"}


# ---- nobody waits for an editor ----------------------------------------------------------------


@pytest.mark.parametrize("others", [10, 20])
async def test_a_successor_starts_at_once_while_an_editor_is_at_work(others: int) -> None:
    started: list[float] = []

    async def background(index: int) -> None:
        await anyio.sleep(0.02 * (index + 1))

    async def successor() -> None:
        started.append(time.monotonic())

    graph = TaskGraph(functions=[one])
    first = graph.add(anyio.sleep, 0.01)
    graph.add(successor, after=first)
    for index in range(others):
        graph.add(background, index)
    ended: list[float] = []
    first.on_end(lambda _: ended.append(time.monotonic()))
    async with graph:

        async def edit() -> None:
            for number in range(3):  # an editor thinks, and then patches
                await anyio.sleep(0.05)
                graph.apply(Patch(ops=(Add(id=f"x{number}", function="one"),)))

        await edit()
    assert graph.version == 3
    assert started[0] - ended[0] < 0.2  # the benchmark measures it; here it must only not wait
