"""One page of HTML for anything with lanes: a graph's tasks, branches of reasoning, or two runs.

It needs no network and no other file, and shows 10,000 lanes as fast as ten.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal, Required, TypedDict

LaneKind = Literal["ended", "stopped", "cut", "failed", "skipped", "waiting", "running"]

_PLACE = re.compile(r"\{\{(title|policy|style|script|data)\}\}")
_LONGEST_TITLE = 80


class Lane(TypedDict, total=False):
    """A row of the page; what is left out is empty.

    Attributes:
        why: Why it is as it is, in words.
        stretches: From where to where it worked; one that failed has the reason as a third.
        waited: From where to where it stood in a queue.
        size: How much it is in all, in the page's unit.
        after: The lanes that it waited for, beside its children.
        vote: Which of the page's answers it found.
        critical: Whether it is on the chain that took longest.
        facts: Shown by their names where it is chosen; None is left out.
        lists: Headings, and a line for each item.
    """

    id: Required[str]
    parent: str | None
    name: Required[str]
    kind: Required[LaneKind]
    why: Required[str]
    stretches: Sequence[Sequence[Any]]
    waited: Sequence[tuple[float, float]]
    size: float
    after: Sequence[str]
    answer: str | None
    vote: str | None
    wins: bool
    critical: bool
    text: str
    facts: Sequence[tuple[str, Any]]
    lists: Sequence[tuple[str, Sequence[str]]]


class PageOutcome(TypedDict):
    """What one run came to; ``winner`` is the key of its answer, ``name`` tells two runs apart."""

    name: str
    answer: str | None
    verdict: str
    winner: str | None


class PageAnswer(TypedDict):
    """An answer that was found, with its votes in each run."""

    key: str
    words: str
    votes: Sequence[int]


class PageNote(TypedDict, total=False):
    """What is folded away under a heading: pairs, or lines."""

    heading: Required[str]
    pairs: Sequence[tuple[str, Any]]
    lines: Sequence[str]


class PageData(TypedDict, total=False):
    """What a page shows.

    Attributes:
        about: The line above the heading.
        facts: A name, its value in each run, and what it means.
        called: What a lane is, in the plural.
        unit: Of the axis, on which lanes stand.
        length: How long the axis is at least.
        live: Where a page that goes on hears of what happens.
        over: Whether nothing more will happen.
    """

    title: Required[str]
    about: Required[str]
    heading: Required[str]
    outcomes: Required[Sequence[PageOutcome]]
    answers: Required[Sequence[PageAnswer]]
    facts: Required[Sequence[tuple[str, Sequence[str | None], str]]]
    notes: Required[Sequence[PageNote]]
    called: Required[str]
    unit: Required[Literal["tokens", "seconds"]]
    lanes: Required[list[Lane]]
    length: float
    live: str
    over: bool


def to_page(data: PageData) -> str:
    """The page.

    Texts reach it as JSON alone, and its script puts them there as text.  The page's policy lets
    no other script run, and nothing be fetched; but where it is live, it may ask who served it.
    """
    page, style, script = (asset(f"page.{kind}") for kind in ("html", "css", "js"))
    title = " ".join(data["title"].split())
    return filled(
        page,
        title=html.escape(title if len(title) <= _LONGEST_TITLE else f"{title[:_LONGEST_TITLE]}…"),
        policy=page_policy(style, script, live="live" in data),
        style=style,
        script=script,
        data=inert(data),
    )


def asset(name: str) -> str:
    """A file of the page."""
    return files("orchestrator.views").joinpath(name).read_text(encoding="utf-8")


def filled(page: str, **parts: str) -> str:
    """A page with its places filled, in one pass: a text that looks like a place is a text."""
    return _PLACE.sub(lambda place: parts[place[1]], page)


def page_policy(style: str, script: str, *, live: bool) -> str:
    """What a page may do: run its own script, have its own style, and if live, ask its server."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        f"{'connect-src ' + repr('self') + '; ' if live else ''}"
        "base-uri 'none'; form-action 'none'"
    )


def inert(data: Mapping[str, Any]) -> str:
    """JSON in which nothing can end or begin an element of a page."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
