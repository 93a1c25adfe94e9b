"""Whether a text repeats itself without end, as small models do."""

from __future__ import annotations

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
