"""Enumeration: so many different items of one kind, the kind being the multiples of a number.

The task of Group Think (arXiv 2505.11107): what counts is how many different items there are.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import ClassVar
from zlib import crc32

from orchestrator.errors import InvalidValue
from reasoning.errors import ProblemRefused
from reasoning.problems.base import Verdict, integer
from reasoning.problems.equality import unmarked

LARGEST = 999
COUNTS = range(2, 101)
DIVISORS = range(2, 100)
HELD_OUT = frozenset(
    divisor
    for divisor in DIVISORS
    if divisor > 90 or crc32(f"multiples of {divisor}".encode()) % 8 == 0
)
"""One divisor in eight, by a fixed hash, and all that the shipped weights have never seen."""
USUAL = range(8, 41)
"""How many items are asked for where nothing is said."""


_STATED = re.compile(
    r"(?:please )?(?:list|name|give|write(?: down)?|find)(?: me)? (\d+)(?: different| distinct"
    r"| positive| unique)* multiples of (\d+)(?: (?:up to 999|below 1000))?[ .!?]*",
    re.I,
)
_LISTED = re.compile(
    r"(?P<lead>[^:\n]{0,80}(?::|\bare\b))?(?P<items>(?:\s|[-\d.,;{}()\[\]⦃⦄*&]|\band\b)*)", re.I
)
_REFUSING = re.compile(r"\b(?:no|not|except|without|wrong|never|cannot)\b|n't\b", re.I)
_LABEL = re.compile(r"^\s*\(?(\d{1,3})[.)]\s+", re.M)


@dataclass(frozen=True, kw_only=True)
class Enumeration:
    """``count`` different positive multiples of ``divisor``, in any order, none above 999."""

    domain: ClassVar[str] = "enumeration"
    count: int
    divisor: int

    @classmethod
    def recognise(cls, text: str) -> Enumeration | None:
        """The enumeration that a text asks for.

        Raises:
            InvalidValue, ProblemRefused: it asks for too few or too many items.
        """
        match = _STATED.fullmatch(text)
        if match is None:
            return None
        count, divisor = integer("count", match[1]), integer("divisor", match[2])
        if count not in COUNTS:
            raise InvalidValue(
                f"count: {count} is out of range; ask for 2 to {COUNTS[-1]} multiples"
            )
        if not divisor >= 1 or count * divisor > LARGEST:
            raise ProblemRefused(
                f"there are no {count} multiples of {divisor} up to {LARGEST}; ask for fewer"
            )
        return cls(count=count, divisor=divisor)

    @property
    def question(self) -> str:
        return f"List {self.count} different multiples of {self.divisor} up to {LARGEST}."

    @property
    def held_out(self) -> bool:
        """Whether this problem is kept from training, as are all others of its divisor.

        A list of another length would be the beginning of one that was learnt.
        """
        return self.divisor in HELD_OUT

    def verify(self, answer: str) -> Verdict:
        """Check that there are enough different multiples and nothing else."""
        items = _items(answer)
        if items is None:
            return Verdict(ok=False, reason="the answer is no list of numbers")
        given = _numbers(items)
        wrong = [number for number in given if not self._fits(number)]
        if wrong:
            return Verdict(ok=False, reason=f"{wrong[0]} is not one of these multiples")
        found = len(set(given))
        if found < self.count:
            return Verdict(ok=False, reason=f"{found} of {self.count} different multiples")
        return Verdict(ok=True, reason=f"{found} different multiples")

    def coverage(self, answer: str) -> float:
        """Different right items, of those asked for; at most 1."""
        return min(
            1.0, len({n for n in _numbers(_items(answer) or answer) if self._fits(n)}) / self.count
        )

    def canonical(self, answer: str) -> str | None:
        return ", ".join(map(str, sorted(set(_numbers(_items(answer) or answer))))) or None

    def solution(self) -> tuple[int, ...]:
        """The smallest such multiples."""
        return tuple(self.divisor * factor for factor in range(1, self.count + 1))

    def _fits(self, number: int) -> bool:
        return 0 < number <= LARGEST and number % self.divisor == 0


def _items(answer: str) -> str | None:
    """The list in an answer, without the words before it and the labels of its lines."""
    labels = _LABEL.findall(answer)
    if len(labels) > 1 and labels == [str(n) for n in range(1, len(labels) + 1)]:
        answer = _LABEL.sub(", ", answer)
    found = _LISTED.fullmatch(unmarked(answer))
    if found is None or _REFUSING.search(found["lead"] or ""):
        return None
    return found["items"]


def _numbers(answer: str) -> list[int]:
    """The numbers of an answer; 0, which is never right, for one that is no such integer."""
    found = re.findall(r"[-−]?\d+(?:\.\d+)?", answer)
    return [int(digits) if digits.isdigit() and len(digits) < 10 else 0 for digits in found]


def of(count: int, *, held_out: bool | None = None) -> list[Enumeration]:
    """All problems of ``count`` items."""
    divisors = range(2, LARGEST // max(count, 11) + 1)
    every = [Enumeration(count=count, divisor=divisor) for divisor in divisors]
    return [one for one in every if held_out is None or one.held_out is held_out]


def generate(
    rng: random.Random, *, count: int | None = None, held_out: bool | None = None
) -> Enumeration:
    """Draw a problem of ``count`` items (8 to 40 by default).

    Raises:
        InvalidValue: there is none of so many items on the side that is asked for.
    """
    while True:
        wanted = rng.choice(USUAL) if count is None else count
        if found := of(wanted, held_out=held_out):
            return rng.choice(found)
        if count is not None:
            raise InvalidValue(
                f"count: {count} items give no problem on that side; give another count"
            )
