"""The plan of the house: who may import whom, what stays private, and what an import loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

import orchestrator
import protocol
import pruning
import reasoning

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "orchestrator": {"orchestrator"},
    "pruning": {"pruning"},
    "protocol": {"protocol", "orchestrator"},
    "reasoning": {"reasoning", "orchestrator", "pruning", "protocol"},
}
FLOORS = (
    {"values", "errors", "foreign", "registry", "user_cache"},
    {"keywords", "problems", "engine", "policies"},
    {"language", "judging"},
    {"backends"},
    {"models", "vllm_plugin"},
    {"run", "planning"},
    {"strategies"},
    {"options"},
    {"many"},
    {"solver"},
    {"runs", "pool"},
    {"serving", "evaluation", "training"},
    {"integrations"},
    {"cli"},
)
"""The rooms of `reasoning`: one imports, at its start, only from floors below."""
TYPES_THAT_KNOW_EACH_OTHER = (
    {"reasoning.run.run", "reasoning.run.thread"},
    {"reasoning.vllm_plugin.attention.kernel", "reasoning.vllm_plugin.attention.tables"},
)
"""Circles for type checking alone, beside that of a graph, its nodes and its scheduler."""
FOREIGN = {"_replace", "_registry", "_exit"}
"""Private in name only: of named tuples, of vLLM, of `os`."""
MOST_FILES = 12

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ALLOWED
    for path in sorted((ROOT / package).rglob("*.py"))
}
sources = pytest.mark.parametrize("path", SOURCES.values(), ids=SOURCES)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(node: ast.AST, *, types: bool) -> Iterator[ast.ImportFrom | ast.Import]:
    """What a module imports at its start, and with ``types`` what only type checkers do."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom | ast.Import):
            yield child
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif types or not (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        ):
            yield from imports(child, types=types)


def imported(name: str, *, types: bool = False) -> set[str]:
    """The project's modules that a module imports."""
    found = set()
    for node in imports(tree(SOURCES[name]), types=types):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in SOURCES else str(node.module) for one in names}
    return found & SOURCES.keys() - {name}


def circles(*, types: bool) -> list[set[str]]:
    edges = [(name, other) for name in SOURCES for other in imported(name, types=types)]
    found = nx.strongly_connected_components(nx.DiGraph(edges))
    return [circle for circle in found if len(circle) > 1]


def modules_after(code: str) -> set[str]:
    """The modules that are loaded once a new interpreter has run some code."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@sources
def test_imports_point_one_way_between_packages(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert str(node.module).split(".")[0] not in ALLOWED.keys() - ALLOWED[package]


def test_a_room_of_reasoning_imports_from_floors_below() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for name in SOURCES:
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        if package != "reasoning" or room in ("", "__main__"):
            continue
        others = {one.split(".")[1] for one in imported(name) if one.startswith("reasoning.")}
        assert {one for one in others - {room} if floor[one] >= floor[room]} == set(), name


def test_no_modules_import_each_other() -> None:
    assert circles(types=False) == []


def test_few_modules_need_each_others_types() -> None:
    for circle in circles(types=True):
        graph = {name for name in circle if name.startswith("orchestrator.")}
        assert circle == graph or circle in TYPES_THAT_KNOW_EACH_OTHER


def test_a_class_name_is_used_once() -> None:
    classes = (
        node.name
        for path in SOURCES.values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in Counter(classes).items() if count > 1] == []


def private_accesses(node: ast.AST) -> list[str]:
    """Reads and writes of a private field of something that is not the object itself."""
    return [
        ast.unparse(one)
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute)
        and one.attr.startswith("_")
        and not one.attr.startswith("__")
        and one.attr not in FOREIGN
        and ast.unparse(one.value) not in ("self", "cls", "super()")
    ]


def test_private_accesses_are_found() -> None:
    code = "self._a; cls._b; super()._c(); x.__class__; other._d; self._e._f"
    assert private_accesses(ast.parse(code)) == ["other._d", "self._e._f"]


@sources
def test_no_object_touches_the_private_fields_of_another(path: Path) -> None:
    assert private_accesses(tree(path)) == []


def polling(module: ast.Module) -> list[int]:
    """Lines of loops that only let others run, or sleep for a moment, until something is there."""
    found = []
    for loop in ast.walk(module):
        if isinstance(loop, ast.While):
            awaited = [
                ast.unparse(one.value) for one in ast.walk(loop) if isinstance(one, ast.Await)
            ]
            idle = re.compile(r"[\w.]*\b(checkpoint\(\)|sleep\([\d.]*\))")
            if awaited and all(idle.fullmatch(one) for one in awaited):
                found.append(loop.lineno)
    return found


@sources
def test_whoever_waits_is_woken_and_does_not_poll(path: Path) -> None:
    assert polling(tree(path)) == []


def test_a_folder_has_few_files() -> None:
    folders = Counter(path.parent for path in SOURCES.values() if path.name != "__init__.py")
    assert {str(one): count for one, count in folders.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("package", [orchestrator, pruning, protocol, reasoning])
def test_dir_shows_what_a_package_exports(package: object) -> None:
    names = dir(package)
    assert names == sorted(set(names))
    assert [name for name in names if getattr(package, name, None) is None] == []


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import orchestrator", {"anyio", "pydantic", "sqlite3", "networkx"}),
        ("import pruning", {"anyio", "pydantic", "networkx"}),
        ("import protocol", {"anyio", "pydantic", "websockets"}),
        ("import reasoning", {"anyio", "pydantic", "torch", "numpy", "rich"}),
        ("import reasoning.cli", {"torch", "transformers", "rich", "pydantic", "networkx"}),
        ("import reasoning.vllm_plugin.backend", {"torch", "vllm"}),  # its refusals come at once
        (
            "import reasoning.solver, reasoning.models.embedded",
            {
                "reasoning.training.loop",
                "reasoning.judging.judge",
                "reasoning.evaluation",
                "sklearn",
            },
        ),
    ],
)
def test_an_import_loads_nothing_that_it_does_not_need(code: str, heavy: set[str]) -> None:
    assert modules_after(code) & heavy == set()


def test_a_graph_runs_without_pydantic_or_networkx() -> None:
    code = """
from orchestrator import Budget, Retry, TaskGraph, Timeout

async def nothing(*_): pass

graph = TaskGraph(limit=2)
with Budget(tasks=9):
    graph.add(nothing, graph.add(nothing, retry=Retry(), timeout=Timeout(run=9)), name="second")
graph.run_sync()
assert set(graph.states().values()) == {"succeeded"}
"""
    assert modules_after(code) & {"pydantic", "pydantic_core", "networkx", "sqlite3"} == set()
