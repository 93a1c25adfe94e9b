"""Tasks on a real local Ray: results, errors, cancellation, and workers that are killed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from orchestrator import Retry, TaskCancelled, TaskGraph, Timeout
from orchestrator.errors import InvalidValue
from orchestrator.executors.ray import Ray
from orchestrator.executors.ray_actors import RayActors

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ray]:
    import ray

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("RAY_worker_niceness", "0")  # else other programs go first
        ray.init(
            num_cpus=2,
            num_gpus=1,  # a number: nothing here uses one
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
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
    page = Path(__file__).parents[2] / "docs" / "how-to" / "ray.md"
    program, *_ = re.findall(r"^```py\n(.*?)^```", page.read_text(), re.S | re.M)
    (tmp_path / "program.py").write_text(program)
    done = await anyio.run_process([sys.executable, str(tmp_path / "program.py")])
    assert done.stdout.decode().split("\n")[-2] == "[0, 1, 4, 9]"


class Adder:
    """A class whose instances have a method."""

    def __init__(self, first: int = 1) -> None:
        self.first = first

    def add(self, second: int) -> int:
        return self.first + second


CALLABLES: dict[str, tuple[Callable[..., object], object]] = {
    "function": (partial(add, 1), 3),
    "lambda": (lambda number: number * 2, 4),
    "method": (Adder(5).add, 7),
    "builtin": (abs, 2),
    "class": (complex, 2 + 0j),
    "method of a builtin": ("ab".__mul__, "abab"),
}


@pytest.mark.parametrize("kind", CALLABLES)
async def test_what_can_be_called_here_can_be_called_there(cluster: Ray, kind: str) -> None:
    function, expected = CALLABLES[kind]
    graph = TaskGraph()
    timed, plain = (
        graph.add(function, 2, executor=cluster, timeout=timeout)
        for timeout in (Timeout(run=100), None)
    )
    await graph.run()
    assert timed.value == plain.value == expected


async def test_a_limit_of_time_is_for_the_call_and_not_for_ray_s_queue(cluster: Ray) -> None:
    graph = TaskGraph()
    limit = Timeout(run=3.0)
    naps = [graph.add(time.sleep, 0.8, executor=cluster, timeout=limit) for _ in range(10)]
    endless = graph.add(time.sleep, 600, executor=cluster, timeout=limit)
    endless.acknowledge()
    await graph.run()
    assert [nap.state for nap in naps] == ["succeeded"] * 10
    assert isinstance(endless.error, TimeoutError)
    assert not endless.leaked


async def test_large_values_go_from_task_to_task_by_reference(
    cluster: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    puts: list[object] = []
    put = ray.put
    monkeypatch.setattr(ray, "put", lambda value: (puts.append(value), put(value))[1])
    graph = TaskGraph()
    made = graph.add(bytes, 200_000, executor=cluster)
    given = b"x" * 300_000
    sizes = [graph.add(len, made, executor=cluster) for _ in range(3)]
    sizes += [graph.add(len, given, executor=cluster) for _ in range(3)]
    await graph.run()
    assert [one.value for one in sizes] == [200_000] * 3 + [300_000] * 3
    assert puts == [given]  # once, and what was made there not at all


async def test_many_calls_are_cancelled_together(cluster: Ray) -> None:
    graph = TaskGraph()
    async with graph:
        tasks = [graph.add(time.sleep, 600, executor=cluster) for _ in range(60)]
        with anyio.fail_after(60):
            await anyio.sleep(1)
            for task in tasks:
                task.cancel()
            for task in tasks:
                await task.wait()
    assert not any(task.leaked for task in tasks)


_loads: list[str] = []


def load_and_tell() -> tuple[int, int]:
    _loads.append("a model")
    return os.getpid(), len(_loads)


async def test_what_a_call_on_an_actor_loads_the_next_one_finds(
    cluster: Ray, tmp_path: Path
) -> None:
    actors = RayActors(1, num_gpus=1)
    graph = TaskGraph()
    tasks = [graph.add(load_and_tell, executor=actors) for _ in range(3)]
    await graph.run()
    assert sorted(task.value[1] for task in tasks) == [1, 2, 3]
    graph = TaskGraph()
    graph.add(refuse, 1, executor=actors)
    with pytest.raises(KeyError, match="on purpose"):
        await graph.run()
    graph = TaskGraph()
    retry = Retry(times=2, delay=0.01, on=("RayActorError",))
    killed = graph.add(die_once, str(tmp_path), executor=actors, retry=retry)
    assert await graph.run(killed) == "second life"
    graph = TaskGraph()
    assert (await graph.run(graph.add(load_and_tell, executor=actors)))[1] == 1


async def test_a_call_does_not_wait_for_an_actor_without_room(cluster: Ray) -> None:
    """Two processors for eight actors: what comes up first has all calls."""
    for size in (8, None):
        graph = TaskGraph()
        actors = RayActors(size)
        tasks = [graph.add(load_and_tell, executor=actors) for _ in range(12)]
        with anyio.fail_after(300):
            await graph.run()
        assert len({task.value[0] for task in tasks}) <= 2
        del graph, tasks, actors


async def test_actors_that_died_while_nobody_called_cost_no_attempt(cluster: Ray) -> None:
    actors = RayActors(1)
    graph = TaskGraph()
    pid = await graph.run(graph.add(whoami, executor=actors))
    os.kill(pid, signal.SIGKILL)
    graph = TaskGraph()
    assert await graph.run(graph.add(whoami, executor=actors)) != pid


def test_actors_of_an_event_loop_that_ended_make_room(cluster: Ray) -> None:
    actors = RayActors(2)

    async def once() -> int:
        graph = TaskGraph()
        return int(await graph.run(graph.add(add, 1, 1, executor=actors)))

    assert [anyio.run(once) for _ in range(3)] == [2, 2, 2]


async def test_a_cancelled_call_ends_its_actor_and_the_next_gets_another(
    cluster: Ray, tmp_path: Path
) -> None:
    actors = RayActors(1)
    graph = TaskGraph()
    limit = Timeout(run=2.0)
    async with graph:
        endless = graph.add(sleep_and_leave, str(tmp_path), executor=actors, timeout=limit)
        endless.acknowledge()
        other = graph.add(add, 1, 1, executor=actors)
        with anyio.fail_after(60):
            assert await other.result() == 2
    assert isinstance(endless.error, TimeoutError)
    assert not endless.leaked
    assert not (tmp_path / "ended").exists()


async def test_what_ray_would_do_by_itself_is_refused(cluster: Ray) -> None:
    with pytest.raises(InvalidValue, match="retries stay off"):
        Ray(max_retries=3)
    with pytest.raises(InvalidValue, match="1 or more"):
        RayActors(0)

    async def coroutine() -> None: ...

    graph = TaskGraph()
    graph.add(coroutine, executor=cluster)
    with pytest.raises(InvalidValue, match="asynchronous"):
        await graph.run()


JOINS = """
import sys
from orchestrator import TaskGraph
from orchestrator.executors.ray import Ray

graph = TaskGraph()
try:
    print(graph.run_sync(graph.add(max, 1, 2, executor=Ray(address=sys.argv[1]))))
except ValueError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


async def test_a_cluster_with_a_token_takes_who_has_it(tmp_path: Path) -> None:
    def told(**more: str) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if "RAY_" not in name}
        return {**known, "HOME": str(tmp_path), **more}

    found: dict[int, tuple[int, str]] = {}

    async def join(number: int, more: dict[str, str]) -> None:
        command = [sys.executable, "-c", JOINS, address]
        done = await anyio.run_process(command, env=told(**more), check=False)
        last = (done.stdout + done.stderr).decode().strip().split("\n")[-1]
        found[number] = done.returncode, last

    token, mode = {"RAY_AUTH_TOKEN": "right" * 8}, {"RAY_AUTH_MODE": "token"}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--port=0"]
    command += ["--num-cpus=1", "--include-dashboard=false", "--object-store-memory=80000000"]
    folder = tempfile.mkdtemp(dir="/tmp")  # Ray's sockets need a short path
    command += ["--disable-usage-stats", "--block", f"--temp-dir={folder}"]
    async with await anyio.open_process(command, env=told(**mode, **token)) as head:
        assert head.stdout is not None
        said = ""
        async for piece in head.stdout:
            said += piece.decode()
            if named := re.search(r"--address='(.*?)'", said):
                address = named[1]
                break
        asking = [{**mode, **token}, mode, {**mode, "RAY_AUTH_TOKEN": "wrong" * 8}]
        async with anyio.create_task_group() as group:  # the wrong one takes Ray 20 s
            for number, one in enumerate(asking):
                group.start_soon(join, number, one)
        assert found.pop(0) == (0, "2")
        for code, line in found.values():
            assert code == 1
            assert line.startswith(f"InvalidValue: address: {address} is no Ray cluster")
            assert "RAY_AUTH_MODE=token" in line
        head.terminate()
    shutil.rmtree(folder, ignore_errors=True)
