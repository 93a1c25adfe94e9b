"""What the code of `protocol` keeps to, so that it stays easy to enter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import protocol

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [ROOT / name for name in ("orchestrator", "pruning", "protocol", "reasoning")]
SOURCES = [*(ROOT / "protocol").rglob("*.py"), ROOT / "reasoning" / "serving.py"]
MOST_PARAMETERS = 7


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def private_accesses(module: ast.Module) -> list[str]:
    """Reads and writes of ``other._name``, where other is neither self, cls nor super()."""
    found = []
    for node in ast.walk(module):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        owner = ast.unparse(node.value)
        if owner not in ("self", "cls", "super()") and not node.attr.startswith("__"):
            found.append(f"{owner}.{node.attr}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_object_reaches_into_another_ones_private_fields(path: Path) -> None:
    assert private_accesses(tree(path)) == []


def test_private_accesses_are_found() -> None:
    code = "self._a; cls._b; super()._c(); x.__class__; other._d; self._e._f"
    assert private_accesses(ast.parse(code)) == ["other._d", "self._e._f"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_takes_many_parameters(path: Path) -> None:
    counts = {
        node.name: len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in counts.items() if count > MOST_PARAMETERS} == {}


def test_every_class_has_a_name_of_its_own() -> None:
    names = Counter(
        node.name
        for package in PACKAGES
        for path in package.rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    )
    ours = {
        node.name
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    assert {name for name in ours if names[name] > 1} == set()


def test_the_package_lists_its_exports_and_imports_them_when_used() -> None:
    assert dir(protocol) == sorted(protocol.__all__)
    code = "import sys, protocol; print({'pydantic', 'anyio', 'websockets'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
