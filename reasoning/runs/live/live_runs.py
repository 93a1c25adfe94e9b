"""The runs that are under way, and those that have just ended and are kept nowhere else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio

from orchestrator.views.page import PageData
from reasoning.runs.live.live_page import SILENCE_S, LivePage
from reasoning.runs.live.live_run import LiveRun
from reasoning.runs.page import run_data
from reasoning.runs.record import RecordedRun

MOST_RECENT = 20
"""Runs that have ended, of a program that keeps none."""
GATHER_S = 0.5


class LiveRuns:
    """Runs under way by their ids, for whoever shows them; it belongs to one event loop.

    Attributes:
        keeps: Whether runs that have ended are found in a store, and so are forgotten here.
    """

    def __init__(self, *, keeps: bool) -> None:
        self.keeps = keeps
        self._pages: dict[str, LivePage] = {}
        self._ended: deque[tuple[str, LivePage]] = deque()
        self._closed = False
        self._listening: set[anyio.Event] = set()

    def add(self, id: str, page: LivePage) -> None:
        """Show one more run."""
        self._pages[id] = page
        self._tell()

    def find(self, id: str) -> LivePage | None:
        """The run of this id, if it is under way, or has just ended."""
        ended = (page for known, page in self._ended if known == id)
        return self._pages.get(id) or next(ended, None)

    def running(self) -> Iterator[tuple[str, LivePage]]:
        """The newest first."""
        yield from reversed(self._pages.items())
        yield from reversed(self._ended)

    def leave(self, id: str) -> None:
        """The run has ended, and its page shows that."""
        page = self._pages.pop(id, None)
        if page is not None and not self.keeps:
            self._ended.append((id, page))
            while len(self._ended) > MOST_RECENT:
                self._ended.popleft()
        self._tell()

    def ending(self, run: LiveRun) -> Callable[[RecordedRun | None], None]:
        """What is to be called, from whatever thread, with the run's record, or None for none."""
        loop = asyncio.get_running_loop()

        def end(data: PageData | None) -> None:
            run.end(data)
            self.leave(run.id)

        def done(record: RecordedRun | None) -> None:
            data = None if record is None else run_data(record)
            loop.call_soon_threadsafe(end, data)

        return done

    async def changes(self) -> AsyncIterator[None]:
        """Once at first, whenever runs begin or end, and after silence, until `close`."""
        news = anyio.Event()
        while not self._closed:
            self._listening.discard(news)
            self._listening.add(news := anyio.Event())
            try:
                yield
                with anyio.move_on_after(SILENCE_S):
                    await news.wait()
                await anyio.sleep(0 if self._closed else GATHER_S)
            finally:
                self._listening.discard(news)

    def close(self) -> None:
        """Nobody is told of anything any more."""
        self._closed = True
        for page in self._pages.values():
            page.end(None)
        self._tell()

    def _tell(self) -> None:
        for event in self._listening:
            event.set()


def line_of(id: str, page: LivePage) -> dict[str, Any]:
    """What a list shows of a run that no store has."""
    data = page.page
    outcome = data["outcomes"][0]
    return {
        "id": id,
        "about": data["about"],
        "question": data["heading"],
        "answer": outcome["answer"],
        "verdict": outcome["verdict"],
        "running": not page.over,
    }
