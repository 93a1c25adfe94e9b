"""Kinds by name: registered, installed, out of a module or a file, with settings in the text."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidValue, UnknownName
from reasoning.registry import KindRegistry

GROUP = "parallel_reason.shapes"


@dataclass(frozen=True, kw_only=True)
class Box:
    width: int = 1
    depth: float = 1.0
    lid: bool = False
    colour: Literal["red", "blue"] = "red"
    label: str | None = None
    file: Path | None = None


class Ball:
    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError("size must be 1 or more")
        self.size = size


@pytest.fixture
def shapes() -> KindRegistry[object]:
    return KindRegistry("shape", group=GROUP, kinds={"box": Box, "ball": f"{__name__}:Ball"})


def test_a_name_with_settings_makes_an_object_with_typed_values(
    shapes: KindRegistry[object],
) -> None:
    made = shapes.make("box:width=3,depth=.5,lid=true,colour=blue,label=a=b,file=x/y")
    assert made == Box(width=3, depth=0.5, lid=True, colour="blue", label="a=b", file=Path("x/y"))
    assert shapes.make("box:label=none") == Box(label="none")  # text before none


def test_an_object_is_itself_and_a_built_in_text_is_imported(shapes: KindRegistry[object]) -> None:
    box = Box()
    assert shapes.make(box) is box
    made = shapes.make("ball", size=2)
    assert getattr(made, "size") == 2  # noqa: B009


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("box:widht=3", "did you mean 'width'"),
        ("box:width=3,width=4", "width is given twice"),
        ("box:width", "is not key=value"),
        ("box:=3", "is not key=value"),
        ("box:width=3,", "is not key=value"),
        ("box:", "ends in a colon"),
        ("box:width=many", "give a whole number"),
        ("box:depth=nan", "give a number"),
        ("box:colour=green", "give red, blue"),
        ("ball:size=0", "size must be 1 or more"),
        ("ball", "missing 1 required"),
    ],
)
def test_a_mistake_in_the_settings_is_told_by_name(
    shapes: KindRegistry[object], text: str, words: str
) -> None:
    with pytest.raises(InvalidValue, match=words):
        shapes.make(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bax", "did you mean 'box'"),
        ("", "does not exist"),
        ("nowhere_at_all:Thing", "no module 'nowhere_at_all'"),
        ("pathlib:Paht", "did you mean 'Path'"),
        ("missing.py:Thing", "no file missing.py"),
    ],
)
def test_what_does_not_exist_is_told_by_name(
    shapes: KindRegistry[object], text: str, words: str
) -> None:
    with pytest.raises(UnknownName, match=words):
        shapes.make(text)


def test_a_class_is_loaded_from_a_file_once(shapes: KindRegistry[object], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Star:\n    points: int = 5\n"
    )
    one, other = shapes.make(f"{file}:Star:points=7"), shapes.make(f"{file}:Star:points=7")
    assert one == other
    assert repr(one) == "Star(points=7)"


def test_a_registered_name_is_known_and_can_not_be_taken_twice(
    shapes: KindRegistry[object],
) -> None:
    shapes.register("sphere", Ball)
    assert shapes.names == ["box", "ball", "sphere"]
    with pytest.raises(InvalidValue, match="exists already"):
        shapes.register("box", Ball)
    with pytest.raises(InvalidValue, match="is no name"):
        shapes.register("a:b", Ball)


def test_an_entry_point_of_an_installed_package_is_found(
    shapes: KindRegistry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = metadata.EntryPoint("crate", f"{__name__}:Box", GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == GROUP else [])
    assert shapes.make("crate:width=2") == Box(width=2)
    assert "crate" in shapes.names


@given(st.integers(-(10**9), 10**9), st.booleans(), st.sampled_from(["red", "blue"]))
def test_settings_come_back_as_they_were_written(width: int, lid: bool, colour: str) -> None:
    registry: KindRegistry[object] = KindRegistry("shape", group=GROUP, kinds={"box": Box})
    text = f"box:width={width},lid={str(lid).lower()},colour={colour}"
    assert registry.make(text) == Box(width=width, lid=lid, colour=colour)  # type: ignore[arg-type]
