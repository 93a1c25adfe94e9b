"""What a resumed run notices of an edited program, and what makes no difference to it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator import TaskGraph

pytestmark = pytest.mark.anyio

PROGRAM = """
import os, sys, time
from orchestrator import TaskGraph

PROMPT = "Summarise {}: please"
CRASH = len(sys.argv) > 2

def clean(text):
    return text.strip()

async def ask(text):
    print("ran", text, flush=True)
    if CRASH and text == "c":
        time.sleep(float(sys.argv[2]))  # holds up the event loop, and nothing is lost all the same
        os._exit(1)
    return PROMPT.format(clean(text))

graph = TaskGraph(journal=sys.argv[1], resume=True, limit=1)
print(graph.run_sync(graph.map(ask, ["a", "b", "c"])))
"""


def test_an_edited_prompt_or_helper_runs_again_and_a_switch_does_not(tmp_path: Path) -> None:
    program = tmp_path / "program.py"

    def run(source: str, *arguments: str) -> str:
        program.write_text(source)
        command = [sys.executable, str(program), str(tmp_path / "run.db"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert run(PROGRAM, "1").split() == ["ran", "a", "ran", "b", "ran", "c"]
    assert run(PROGRAM).startswith("ran c\n['Summarise a: please',")
    assert run(PROGRAM).startswith("['Summarise a: please',")
    prompt = PROGRAM.replace("please", "now")
    assert run(prompt).count("ran") == 3
    assert "'Summarise A: now'" in run(prompt.replace("strip()", "upper()"))


class Plain:
    def __init__(self, inside: Any) -> None:
        self.inside = inside


class Slotted:
    __slots__ = ("inside",)

    def __init__(self, inside: Any) -> None:
        self.inside = inside


@pytest.mark.parametrize(
    "wrap",
    [
        Plain,
        lambda word: Plain(Plain(word)),
        lambda word: Plain({"k": [Plain(word)]}),
        lambda word: Slotted(Plain(word)),
        lambda word: [Slotted((word,))],
    ],
)
async def test_objects_count_with_all_that_is_in_them(tmp_path: Path, wrap: Any) -> None:
    async def unwrap(value: Any) -> str:
        while not isinstance(value, str):
            if isinstance(value, (list, tuple)):
                value = value[0]
            else:
                value = value["k"] if isinstance(value, dict) else value.inside
        return value

    for word in ("first", "second"):
        graph = TaskGraph(journal=tmp_path / "run.db", resume=True)
        assert await graph.run(graph.add(unwrap, wrap(word))) == word


async def test_a_task_among_the_arguments_of_a_partial_is_an_edge() -> None:
    def add(a: int, b: int, *, c: int = 0) -> int:
        return a + b + c

    graph = TaskGraph()
    one = graph.add(abs, -1)
    assert await graph.run(graph.add(partial(add, one, c=one), 3)) == 5
