"""Where a thread's text ends before its model ends it: at a stop text, or in endless repetition."""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 6_000
"""Characters at a text's end that are looked at."""
NEEDLE = 48
"""So many last characters are looked for before; what they find is then compared as a whole."""
LEAST = 1_200
"""A repetition is at least so long,"""
TIMES = 5
"""and repeats its period so often."""
EVERY = 64
"""Characters between two looks."""


class RunawayRepetition:
    """Notices that a growing text ends in one period over and over.

    What differs in a single character, such as a count or a table of different rows, is none.  A
    look costs two searches in the text's end, whatever the period.
    """

    def __init__(self) -> None:
        self._next = LEAST

    def met(self, text: str) -> bool:
        """Whether the text, which has grown since, repeats itself by now."""
        if len(text) < self._next:
            return False
        self._next = len(text) + EVERY
        tail = text[-WINDOW:]
        before = tail.rfind(tail[-NEEDLE:], 0, -1)
        period = len(tail) - NEEDLE - before
        length = max(LEAST, TIMES * period)
        if before < 0 or length > len(tail):
            return False
        return tail[-length:-period] == tail[period - length :]


class StopTexts:
    """Lets a thread's text through up to the first of some texts.

    What may be the beginning of one is held back until more is known.

    Attributes:
        found: The text that was met; nothing passes after it.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._held = ""
        self.found: str | None = None

    def feed(self, piece: str) -> str:
        """What may be shown now that ``piece`` came."""
        if not self._texts or self.found is not None:
            return piece if self.found is None else ""
        text = self._held + piece
        places = [(text.find(one), one) for one in self._texts]
        met = [place for place in places if place[0] >= 0]
        if met:
            at, self.found = min(met, key=lambda place: (place[0], -len(place[1])))
            self._held = ""
            return text[:at]
        keep = max(map(self._begun, self._texts, [text] * len(self._texts)))
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _begun(stop: str, text: str) -> int:
        """How many characters at the end of a text are the beginning of a stop text."""
        longest = min(len(stop) - 1, len(text))
        return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
