"""Keeps runs beside what serves them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from reasoning.run.solution import Solution
from reasoning.runs.record import RecordedRun
from reasoning.runs.store import RunStore

logger = logging.getLogger(__name__)

MOST_WAITING = 32
"""Runs that wait to be written; those that end meanwhile are not kept."""


class RunTold(NamedTuple):
    """Under which id a run is kept, and who hears of its record, or of None where there is none.

    ``done`` is called in whatever thread.
    """

    id: str | None = None
    done: Callable[[RecordedRun | None], None] = lambda run: None


NOBODY = RunTold()


class RunKeeper:
    """Writes runs in a thread of its own, so that nobody waits for a disk.

    Attributes:
        lost: How many runs were not kept, for want of room or because of an error.
    """

    def __init__(self, store: RunStore | None, *, command: str) -> None:
        """``command`` is that of every run; without a store, records are made and forgotten."""
        self.lost = 0
        self._store = store
        self._command = command
        self._room = threading.BoundedSemaphore(MOST_WAITING)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="runs")

    def keep(self, solution: Solution, settings: Mapping[str, Any], told: RunTold = NOBODY) -> None:
        """Keep a run soon; it never blocks and never raises."""
        if self._room.acquire(blocking=False):
            self._writer.submit(self._write, solution, settings, time.time(), told)
        else:
            self._lose("too many end at once")
            told.done(None)

    def close(self) -> None:
        """Write what still waits."""
        self._writer.shutdown()

    def _write(
        self, solution: Solution, settings: Mapping[str, Any], ended: float, told: RunTold
    ) -> None:
        run: RecordedRun | None = None
        try:
            command = self._command
            run = RecordedRun.of(
                solution, command=command, settings=settings, ended=ended, id=told.id
            )
            if self._store is not None:
                self._store.add(run)
        except Exception as error:  # a server goes on without it
            self._lose(str(error))
        finally:
            self._room.release()
            told.done(run)

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost == 1:
            logger.warning("a run was not kept: %s; others like it are not told of", why)
