"""The state machine against a reference: random graphs, failures, conditions, edits, cancellation.

The reference knows nothing of time: it says which final states are possible, and each run must end
in them, with every task in a final state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import Patch, Retry, Task, TaskCancelled, TaskGraph
from orchestrator.editing.patches import Add, Change, Connect, Disconnect, Remove
from orchestrator.errors import PatchRefused
from orchestrator.views.record import FINAL

Kind = Literal["data", "success", "completion", "always"]


class Broken(Exception):
    """What failing tasks raise."""


@dataclass(frozen=True)
class Plan:
    """One task of a random graph."""

    edges: dict[int, Kind]
    failures: int
    retries: int
    pauses: int
    children: int

    @property
    def ends(self) -> str:
        return "succeeded" if self.failures <= self.retries else "failed"


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    kinds = st.sampled_from(["data", "success", "completion", "always"])
    size = draw(st.integers(1, 8))
    return [
        Plan(
            edges=draw(st.dictionaries(st.integers(0, index - 1), kinds, max_size=3))
            if index
            else {},
            failures=draw(st.integers(0, 2)),
            retries=draw(st.integers(0, 2)),
            pauses=draw(st.integers(0, 3)),
            children=draw(st.integers(0, 2)),
        )
        for index in range(size)
    ]


def expected(plan: list[Plan]) -> list[str]:
    """The final states of a run that nobody disturbs."""
    states: list[str] = []
    for task in plan:
        holds = all(
            kind == "always"
            or states[source] == "succeeded"
            or (kind == "completion" and states[source] == "failed")
            for source, kind in task.edges.items()
        )
        states.append(task.ends if holds else "skipped")
    return states


class Behaviour:
    """Calls of one task: it pauses, adds children that nobody awaits, and fails so many times."""

    def __init__(self, graph: TaskGraph, plan: Plan) -> None:
        self.graph = graph
        self.plan = plan
        self.left = plan.failures
        self.running = self.calls = 0

    async def __call__(self, *_: Any) -> int:
        self.calls += 1
        self.running += 1
        assert self.running == 1
        try:
            for _child in range(self.plan.children):
                self.graph.add(pause, 2)
            await pause(self.plan.pauses)
            if self.left:
                self.left -= 1
                raise Broken
            return 1
        finally:
            self.running -= 1


async def pause(times: int) -> None:
    for _ in range(times):
        await checkpoint()


def build(
    plan: list[Plan], limit: int | None
) -> tuple[TaskGraph, list[Task[Any]], list[Behaviour]]:
    graph = TaskGraph(limit=limit, functions=[pause])
    tasks: list[Task[Any]] = []
    behaviours = [Behaviour(graph, task) for task in plan]
    for task, behaviour in zip(plan, behaviours, strict=True):
        data = [tasks[source] for source, kind in task.edges.items() if kind == "data"]
        after = {tasks[source]: kind for source, kind in task.edges.items() if kind != "data"}
        retry = Retry(times=task.retries, delay=0)
        tasks.append(graph.add(behaviour, *data, after=after, retry=retry))
    return graph, tasks, behaviours


async def swallow(graph: TaskGraph) -> None:
    try:
        with anyio.fail_after(20):
            await graph.run()
    except* (Broken, TaskCancelled):
        pass


@given(plans(), st.sampled_from([None, 1, 2]))
def test_every_run_ends_in_the_states_of_the_reference(plan: list[Plan], limit: int | None) -> None:
    graph, tasks, behaviours = build(plan, limit)
    anyio.run(swallow, graph)
    assert [task.state for task in tasks] == expected(plan)
    for task, behaviour in zip(plan, behaviours, strict=True):
        tries = min(task.failures, task.retries) + 1
        skipped = expected(plan)[plan.index(task)] == "skipped" and behaviour.calls == 0
        assert skipped or behaviour.calls == tries


DISTURBANCES = st.lists(
    st.tuples(
        st.sampled_from(["cancel", "add", "remove", "connect", "disconnect", "change", "wait"]),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    max_size=12,
)


def disturb(graph: TaskGraph, what: str, a: int, b: int) -> None:
    ids = [task.id for task in graph.tasks]
    first, second = ids[a % len(ids)], ids[b % len(ids)]
    if what == "cancel":
        graph[first].cancel()
        return
    ops: dict[str, Any] = {
        "add": Add(id=f"x{a}", function="pause", args=(1,), after={second: "always"}),
        "remove": Remove(id=first),
        "connect": Connect(source=first, target=second, when="completion"),
        "disconnect": Disconnect(source=first, target=second),
        "change": Change(id=first, priority=b),
    }
    before = (graph.version, graph.record().edges)
    try:
        graph.apply(Patch(ops=(ops[what], Add(id=f"y{a}{b}", function="pause", args=(1,)))))
    except PatchRefused:
        assert (graph.version, graph.record().edges) == before


@settings(max_examples=200)
@given(plans(), DISTURBANCES, st.sampled_from([None, 1, 2]))
def test_every_run_ends_whatever_is_edited_and_cancelled_meanwhile(
    plan: list[Plan], disturbances: list[tuple[str, int, int]], limit: int | None
) -> None:
    graph, _, _ = build(plan, limit)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(swallow, graph)
            for what, a, b in disturbances:
                await checkpoint()
                if what != "wait" and len(graph):
                    disturb(graph, what, a, b)

    anyio.run(main)
    states = graph.states()
    assert set(states.values()) <= FINAL
    wanted = {"success": {"succeeded"}, "completion": {"succeeded", "failed"}}
    for edge in graph.record().edges:
        if edge.kind != "spawn" and states[edge.target] == "succeeded":
            assert states[edge.source] in wanted.get(edge.when, FINAL)
