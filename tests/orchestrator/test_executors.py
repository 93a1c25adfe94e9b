"""Work in other processes: refused, killed, tried again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


def test_a_program_that_workers_can_not_import_is_told_why(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from orchestrator import Processes, TaskGraph\n"
        "if __name__ != '__main__':\n"
        "    raise KeyError('no settings')\n"
        "else:\n"
        "    graph = TaskGraph()\n"
        "    graph.add(len, 'abc', executor=Processes(1))\n"
        "    graph.run_sync()\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "can't import this program (KeyError: 'no settings'); put what only" in done.stderr
