"""The layering of the packages: who may import whom, and what stays out of a quick start."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "orchestrator": {"orchestrator"},
    "pruning": {"pruning"},
    "protocol": {"protocol", "orchestrator"},
    "reasoning": {"reasoning", "orchestrator", "pruning", "protocol"},
}
HEAVY = ("torch", "transformers", "rich", "pydantic", "networkx")

SOURCES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))


def imported(source: Path) -> set[str]:
    """The top-level packages that a file imports anywhere, even for typing only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: imports are absolute"
            assert node.module is not None
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str) -> None:
    sources = [source for source in SOURCES if source.is_relative_to(ROOT / package)]
    assert sources
    wrong = {
        str(source.relative_to(ROOT)): sorted(extra)
        for source in sources
        if (extra := imported(source) & ALLOWED.keys() - ALLOWED[package])
    }
    assert wrong == {}


@pytest.mark.parametrize("package", ["orchestrator", "pruning", "protocol"])
def test_every_public_name_exists_and_is_listed_once(package: str) -> None:
    module = importlib.import_module(package)
    names = module.__all__
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(set(names)) == len(names)


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = f"import sys, reasoning.cli; print(*[n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
