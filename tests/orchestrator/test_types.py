"""What a type checker sees of a graph: handles know their values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
from typing import assert_type

from orchestrator import Joined, Task, TaskGraph, join


async def word(number: int) -> str:
    return "a" * number


def length(word: str) -> int:
    return len(word)


async def numbers() -> list[int]:
    return [1, 2]


def total(items: list[int]) -> float:
    return sum(items)


async def main() -> None:
    graph = TaskGraph()
    first = graph.add(word, 3)
    assert_type(first, Task[str])
    assert_type(graph.add(length, first), Task[int])
    words = graph.map(word, graph.add(numbers))
    assert_type(words, Task[list[str]])
    assert_type(graph.map(length, ["a"]), Task[list[int]])
    assert_type(graph.reduce(total, graph.add(numbers)), Task[float])
    assert_type(await graph.run(first), str)
    assert_type(first.value, str)
    assert_type(await first.result(), str)
    assert_type(await join([first]), Joined[str])
    assert_type(graph.run_sync(words), list[str])


graph = TaskGraph()
graph.map(length, graph.add(numbers))  # numbers are no words
"""


@pytest.mark.slow
def test_a_handle_is_typed_and_a_map_over_the_wrong_items_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    complaints = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(complaints) == 1, done.stdout + done.stderr
    assert "map" in complaints[0]
    assert f"program.py:{len(PROGRAM.splitlines())}:" in complaints[0]
