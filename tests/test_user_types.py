"""Type checkers know the public interface: no error, no unknown, and a mistake is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ROOT / "tests" / "support" / "user_code.py"
MISTAKE = """
from reasoning import solve_sync

solve_sync("Compute 2 + 3", tempreature=0.5)
solve_sync("Compute 2 + 3", n="four")
"""
MISTYPED = """
from orchestrator import TaskGraph

tasks = TaskGraph()
tasks.add(len, "a", timeout=5)
tasks.map(len, ["a"], timeout=5)
tasks.map(pow, [1], [2], priority="high")
tasks.reduce(sum, tasks.map(len, ["a"]), retry=3)
tasks.reduce(sum, tasks.map(len, ["a"]), arity="2")
"""


def pyright(file: Path) -> list[str]:
    """What pyright complains about, in its strictest mode for what is unknown."""
    settings = file.parent / "pyrightconfig.json"
    settings.write_text(
        json.dumps(
            {
                "include": [file.name],
                "extraPaths": [str(ROOT)],
                "typeCheckingMode": "strict",
                "reportMissingTypeStubs": False,
            }
        )
    )
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, "-p", str(settings)], capture_output=True, text=True)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [f"{one['range']['start']['line'] + 1}: {one['message']}" for one in found]


@pytest.mark.slow
def test_pyright_knows_every_type_of_user_code(tmp_path: Path) -> None:
    copy = tmp_path / "user_code.py"
    copy.write_text(CODE.read_text())
    assert pyright(copy) == []


@pytest.mark.slow
def test_pyright_sees_a_misspelt_and_a_mistyped_option(tmp_path: Path) -> None:
    file = tmp_path / "mistake.py"
    file.write_text(MISTAKE)
    assert [line.split(":")[0] for line in pyright(file)] == ["4", "5"]


@pytest.mark.slow
def test_pyright_sees_a_mistyped_option_of_a_task_a_map_and_a_reduce(tmp_path: Path) -> None:
    file = tmp_path / "mistyped.py"
    file.write_text(MISTYPED)
    lines = {line.split(":")[0] for line in pyright(file) if "argument" in line.lower()}
    assert {"5", "6", "7", "8", "9"} <= lines


@pytest.mark.slow
def test_mypy_knows_every_type_of_user_code() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(CODE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
