"""Budgets: reserved before, settled after, and never overshot by what runs side by side."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Budget, Task, TaskGraph, current_budget, current_task
from orchestrator.budgets import SLACK
from orchestrator.errors import BudgetExhausted, InvalidValue

pytestmark = pytest.mark.anyio


async def use(tokens: int, pauses: int = 1) -> int:
    task = current_task()
    assert task is not None
    for _ in range(pauses):
        await checkpoint()
    task.spend(tokens=tokens)
    return tokens


# ---- accounting --------------------------------------------------------------------------------


def test_what_is_spent_inside_counts_for_every_enclosing_budget() -> None:
    with Budget(tokens=100) as outer, Budget(tokens=50, cost=1.0) as inner:
        reservation = inner.try_reserve(tokens=30, cost=0.5)
        assert reservation is not None
        assert (inner.remaining("tokens"), outer.remaining("tokens")) == (20, 70)
        reservation.spend(tokens=10)
        reservation.settle()
        assert (inner.spent["tokens"], outer.spent["tokens"]) == (10, 10)
        assert inner.remaining("tokens") == 40
    assert current_budget() is None


def test_what_may_fit_later_waits_and_what_never_fits_is_refused() -> None:
    with Budget(tokens=100) as budget:
        first = budget.try_reserve(tokens=80)
        assert first is not None
        assert budget.try_reserve(tokens=40) is None
        first.spend(tokens=70)
        with pytest.raises(BudgetExhausted, match="100 tokens has 30 left and 40 were asked"):
            budget.try_reserve(tokens=40)
        first.settle()
        assert budget.try_reserve(tokens=30) is not None


def test_use_beyond_what_is_held_is_reserved_first_or_refused_unrecorded() -> None:
    with Budget(tokens=100) as budget:
        first, second = budget.try_reserve(tokens=10), budget.try_reserve(tokens=70)
        assert first is not None
        assert second is not None
        first.spend(tokens=30)
        with pytest.raises(BudgetExhausted, match="not reserved by others"):
            first.spend(tokens=1)
        assert (first.spent["tokens"], budget.spent["tokens"]) == (30, 30)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tokens": -1}, "tokens"),
        ({"tokens": True}, "tokens"),
        ({"tokens": 1.5}, "tokens"),
        ({"cost": float("nan")}, "cost"),
        ({"cost": "1"}, "cost"),
        ({"seconds": -1}, "seconds"),
        ({"soft": 0}, "soft"),
        ({"soft": 1.1}, "soft"),
    ],
)
def test_limits_out_of_range_are_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        Budget(**fields)


def test_a_soft_limit_asks_to_wrap_up() -> None:
    now = 0.0
    with Budget(seconds=10, clock=lambda: now) as outer, Budget(tokens=100, soft=0.5) as inner:
        reservation = inner.try_reserve(tokens=60)
        assert reservation is not None
        reservation.spend(tokens=49)
        assert not inner.wrap_up
        reservation.spend(tokens=1)
        assert inner.wrap_up
        assert not outer.wrap_up
        now = 9.0
        assert outer.wrap_up


# ---- in a graph --------------------------------------------------------------------------------


async def test_tasks_wait_for_what_others_have_reserved() -> None:
    graph = TaskGraph()
    with Budget(tokens=100) as budget:
        tasks = [graph.add(use, 10, reserve={"tokens": 60}) for _ in range(5)]
    await graph.run()
    assert [task.state for task in tasks] == ["succeeded"] * 5
    assert budget.spent == {"tokens": 50, "cost": 0, "tasks": 5}


async def test_a_task_that_never_fits_is_cancelled_with_the_reason() -> None:
    graph = TaskGraph()
    with Budget(tokens=100):
        task = graph.add(use, 1, reserve={"tokens": 101})
    await graph.run()
    assert task.state == "cancelled"
    with pytest.raises(BudgetExhausted, match="101 were asked for"):
        await task.result()


async def test_a_hard_limit_cancels_what_spends_beyond_it() -> None:
    graph = TaskGraph()
    with Budget(tokens=100) as budget:
        task = graph.add(use, 101)
    await graph.run()
    assert (task.state, budget.spent["tokens"]) == ("cancelled", 0)


async def test_the_end_of_a_budgets_seconds_cancels_what_runs() -> None:
    graph = TaskGraph()
    with Budget(seconds=0.05):
        slow = graph.add(anyio.sleep, 100)
    quick = graph.add(anyio.sleep, 0.06)
    await graph.run()
    assert (slow.state, quick.state) == ("cancelled", "succeeded")
    assert isinstance(slow.error, BudgetExhausted)


async def test_a_task_sees_when_to_wrap_up() -> None:
    async def count() -> int:
        task = current_task()
        assert task is not None
        steps = 0
        while not task.wrap_up:
            task.spend(tokens=10)
            steps += 1
        return steps

    graph = TaskGraph()
    with Budget(tokens=100, soft=0.5):
        task = graph.add(count)
    assert await graph.run(task) == 5


async def test_children_spend_from_their_parents_budget() -> None:
    async def parent() -> int:
        task = current_task()
        assert task is not None
        return sum([await task.graph.add(use, 10).result() for _ in range(3)])

    graph = TaskGraph()
    with Budget(tokens=100, tasks=4) as budget:
        top = graph.add(parent)
    await graph.run(top)
    assert budget.spent == {"tokens": 30, "cost": 0, "tasks": 4}


async def test_a_parent_that_holds_what_its_child_needs_does_not_hang() -> None:
    async def parent() -> str:
        task = current_task()
        assert task is not None
        try:
            await task.graph.add(use, 1, reserve={"tokens": 60}).result()
        except BudgetExhausted:
            return "refused"
        return "granted"

    graph = TaskGraph()
    with Budget(tokens=100):
        top = graph.add(parent, reserve={"tokens": 60})
    with anyio.fail_after(5):
        assert await graph.run(top) == "refused"


# ---- under contention --------------------------------------------------------------------------

AMOUNTS = st.integers(0, 40)
JOBS = st.lists(
    st.tuples(st.integers(0, 3), AMOUNTS, AMOUNTS, st.integers(0, 3), st.booleans()), max_size=25
)
LIMITS = st.lists(st.one_of(st.none(), st.integers(0, 100)), min_size=4, max_size=4)


class Contention:
    """Four budgets, one in the other, and tasks that compete for what is in them."""

    def __init__(
        self,
        limits: list[int | None],
        jobs: list[tuple[int, int, int, int, bool]],
        slots: int | None,
    ) -> None:
        self.budgets: list[Budget] = []
        self.tasks: list[Task[None]] = []
        self.graph = TaskGraph(limit=slots)
        self._limits, self._jobs = limits, jobs
        self._add(0)

    def _add(self, depth: int) -> None:
        if depth == len(self._limits):
            return
        limit = self._limits[depth]
        with Budget(tokens=limit, cost=None if limit is None else limit / 10) as budget:
            self.budgets.append(budget)
            for where, reserve, uses, pauses, cancel in self._jobs:
                if where == depth:
                    amounts = {"tokens": reserve, "cost": reserve / 10}
                    self.tasks.append(self.graph.add(self._job, uses, pauses, reserve=amounts))
                    if cancel:
                        self.tasks[-1].cancel()
            self._add(depth + 1)

    async def _job(self, uses: int, pauses: int) -> None:
        task = current_task()
        assert task is not None
        for _ in range(pauses):
            await checkpoint()
            self.check()
        task.spend(tokens=uses, cost=uses / 10)
        self.check()

    def check(self) -> None:
        for budget in self.budgets:
            for name, limit in budget.limits.items():
                assert budget.spent[name] + budget.reserved[name] <= limit * (1 + SLACK)

    async def run(self) -> None:
        with anyio.fail_after(10):
            await self.graph.run()
        self.check()


@given(LIMITS, JOBS, st.sampled_from([None, 2]))
def test_no_limit_is_overshot_at_any_moment_and_every_task_ends(
    limits: list[int | None],
    jobs: list[tuple[int, int, int, int, bool]],
    slots: int | None,
) -> None:
    contention = Contention(limits, jobs, slots)
    anyio.run(contention.run)
    assert {task.state for task in contention.tasks} <= {"succeeded", "cancelled"}
    for budget in contention.budgets:
        assert all(abs(amount) < 1e-6 for amount in budget.reserved.values())
