"""The tree of threads: what a person reads at any width, and nothing that a terminal obeys."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from orchestrator import TaskAdded, TaskEnded, TaskStarted
from reasoning.cli.tree import ThreadTree
from reasoning.run.thread import TextGenerated, ThreadConcluded


def tree(width: int, *texts: tuple[str, str | None, Any]) -> str:
    """What is printed at the end of samples with these texts, answers and endings."""
    shown = ThreadTree(quiet=False)
    out = io.StringIO()
    shown._console = Console(file=out, width=width, force_terminal=True, color_system=None)
    for number, (text, answer, ending) in enumerate(texts, start=1):
        id = str(number)
        shown.listen(TaskAdded(task=id, name="sample", parent=None, after=()))
        shown.listen(TaskStarted(task=id))
        shown.listen(TextGenerated(task=id, text=text))
        if ending is not None:
            shown.listen(ThreadConcluded(task=id, answer=answer, vote=answer, ending=ending))
        shown.listen(TaskEnded(task=id, work=1, state="succeeded" if ending else "cancelled"))
    shown.print()
    return out.getvalue()


SAMPLES: tuple[tuple[str, str | None, Any], ...] = (
    ("so it is \\boxed{42}", "42", "end"),
    ("it is \\boxed{42} and so on", "42", "repeats"),
    ("well", None, "max-new-tokens"),
    ("an unfinished thought", None, None),
    ("素数は無限に存在する" * 9, "無限に存在することが証明された" * 5, "end"),
)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_answers_votes_and_reasons_are_there_at_any_width(width: int) -> None:
    printed = tree(width, *SAMPLES)
    assert all(cell_len(line) < width for line in printed.splitlines())
    words = " ".join(printed.split())
    for said in ("→ 42", "repeats itself", "cut at its most tokens", "votes: 42 ×2"):
        assert said in words or width == 20
    assert "証明された" in words.replace(" ", "")


@pytest.mark.parametrize("evil", ["\x1b[2J\x1b]0;x\x07", "\x9b2J", "a\x08\x08b", "\u202eabc"])
def test_what_would_command_a_terminal_is_shown(evil: str) -> None:
    printed = tree(80, (evil, evil, "end"), (evil, None, None))
    assert not set(evil) - set("abcx2J0;[]") & set(printed)


def generated(*, ends: bool, unbounded: int = 4096) -> str:
    """What is on stderr, which is no terminal, while a thread writes for 30 seconds."""
    now = [0.0]
    shown = ThreadTree(quiet=False, unbounded=unbounded, clock=lambda: now[0])
    out = io.StringIO()
    shown._console = Console(file=out, width=80)
    for id in ("1", "2"):
        shown.listen(TaskAdded(task=id, name="sample", parent=None, after=()))
    if ends:
        shown.listen(ThreadConcluded(task="2", answer="7", vote="7", ending="end"))
    for second in range(31):
        now[0] = float(second)
        shown.listen(TextGenerated(task="1", text="so "))
    return out.getvalue()


def test_it_is_said_once_that_no_thread_ends_and_what_would_bound_them() -> None:
    (line,) = generated(ends=False).splitlines()
    assert line.startswith("no thread has ended yet; 21 tokens, 1 a second. Each may have 4,096")
    assert "--max-new-tokens or --timeout bounds them" in line
    assert generated(ends=True) == ""
    assert generated(ends=False, unbounded=0) == ""  # somebody has bounded them
