"""How the package is built: private means private, and what an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "orchestrator").rglob("*.py"))
OWN = {"self", "cls"}


def private_accesses(source: str) -> list[str]:
    """Where code reads or writes a private field of something that is not itself."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in OWN)
    ]


def test_a_private_access_is_found_by_its_line() -> None:
    code = "def f(self, other):\n    self._own = other._hidden\n    return other.open, self.a._b"
    assert private_accesses(code) == ["2: other._hidden", "3: self.a._b"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_object_touches_the_private_fields_of_another(path: Path) -> None:
    assert private_accesses(path.read_text(encoding="utf-8")) == []


def modules_after(code: str) -> set[str]:
    """The modules that are loaded once a new interpreter has run some code."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_none_of_its_dependencies() -> None:
    assert (
        modules_after("import orchestrator") & {"anyio", "asyncio", "pydantic", "sqlite3"} == set()
    )


def test_a_graph_runs_without_pydantic_or_networkx() -> None:
    code = """
import anyio
from orchestrator import Budget, Retry, TaskGraph, Timeout, join

async def nothing(*_): pass

graph = TaskGraph(limit=2)
with Budget(tasks=9):
    graph.add(nothing, graph.add(nothing, retry=Retry(), timeout=Timeout(run=9)), name="second")
graph.run_sync()
assert set(graph.states().values()) == {"succeeded"}
"""
    assert (
        modules_after(code) & {"pydantic", "pydantic_core", "networkx", "cel", "sqlite3"} == set()
    )


def test_dir_shows_what_the_package_exports() -> None:
    assert dir(orchestrator) == sorted(orchestrator.__all__)
    assert "TaskGraph" in dir(orchestrator)
