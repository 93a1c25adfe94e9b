"""Whole problems in other processes: the same answers, none lost, none solved twice."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Processes
from reasoning import Reasoner, load_model
from reasoning.pool import PoolModel, PoolResult, SolveBatches, SolvePool, solve_apart

pytestmark = pytest.mark.anyio

PROBLEMS = [f"Compute {number} + {number} * 3" for number in range(2, 8)]
HOW: dict[str, Any] = {"strategy": "self-consistency", "n": 3, "seed": 5}
MODEL = PoolModel(model="reason-1m")


def same(report: Any) -> Any:
    return report["answer"], report["votes"], [one["text"] for one in report["threads"]]


async def here() -> list[Any]:
    async with Reasoner(load_model("reason-1m")) as reasoner:
        return [same((await reasoner.solve(one, **HOW)).to_dict()) for one in PROBLEMS]


async def test_a_pool_solves_as_one_process_does_and_goes_on_where_it_was(tmp_path: Path) -> None:
    ended: list[int] = []
    pool = SolvePool(executor=Processes(2), model=MODEL, journal=tmp_path / "pool.db")
    results = await pool.solve_many(PROBLEMS, ended=lambda place, _: ended.append(place), **HOW)
    assert [same(one.report) for one in results] == await here()
    assert sorted(ended) == list(range(len(PROBLEMS)))

    class Nowhere:
        """An executor that must not be asked."""

        async def call(self, *arguments: Any) -> Any:
            raise AssertionError(arguments)

    again = SolvePool(executor=Nowhere(), model=MODEL, journal=tmp_path / "pool.db")
    assert await again.solve_many(PROBLEMS, **HOW) == results


async def test_a_problem_that_fails_costs_no_other() -> None:
    pool = SolvePool(executor=Processes(1), model=MODEL)
    good, bad = await pool.solve_many([PROBLEMS[0], "What is love?"], **HOW)
    assert good.report is not None
    assert bad == PoolResult(problem="What is love?", error=bad.error)
    assert "name a model" in (bad.error or "")


class Mortal:
    """Processes of which one kills itself before each of the first calls."""

    def __init__(self, deaths: int) -> None:
        self._processes = Processes(1)
        self._deaths = deaths

    async def call(self, task: Any, function: Any, args: Any, kwargs: Any) -> Any:
        if self._deaths:
            self._deaths -= 1
            return await self._processes.call(task, die, (), {})
        return await self._processes.call(task, function, args, kwargs)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_problems_of_a_lost_process_are_begun_again() -> None:
    pool = SolvePool(executor=Mortal(2), model=MODEL)
    (result,) = await pool.solve_many(PROBLEMS[:1], **HOW)
    assert result.report is not None
    (result,) = await SolvePool(executor=Mortal(9), model=MODEL).solve_many(PROBLEMS[:1], **HOW)
    assert "BrokenWorkerProcess" in (result.error or "")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
async def test_a_pool_on_ray_solves_alike() -> None:
    import ray

    from orchestrator.executors.ray import Ray
    from orchestrator.executors.ray_actors import RayActors

    ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level=40)
    try:
        pool = SolvePool(executor=Ray(num_gpus=1), model=MODEL)
        assert isinstance(pool.executor, RayActors), "a task with GPUs has a process of its own"
        results = await pool.solve_many(PROBLEMS, **HOW)
    finally:
        ray.shutdown()
    assert [same(one.report) for one in results] == await here()


def test_a_transform_puts_answers_beside_questions() -> None:
    transform = SolveBatches(model="reason-1m", column="asked", **HOW)
    batch = transform({"asked": PROBLEMS[:2], "id": [7, 8]})
    assert batch["id"] == [7, 8]
    expected = [solve_apart(asdict(MODEL), one, HOW)["report"] for one in PROBLEMS[:2]]
    assert batch["answer"] == [one["answer"] for one in expected]
