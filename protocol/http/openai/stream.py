"""From a run's events to a reader that may be slow: a bounded buffer, and readable thoughts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import anyio

from protocol.http.service import BranchClosed, BranchEvent, BranchText

MOST_BUFFERED = 1 << 18
"""Characters of thoughts that are kept for a reader that is slower than the branches."""
PATIENCE_S = 0.05
"""How long the branch that is shown may be silent while others have something to show."""


class Buffer:
    """Holds a run's events until its reader takes them.

    A reader that is too slow gets fewer thoughts, never less of the answer; ``dropped`` counts the
    characters that it did not get.
    """

    def __init__(self, most: int = MOST_BUFFERED) -> None:
        self.most = most
        self.dropped = 0
        self._held = 0
        self._events: list[BranchEvent] = []
        self._news = anyio.Event()
        self._closed = anyio.Event()

    def put(self, event: BranchEvent) -> None:
        """Take one event, at once."""
        if isinstance(event, BranchText):
            size = len(event.text)
            if self._held + size > self.most:
                self.dropped += size
                return
            self._held += size
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        """No more events will come."""
        self._closed.set()
        self._news.set()

    async def take(self, wait_s: float) -> Sequence[BranchEvent] | None:
        """All events so far; none after ``wait_s`` seconds of silence; None after the last."""
        if not self._events and not self._closed.is_set():
            self._news = anyio.Event()
            with anyio.move_on_after(wait_s):
                await self._news.wait()
        events, self._events, self._held = self._events, [], 0
        return None if self._closed.is_set() and not events else events

    async def pause(self, wait_s: float) -> None:
        """Let events gather for so long, unless no more will come."""
        with anyio.move_on_after(wait_s):
            await self._closed.wait()


def merged(events: Iterable[BranchEvent]) -> dict[str, str]:
    """What each branch wrote, in the order in which they began to."""
    texts: dict[str, str] = {}
    for event in events:
        if isinstance(event, BranchText):
            texts[event.branch] = texts.get(event.branch, "") + event.text
    return texts


class Thought(NamedTuple):
    """A piece of one branch's text; ``label`` is set where the reader must be told whose it is."""

    branch: str
    text: str
    label: bool


class Focus:
    """Brings the text of many branches into an order that can be read.

    One branch is shown as it writes; the text of the others waits until it ends or has been silent
    for a moment, such as for its children.
    """

    def __init__(self) -> None:
        self._pending: dict[str, str] = {}
        self._ended: set[str] = set()
        self._shown: str | None = None
        self._since = 0.0

    @property
    def waiting(self) -> bool:
        """Whether there is text that is not shown yet."""
        return any(self._pending.values())

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[Thought]:
        """Take events at the time ``now`` in seconds, and give what is to be shown."""
        for event in events:
            if isinstance(event, BranchText):
                self._pending[event.branch] = self._pending.get(event.branch, "") + event.text
            elif isinstance(event, BranchClosed):
                self._ended.add(event.branch)
        while self.waiting:
            label = self._shown is None
            if self._shown is None:
                self._shown = next(branch for branch, text in self._pending.items() if text)
            text = self._pending.pop(self._shown, "")
            if text:
                self._since = now
                yield Thought(self._shown, text, label)
            if self._shown not in self._ended and now - self._since < PATIENCE_S:
                return
            self._shown = None
        if self._shown in self._ended:
            self._shown = None

    def flush(self) -> Iterator[Thought]:
        """What is left, branch by branch."""
        for branch, text in self._pending.items():
            if text:
                yield Thought(branch, text, branch != self._shown)
                self._shown = branch
        self._pending.clear()


def sse(data: dict[str, Any] | str, event: str | None = None) -> bytes:
    """One server-sent event."""
    body = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {event}\n" if event else "").encode() + f"data: {body}\n\n".encode()
