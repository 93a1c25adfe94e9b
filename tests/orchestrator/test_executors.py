"""Work in other processes: refused, killed, tried again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from orchestrator import Processes, Retry, TaskGraph
from orchestrator.errors import InvalidValue

pytestmark = pytest.mark.anyio


def die_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second life"


async def test_processes_refuse_what_is_asynchronous() -> None:
    graph = TaskGraph()
    graph.add(anyio.sleep, 0, executor=Processes(1))
    with pytest.raises(InvalidValue, match="plain function"):
        await graph.run()


async def test_a_process_that_was_killed_is_retried_and_committed_once(tmp_path: Path) -> None:
    pool, retry = Processes(1), Retry(times=1, delay=0, on=("BrokenWorkerProcess",))
    mark = tmp_path / "died"
    for _ in range(2):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        task = graph.add(die_once, str(mark), executor=pool, retry=retry)
        assert await graph.run(task) == "second life"
        assert len(graph.record().tasks[0].attempts) == 2
        mark.unlink(missing_ok=True)
    assert not mark.exists()
