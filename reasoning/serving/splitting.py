"""Thoughts and words of a text that is still being written."""

from __future__ import annotations

import re

from reasoning.language.steps import CLOSERS

OPENING = frozenset(map(str.lower, CLOSERS))
CLOSING = frozenset(map(str.lower, CLOSERS.values()))
CALL, CALLED = "<tool_call>", "</tool_call>"
_MARKS = (*OPENING, *CLOSING, CALL, CALLED)
_MARK = re.compile("|".join(map(re.escape, _MARKS)), re.I)
_LONGEST = max(map(len, _MARKS))


class ThoughtSplitter:
    """Cuts what a thread writes, piece by piece, into its thoughts and what it says.

    Marks, and calls of tools, are in neither.  What may be the beginning of a mark is held back.
    """

    def __init__(self, *, inside: bool = False) -> None:
        """``inside`` is whether the prompt has opened the thoughts already."""
        self._inside = inside
        self._calls = False
        self._said = False
        self._held = ""

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """What a piece of text adds: whether it is said, and its text; none of these is empty."""
        text = self._held + text
        pieces: list[tuple[bool, str]] = []
        start = 0
        for mark in _MARK.finditer(text):
            self._add(pieces, text[start : mark.start()])
            self._meet(mark[0].lower())
            start = mark.end()
        rest = text[start:]
        keep = _beginning_of_mark(rest)
        self._held = rest[keep:]
        self._add(pieces, rest[:keep])
        return pieces

    def end(self) -> list[tuple[bool, str]]:
        """What was held back, now that no more text comes."""
        pieces: list[tuple[bool, str]] = []
        self._add(pieces, self._held)
        self._held = ""
        return pieces

    def _meet(self, mark: str) -> None:
        if mark in (CALL, CALLED):
            self._calls = mark == CALL
        else:
            self._inside = mark in OPENING

    def _add(self, pieces: list[tuple[bool, str]], text: str) -> None:
        if self._calls:
            return
        if not self._inside and not self._said:  # line breaks after the thoughts
            text = text.lstrip()
        if text:
            self._said = self._said or not self._inside
            pieces.append((not self._inside, text))


def closes_first(text: str) -> bool:
    """Whether a text ends thoughts that it did not begin, as where its prompt has."""
    found = _MARK.search(text)
    return found is not None and found[0].lower() in CLOSING


def _beginning_of_mark(text: str) -> int:
    """Where the end of a text begins that may grow into a mark; its length where nothing may."""
    low = text.lower()
    for start in range(max(0, len(text) - _LONGEST), len(text)):
        if low[start] in "<[◁" and any(mark.startswith(low[start:]) for mark in _MARKS):
            return start
    return len(text)
