"""Three Ray nodes as processes; a worker, a node and the driver are killed. All ends, once.

    python benchmarks/ray_nodes.py --json benchmarks/results/ray-nodes.json

The cluster is a process of its own (a head and two nodes of one processor each).  A driver, in
another process, solves problems there with the shipped model on `RayActors`, as `SolvePool` does,
and keeps them in a journal.  While it does, a worker process is killed, then one of the nodes, then
the driver itself.  The same program is begun again and goes on.  It fails unless every
problem has its result, equal to this process's own, each was committed once, and none that was
committed before the driver's death was solved again.  Then the transform for ``ray.data`` answers
the problems on the two nodes that are left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODEL = "reason-1m"
PROBLEMS = [f"Compute {number} + {number} * 3" for number in range(2, 14)]
HOW: dict[str, Any] = {"strategy": "self-consistency", "n": 2, "seed": 5}


PATIENT = {"RAY_worker_register_timeout_seconds": "300"}
"""For a busy machine."""


def solve_and_tell(model: dict[str, Any], problem: str, how: dict[str, Any]) -> Any:
    """One problem, slowly enough to be killed, with a line for each time it is done."""
    from reasoning.pool import solve_apart

    log = Path(os.environ["RAY_NODES_LOG"])
    with log.open("a") as file:
        file.write(f"begun {os.getpid()} {problem}\n")
    found = solve_apart(model, problem, how)
    time.sleep(1)
    with log.open("a") as file:
        file.write(f"done {os.getpid()} {problem}\n")
    return found


def same(report: Any) -> Any:
    return [report["answer"], report["votes"], [one["text"] for one in report["threads"]]]


# ---- the cluster, a process of its own -----------------------------------------------------------


def cluster() -> None:
    """Start three nodes; say the address; kill one where a line on stdin says so; end with it."""
    from ray._private import services
    from ray.cluster_utils import Cluster

    services.get_node = patiently(services.get_node)
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    found = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes = [found.add_node(**node) for _ in range(2)]
    print(found.address, flush=True)
    for _ in sys.stdin:
        if nodes:
            found.remove_node(nodes.pop(), allow_graceful=False)
            print("killed", flush=True)
    found.shutdown()


def patiently(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """The same, asked again for five minutes: Ray gives a node 30 s, and a busy machine more."""

    def ask(*args: Any) -> Any:
        deadline = time.monotonic() + 300
        while True:
            try:
                return get_node(*args)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    return ask


@contextmanager
def three_nodes() -> Iterator[tuple[str, Any]]:
    command = [sys.executable, __file__, "cluster"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def kill_one() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("kill\n")
        process.stdin.flush()
        said_by(process.stdout, "killed")

    try:
        yield said_by(process.stdout, ":"), kill_one
    finally:
        process.stdin.close()
        process.wait(120)


def said_by(lines: Any, what: str) -> str:
    """The first line that has this; Ray says more on stdout."""
    for line in lines:
        if what in line and " " not in line.strip():
            return str(line.strip())
    raise SystemExit("the cluster ended")


# ---- the driver ----------------------------------------------------------------------------------


def drive(address: str, journal: Path) -> None:
    import anyio

    from orchestrator import Retry, TaskGraph
    from orchestrator.executors.ray_actors import RayActors
    from reasoning.pool import LOST, PoolModel

    warnings.simplefilter("ignore")
    environment = {"env_vars": {"RAY_NODES_LOG": os.environ["RAY_NODES_LOG"]}}
    actors = RayActors(3, address=address, num_cpus=1, runtime_env=environment)
    model = vars(PoolModel(model=MODEL))

    async def run() -> list[Any]:
        graph = TaskGraph(journal=journal, resume=True)
        tasks = [
            graph.add(
                solve_and_tell,
                *(model, problem, HOW),
                key=problem,
                executor=actors,
                retry=Retry(times=5, delay=0.1, on=LOST),
            )
            for problem in PROBLEMS
        ]
        for task in tasks:
            task.on_end(lambda ended: print("ended", flush=True))
        await graph.run()
        return [same(task.value["report"]) for task in tasks]

    print(json.dumps(anyio.run(run)), flush=True)


def driver(address: str, journal: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "drive", address, str(journal)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def transform(address: str) -> list[Any]:
    """The answers of ``ray.data``'s actors."""
    import ray

    from reasoning.pool import SolveBatches

    ray.init(address, log_to_driver=False, logging_level=40)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_items([{"question": problem} for problem in PROBLEMS])
    answered = rows.map_batches(
        SolveBatches,
        fn_constructor_kwargs={"model": MODEL, **HOW},
        batch_size=3,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
    ).take_all()
    ray.shutdown()
    found = {str(row["question"]): row["answer"] for row in answered}
    return [found[problem] for problem in PROBLEMS]


# ---- the story -----------------------------------------------------------------------------------


def lines(log: Path, kind: str) -> list[list[str]]:
    said = log.read_text().splitlines() if log.exists() else []
    return [line.split(" ", 2) for line in said if line.startswith(kind)]


def until(what: Any, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            sys.exit("it hangs")
        time.sleep(0.1)


def story(folder: Path) -> dict[str, Any]:
    from reasoning.pool import PoolModel, solve_apart

    log, journal = folder / "log", folder / "run.db"
    os.environ |= {"RAY_NODES_LOG": str(log), **PATIENT}
    began = time.monotonic()
    with three_nodes() as (address, kill_node):
        first = driver(address, journal)
        until(lambda: len(lines(log, "done")) >= 2)
        os.kill(int(lines(log, "begun")[-1][1]), signal.SIGKILL)  # a worker
        until(lambda: len(lines(log, "done")) >= 4)
        kill_node()
        until(lambda: len(lines(log, "done")) >= 7)
        first.kill()
        first.wait()
        before = committed(journal)
        mark = len(lines(log, "begun"))
        second = driver(address, journal)
        said = (second.communicate(timeout=600)[0]).splitlines()
        again = [problem for _, _, problem in lines(log, "begun")[mark:]]
        answers = transform(address)
    here = [
        same(solve_apart(vars(PoolModel(model=MODEL)), problem, HOW)["report"])
        for problem in PROBLEMS
    ]
    there, after = json.loads(said[-1]), committed(journal)
    assert there == here, "other answers than in one process"
    assert sorted(after) == sorted(PROBLEMS), "something was not committed, or twice"
    assert not set(before) & set(again), "what was committed was done again"
    assert answers == [one[0] for one in here], "the transform answers otherwise"
    begun = lines(log, "begun")
    return {
        "problems": len(PROBLEMS),
        "equal_to_one_process": True,
        "committed_before_the_driver_died": len(before),
        "committed": len(after),
        "begun": len(begun),
        "done": len(lines(log, "done")),
        "processes_that_loaded": len({pid for _, pid, _ in begun}),
        "transform_equal": True,
        "seconds": round(time.monotonic() - began, 1),
    }


def committed(journal: Path) -> list[str]:
    """The keys of what a journal has as ended, as often as it has them."""
    with sqlite3.connect(journal) as base:
        found = base.execute(
            "SELECT key FROM results JOIN tasks ON task = id WHERE state = 'succeeded'"
        )
        return [key for (key,) in found]


def main() -> None:
    if sys.argv[1:2] == ["cluster"]:
        return cluster()
    if sys.argv[1:2] == ["drive"]:
        return drive(sys.argv[2], Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {"schema": "reason.benchmark.ray-nodes/1", **story(Path(folder))}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
