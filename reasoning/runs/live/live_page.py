"""A page that goes on: its state, and what each of those who look at it has not seen yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, cast

import anyio

from orchestrator.views.page import Lane, PageData

GATHER_S = 0.1
"""How long changes gather before they are told."""


SILENCE_S = 15.0
"""After so long it is told that nothing is new, so that one who has left is noticed."""


class PageNews(NamedTuple):
    """What changed: ``page`` with a whole page, ``lanes`` with some fields, ``gone``, or nothing:
    ``still``."""

    kind: str
    value: Any


class Follower:
    """One who looks at a page.

    Attributes:
        changed: The lanes with news, and how many pieces of text of each lane it has.
        whole: Whether the page itself is new to it.
        news: Set when there is something to tell.
    """

    def __init__(self) -> None:
        self.changed: dict[str, None] = {}
        self.pieces: dict[str, int] = {}
        self.whole = True
        self.news = anyio.Event()


class LivePage:
    """A page whose lanes grow.

    It belongs to one event loop; no method but `news` waits.

    Attributes:
        page: Without what the lanes wrote.
        over: Whether nothing more will change.
    """

    def __init__(self, page: PageData) -> None:
        self.over = False
        self._followers: set[Follower] = set()
        self._take(page)

    def _take(self, page: PageData) -> None:
        lanes = [cast("Lane", {**lane}) for lane in page["lanes"]]
        self.page: PageData = {**page, "lanes": lanes}
        self._texts = {lane["id"]: [lane.pop("text", "")] for lane in lanes}
        self._lanes = {lane["id"]: lane for lane in lanes}
        for one in self._followers:
            one.whole = True
            one.news.set()

    def lane(self, id: str) -> Lane | None:
        """A lane that there is."""
        return self._lanes.get(id)

    def add(self, lane: Lane) -> None:
        """One more lane."""
        self.page["lanes"].append(lane)
        self._lanes[lane["id"]] = lane
        self._texts[lane["id"]] = []
        self.touch(lane["id"])

    def touch(self, id: str, more: str = "") -> None:
        """A lane's fields were changed, or it wrote ``more``."""
        if more:
            self._texts[id].append(more)
        for one in self._followers:
            one.changed[id] = None
            one.news.set()

    def end(self, page: PageData | None) -> None:
        """Show another page for good, or with None, say that what wrote it has left."""
        self.over = True
        if page is not None:
            self._take({**page, "over": True})
        for one in self._followers:
            one.news.set()

    def hear(self, news: PageNews) -> None:
        """Change as another page did, which told this."""
        if news.kind == "gone":
            self.end(None)
        elif news.kind == "page":
            (self.end if news.value.get("over") else self._take)(news.value)
        elif news.kind == "lanes":
            for change in news.value:
                self._merge(change)

    def _merge(self, change: dict[str, Any]) -> None:
        more = change.pop("more")
        lane = self._lanes.get(change["id"])
        if lane is None:
            self.add(cast("Lane", change))
        else:
            lane.update(cast("Lane", change))
        self.touch(change["id"], more)

    def whole(self) -> PageData:
        """The page as it stands."""
        lanes = [
            cast("Lane", {**lane, "text": "".join(self._texts[lane["id"]])})
            for lane in self.page["lanes"]
        ]
        return {**self.page, "lanes": lanes}

    async def news(self) -> AsyncIterator[PageNews]:
        """The page, then what changes, until it is over."""
        one = Follower()
        self._followers.add(one)
        try:
            while True:
                one.news = anyio.Event()
                if one.whole:
                    one.whole = False
                    one.changed = {}
                    one.pieces = {id: len(texts) for id, texts in self._texts.items()}
                    yield PageNews("page", self.whole())
                elif one.changed:
                    changed, one.changed = list(one.changed), {}
                    yield PageNews("lanes", self._changes(one, changed))
                elif self.over:
                    if not self.page.get("over"):
                        yield PageNews("gone", None)
                    return
                else:
                    with anyio.move_on_after(SILENCE_S):
                        await one.news.wait()
                    if not one.news.is_set():
                        yield PageNews("still", None)
                    elif not self.over:
                        await anyio.sleep(GATHER_S)
        finally:
            self._followers.discard(one)

    def _changes(self, one: Follower, changed: Sequence[str]) -> list[dict[str, Any]]:
        told = []
        for id in changed:
            texts = self._texts[id]
            told.append({**self._lanes[id], "more": "".join(texts[one.pieces.get(id, 0) :])})
            one.pieces[id] = len(texts)
        return told
