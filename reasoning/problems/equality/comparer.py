"""The process that math-verify runs in, whose processor time and memory are limited.

Its own limits need signals, which threads have not.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from reasoning.problems.equality.formulas import SIGN

SECONDS = 2
"""Of processor time for one comparison."""
PATIENCE = 30.0
"""Seconds of waiting, on a busy machine or while the process starts, for one comparison."""
_MEMORY = 2 << 30


@cache
def is_available() -> bool:
    """Whether math-verify is installed."""
    return find_spec("math_verify") is not None


_MAIN = (
    "import sys; sys.path[:] = sys.argv[1:]\n"
    "from reasoning.problems.equality.comparer import serve; serve()"
)


class Comparer:
    """The process that math-verify runs in; begun at the first comparison, and again after a loss.

    One comparison runs at a time.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._replies: SimpleQueue[str | None] = SimpleQueue()
        self._known: dict[tuple[str, str], bool | None] = {}
        atexit.register(self.close)

    def same(self, one: str, other: str) -> bool | None:
        """Whether two formulas are equal; None where that is not known within the limits."""
        with self._lock:
            pair = (one, other)
            if pair not in self._known:
                if len(self._known) >= 10_000:
                    self._known.clear()
                self._known[pair] = self._ask(pair)
            return self._known[pair]

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _ask(self, pair: tuple[str, str]) -> bool | None:
        process = self._process or self._begin()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(pair) + "\n")
            process.stdin.flush()
            reply = self._replies.get(timeout=PATIENCE)
        except (OSError, Empty):
            reply = None
        if reply is None:
            self.close()
            return None
        found: bool | None = json.loads(reply)
        return found

    def _begin(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for whoever asks
        )
        replies: SimpleQueue[str | None] = SimpleQueue()
        self._process, self._replies = process, replies
        Thread(target=_pass_on, args=(process.stdout, replies), daemon=True).start()
        return process


def _pass_on(lines: Any, replies: SimpleQueue[str | None]) -> None:
    with suppress(ValueError, OSError):  # it was closed
        for line in lines:
            replies.put(line)
    replies.put(None)


@cache
def comparer() -> Comparer:
    """The one of this process."""
    return Comparer()


def serve() -> None:
    """Answer each line, a JSON list of two formulas, with a line: ``true`` or ``false``.

    The system ends the process when one takes more than `SECONDS` of processor time.
    """
    import math_verify  # before the clock runs

    assert math_verify
    _limit_memory()
    for line in sys.stdin:
        one, other = json.loads(line)
        _limit_time()
        try:
            reply = _are_equal(one, other)
        except (Exception, RecursionError):
            reply = False
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _are_equal(one: str, other: str) -> bool:
    """Whether two formulas are, or two relations whose differences have a constant ratio."""
    from math_verify import parse, verify

    first, second = one.rpartition(SIGN), other.rpartition(SIGN)
    if first[0] != second[0]:
        return False
    left, right = (
        parse(f"${text}$", fallback_mode="no_fallback", parsing_timeout=None)
        for text in (first[2], second[2])
    )
    if not len(left) == len(right) == 1:
        return False
    exact = {"float_rounding": 15, "numeric_precision": 60, "timeout_seconds": None}
    return verify(left, right, **exact) or (first[0] != "" and _scaled(left[0], right[0], first[0]))


def _scaled(one: Any, other: Any, sign: str) -> bool:
    """Whether one difference is a multiple of the other, by a positive number for ``<``."""
    from sympy import simplify

    ratio = simplify(one.doit() / other.doit())
    if not ratio.is_number or not ratio.is_finite or ratio.is_zero:
        return False
    return bool("<" not in sign or ratio.is_positive)


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _limit_time() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        until = int(used.ru_utime + used.ru_stime) + 1 + SECONDS
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
