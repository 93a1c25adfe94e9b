"""The rooms of engine, backends and plugin: private is private, and a room is small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import reasoning

ROOMS = ("engine", "backends", "vllm_plugin")
HOUSE = Path(reasoning.__file__).parent
FOREIGN = {("vllm_plugin/__init__.py", "_registry")}
"""Private names of vLLM that it gives no other way to."""


def files(room: str) -> list[Path]:
    return sorted((HOUSE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_nobody_reaches_into_anothers_private_fields(room: str) -> None:
    found = [
        (f"{path.relative_to(HOUSE)}", node.attr)
        for path in files(room)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and _is_private(node)
    ]
    assert set(found) <= FOREIGN


def _is_private(node: ast.Attribute) -> bool:
    owner = node.value
    own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
    inherited = isinstance(owner, ast.Call) and ast.unparse(owner.func) == "super"
    name = node.attr
    return name.startswith("_") and name[:2] != "__" and name != "_replace" and not own | inherited


@pytest.mark.parametrize("room", ROOMS)
def test_no_folder_of_a_room_has_more_than_ten_modules(room: str) -> None:
    for folder in {path.parent for path in files(room)}:
        assert len([one for one in folder.glob("*.py") if one.name != "__init__.py"]) <= 10
