"""Signals: a run that is asked to end prints what it found."""

from __future__ import annotations

import os
import signal
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
