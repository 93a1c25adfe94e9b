"""Ctrl-C before a command has begun its work."""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130
TERMINATED = 143


def leave_when_interrupted() -> None:
    """End the process at once at Ctrl-C, as long as nothing is there to be put away.

    An exception would be lost in the packages that are being imported: torch swallows one, makes
    another error of it, or aborts.  Who ignores the signal, such as ``nohup``, still does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def raise_when_interrupted() -> None:
    """Let Ctrl-C be an exception again, for a command that puts things away."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_at_second_interrupt() -> None:
    """Let a command print what it has before it heeds Ctrl-C; a second one ends it at once."""
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            os._exit(INTERRUPTED)
        pressed.append(number)

    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, note)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"reason: interrupted\n")
    os._exit(INTERRUPTED)
