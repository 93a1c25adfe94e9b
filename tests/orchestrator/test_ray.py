"""Tasks on a real local Ray: results, errors, cancellation, and workers that are killed."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from orchestrator import Retry, TaskCancelled, TaskGraph
from orchestrator.errors import InvalidValue
from orchestrator.executors.ray import Ray

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ray]:
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        yield Ray()
        ray.shutdown()


def add(a: int, b: int) -> int:
    return a + b


def whoami() -> int:
    return os.getpid()


def refuse(_: int) -> int:
    raise KeyError("on purpose")


def sleep_and_leave(folder: str) -> None:
    Path(folder, "began").touch()
    for _ in range(600):
        time.sleep(0.1)
    Path(folder, "ended").touch()


def die_once(folder: str) -> str:
    mark = Path(folder, "died")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second life"


async def test_values_travel_to_other_processes_and_back(cluster: Ray) -> None:
    graph = TaskGraph()
    first = graph.add(add, 1, 2, executor=cluster)
    second = graph.add(add, first, 10, executor=cluster)
    elsewhere = graph.add(whoami, executor=cluster)
    assert await graph.run(second) == 13
    assert elsewhere.value != os.getpid()


async def test_an_error_arrives_as_its_own_type(cluster: Ray) -> None:
    graph = TaskGraph()
    graph.add(refuse, 1, executor=cluster)
    with pytest.raises(KeyError, match="on purpose"):
        await graph.run()


async def test_cancelling_a_task_stops_it_where_it_runs(cluster: Ray, tmp_path: Path) -> None:
    graph = TaskGraph()
    async with graph:
        task = graph.add(sleep_and_leave, str(tmp_path), executor=cluster)
        with anyio.fail_after(30):
            began = anyio.Path(tmp_path / "began")
            while not await began.exists():  # noqa: ASYNC110 (another process makes it)
                await anyio.sleep(0.05)
            task.cancel()
            with pytest.raises(TaskCancelled):
                await task.result()
        other = graph.add(add, 1, 1, executor=cluster)
        assert await other.result() == 2
    assert not task.leaked
    assert not (tmp_path / "ended").exists()


async def test_a_killed_worker_is_retried_and_its_result_committed_once(
    cluster: Ray, tmp_path: Path
) -> None:
    def build() -> TaskGraph:
        return TaskGraph(journal=tmp_path / "run.db", resume=True)

    graph = build()
    retry = Retry(times=2, delay=0.01, on=("WorkerCrashedError",))
    task = graph.add(die_once, str(tmp_path), executor=cluster, retry=retry)
    assert await graph.run(task) == "second life"
    assert [attempt.error is None for attempt in graph.record().tasks[0].attempts] == [False, True]
    again = build()
    task = again.add(die_once, str(tmp_path), executor=cluster, retry=retry)
    (tmp_path / "died").unlink()
    assert await again.run(task) == "second life"
    assert not (tmp_path / "died").exists()


async def test_the_documented_program_runs(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "task-graph.md"
    (program,) = re.findall(r"^```py\n(.*?)^```", page.read_text(), re.S | re.M)
    (tmp_path / "program.py").write_text(program)
    done = await anyio.run_process([sys.executable, str(tmp_path / "program.py")])
    assert done.stdout.decode().split("\n")[-2] == "[0, 1, 4, 9]"


async def test_what_ray_would_do_by_itself_is_refused(cluster: Ray) -> None:
    with pytest.raises(InvalidValue, match="retries stay off"):
        Ray(max_retries=3)

    async def coroutine() -> None: ...

    graph = TaskGraph()
    graph.add(coroutine, executor=cluster)
    with pytest.raises(InvalidValue, match="asynchronous"):
        await graph.run()
