"""How the command line, the bench and planning are built: short lists of parameters, own names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("cli", "bench", "planning")
SOURCES = [path for folder in FOLDERS for path in (ROOT / "reasoning" / folder).glob("*.py")]
MOST_PARAMETERS = 7


def nodes(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_object_keeps_its_private_names_to_itself(path: Path) -> None:
    foreign = [
        ast.unparse(node)
        for node in nodes(path)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os"))
    ]
    assert foreign == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_function_has_more_parameters_than_a_reader_keeps_in_mind(path: Path) -> None:
    long = [
        node.name
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and len(
            [
                a
                for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                if a.arg not in ("self", "cls")
            ]
        )
        > MOST_PARAMETERS
    ]
    assert long == []


def test_a_class_name_is_used_once_in_the_project() -> None:
    packages = ("orchestrator", "pruning", "protocol", "reasoning")
    counted = Counter(
        node.name
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        for node in nodes(path)
        if isinstance(node, ast.ClassDef)
    )
    own = {node.name for path in SOURCES for node in nodes(path) if isinstance(node, ast.ClassDef)}
    assert {name for name in own if counted[name] > 1} == set()
