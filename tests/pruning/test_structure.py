"""Private means private, few parameters, short functions: in pruning, judging and training."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("pruning", "reasoning/judging", "reasoning/training")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
files = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, FUNCTIONS):
            yield node


@files
def test_private_names_are_used_through_self_or_cls_alone(path: Path) -> None:
    wrong = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr != "_replace"  # public, of a named tuple
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]
    assert wrong == []


@files
def test_a_function_has_few_parameters_and_lines(path: Path) -> None:
    for function in functions(path):
        arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        names = [one.arg for one in arguments if one.arg not in ("self", "cls")]
        assert len(names) <= 7, function.name
        assert function.end_lineno is not None
        assert function.end_lineno - function.lineno < 50, function.name


def test_a_class_name_is_used_once() -> None:
    names = [
        node.name
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted(names) == sorted(set(names))
