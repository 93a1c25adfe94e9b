"""The same function here and in worker processes; one that dies is tried again."""

import os
import signal
import tempfile
from pathlib import Path

from orchestrator import Processes, Retry, TaskGraph


def primes(below: int) -> int:
    """How many there are: work that keeps a core busy."""
    return sum(all(n % k for k in range(2, int(n**0.5) + 1)) for n in range(2, below))


def die_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second life"


def main(folder: str) -> None:
    graph, pool = TaskGraph(), Processes(2)
    here = graph.add(primes, 1000)
    there = graph.add(primes, 1000, executor=pool)
    retry = Retry(times=2, delay=0.01, on=("BrokenWorkerProcess",))
    killed = graph.add(die_once, f"{folder}/died", executor=pool, retry=retry)
    print(graph.run_sync(here), there.value, killed.value)
    print("attempts:", [len(task.attempts) for task in graph.record().tasks])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(name)
