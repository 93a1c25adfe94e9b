"""Signals: a run that is asked to end prints what it found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from reasoning.cli.commands.solve import SolveCommand, SolveSettings
from reasoning.cli.interrupts import TERMINATED
from reasoning.cli.tree import ThreadTree
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.problems import recognise
from reasoning.run.thread import TextGenerated


def test_sigterm_shows_what_was_found(
    shipped: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    class Told(ThreadTree):
        """Sends the signal at the first token."""

        sent = False

        def listen(self, event: object) -> None:
            super().listen(event)  # type: ignore[arg-type]
            if isinstance(event, TextGenerated) and not self.sent:
                self.sent = True
                os.kill(os.getpid(), signal.SIGTERM)

    assert threading.current_thread() is threading.main_thread()
    command = SolveCommand(
        settings=SolveSettings(problem="Use 12, 87, 45, 66 and 98 to make 13"),
        problem=recognise("Use 12, 87, 45, 66 and 98 to make 13"),
        model=shipped,
        draft=None,
        options=SolveOptions(strategy="self-consistency", n=200, temperature=1.0),
        tree=Told(quiet=False),
    )
    before = signal.getsignal(signal.SIGINT)
    try:
        assert command.solve() == TERMINATED
    finally:
        signal.signal(signal.SIGINT, before)
    err = capsys.readouterr().err
    assert "interrupted; this is what was found" in err
    assert "self-consistency · " in err


TWICE = """
import os, signal, anyio
from reasoning import Reasoner, load_model
from reasoning.cli.commands.solve import SolveCommand, SolveSettings
from reasoning.cli.tree import ThreadTree
from reasoning.options import SolveOptions
from reasoning.problems import recognise
from reasoning.run.thread import TextGenerated, ThreadConcluded

WORDS = "Compute (17*3+5)*4-12"

async def hang(*ignored):
    with anyio.CancelScope(shield=True):
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep(600)

class Told(ThreadTree):
    pressed = False
    def listen(self, event):
        super().listen(event)
        if isinstance(event, ThreadConcluded) and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)

model = load_model()
{patch}
options = SolveOptions(strategy="self-consistency", n=40, policy=None)
command = SolveCommand(settings=SolveSettings(problem=WORDS), problem=recognise(WORDS),
                       model=model, draft=None, options=options, tree=Told(quiet=False))
command.solve()
"""


def pressed_twice(patch: str) -> subprocess.CompletedProcess[str]:
    """What comes of Ctrl-C at the first answer, and again while what follows hangs."""
    code = TWICE.format(patch=patch)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_a_second_interrupt_shows_what_was_found_though_something_hangs() -> None:
    done = pressed_twice("Reasoner.__aexit__ = hang")
    assert done.returncode == 130
    assert done.stdout == "212\n"
    assert "interrupted; this is what was found" in done.stderr
    assert "→ 212" in done.stderr
    assert "self-consistency · " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_interrupt_leaves_a_run_that_does_not_end_with_its_threads() -> None:
    done = pressed_twice("model.backend.settle = hang")
    assert (done.returncode, done.stdout) == (130, "")
    assert "→ 212" in done.stderr
    assert "interrupted twice; the run was left before it had an answer" in done.stderr
    assert "Traceback" not in done.stderr
