"""Networks that fail and processes that are killed: nothing is lost, nothing is committed twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HARNESS = Path(__file__).parents[2] / "benchmarks" / "faults.py"
SCHEDULES = 20


def test_no_result_is_lost_or_committed_twice_whatever_fails(tmp_path: Path) -> None:
    """A seed that fails is played again by ``python benchmarks/faults.py --seed N --verbose``."""
    totals = tmp_path / "totals.json"
    done = subprocess.run(
        [
            sys.executable,
            HARNESS,
            "--schedules",
            str(SCHEDULES),
            "--parallel",
            "4",
            "--json",
            totals,
        ],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(totals.read_text())
    assert (found["lost"], found["double_committed"], found["failed_seeds"]) == (0, 0, [])
    assert found["schedules"] == SCHEDULES
    assert found["executions"] < 1.2 * found["tasks"]  # what workers have done is taken over
    assert found["overlaps"] <= 1  # a machine that is busy may let a worker stop too late
    kinds = {"cut", "mute", "drop", "double", "swap", "delay"}
    kinds |= {"kill hub", "kill worker", "kill client", "stop worker"}
    assert kinds <= found["faults"].keys()
