"""Other packages have modules that are called as ours; whoever has both is told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reasoning.foreign import in_our_place

ROOT = Path(__file__).parents[2]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run some code by an interpreter that finds a folder's modules before ours."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("orchestrator", ["--version"]),
        ("protocol", ["token", "list"]),
        ("pruning", ["solve", "Compute 1 + 1", "--quiet"]),
    ],
)
def test_a_foreign_module_in_our_place_is_one_line(
    name: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    done = run(f"from reasoning.cli import main; main({words!r}, prog_name='reason')", tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / name) in line
    assert "environment of its own" in line


def test_from_python_the_error_says_it(tmp_path: Path) -> None:
    (tmp_path / "orchestrator.py").write_text("")
    done = run("from reasoning import solve_sync", tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: orchestrator (")
    assert str(tmp_path) in last


def test_what_else_is_missing_is_not_called_foreign() -> None:
    assert in_our_place(ModuleNotFoundError("No module named 'torch'", name="torch")) is None
