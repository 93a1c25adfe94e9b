"""Several independent arithmetic problems in one prompt, answered in order."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from orchestrator.errors import InvalidValue
from reasoning.problems import arithmetic
from reasoning.problems.arithmetic import Arithmetic, asked, is_expression
from reasoning.problems.base import Verdict
from reasoning.problems.equality import unmarked
from reasoning.problems.expression import parse, plain, render

COUNTS = range(2, 13)


@dataclass(frozen=True, kw_only=True)
class Several:
    """The values of several expressions; the answer lists them, ``?`` where one is open."""

    domain: ClassVar[str] = "several"
    expressions: tuple[str, ...]

    @classmethod
    def recognise(cls, text: str) -> Several | None:
        """The expressions that a text asks for.

        Raises:
            InvalidValue: there are too many, or one can't be read or has no value.
        """
        rest = asked(text).strip().removeprefix("each").strip(" :")
        parts = [part.strip(" ;,.?=") for part in re.split(r"(?:^|;)\s*(?:\d{1,2}\)\s*)?", rest)]
        parts = [plain(part).strip() for part in parts if part]
        if len(parts) < 2 or any(not is_expression(part) for part in parts):
            return None
        if len(parts) not in COUNTS:
            raise InvalidValue(
                f"expressions: {len(parts)} given; give {COUNTS[0]} to {COUNTS[-1]} at once"
            )
        for part in parts:
            Arithmetic.recognise(part)  # refuses what can't be computed
        return cls(expressions=tuple(render(parse(part)) for part in parts))

    @property
    def question(self) -> str:
        listed = "; ".join(
            f"{i}) {e.replace(' ', '')}" for i, e in enumerate(self.expressions, start=1)
        )
        return f"Compute each: {listed}."

    @cached_property
    def parts(self) -> tuple[Arithmetic, ...]:
        return tuple(Arithmetic(expression=expression) for expression in self.expressions)

    @property
    def held_out(self) -> bool:
        """Whether all of its expressions are kept from training."""
        return all(part.held_out for part in self.parts)

    def verify(self, answer: str) -> Verdict:
        """Check that every value is right."""
        right = self._right(answer)
        if all(right):
            return Verdict(ok=True, reason=f"all {len(right)} values are right")
        wrong = ", ".join(str(i) for i, ok in enumerate(right, start=1) if not ok)
        return Verdict(ok=False, reason=f"wrong or missing: {wrong}")

    def coverage(self, answer: str) -> float:
        """The share of the values that are right."""
        right = self._right(answer)
        return sum(right) / len(right)

    def canonical(self, answer: str) -> str | None:
        items = _items(answer, len(self.parts))
        given = [part.canonical(text) for part, text in zip(self.parts, items, strict=False)]
        return ", ".join(value or "?" for value in given) if any(given) else None

    def _right(self, answer: str) -> list[bool]:
        given = _items(answer, len(self.parts))
        if len(given) > len(self.parts):
            return [False] * len(self.parts)
        given += ["?"] * (len(self.parts) - len(given))
        return [part.verify(text).ok for part, text in zip(self.parts, given, strict=False)]


_PAIR = re.compile(r"\([^()]*[,;][^()]*\)|\[[^\[\]]*[,;][^\[\]]*\]")
_BETWEEN = r"\s*(?:;|,?\s*\band\b"
_LABEL = re.compile(r"(?:(?<=[\s,;])|^)\(?(\d{1,2})(?:\)\s*|[.:]\s+)(?=[-+(\d.?])")


def _items(answer: str, count: int) -> list[str]:
    """The values of an answer in order, ``1) 23; 2) 30`` or ``23, 30``.

    A comma before three digits belongs to a number where there would else be too many values.
    """
    text = unmarked(answer).strip()
    if _PAIR.fullmatch(text):
        text = text[1:-1]
    labels = _LABEL.findall(text)
    if labels and labels != [str(n) for n in range(1, len(labels) + 1)]:
        return []  # some are left out or in another order
    if len(labels) > 1:
        text = _LABEL.sub(lambda found: "" if found.start() == 0 else "; ", text)
        text = re.sub(r"[\s;,]*;[\s;]*", "; ", text)
    items = re.split(rf"{_BETWEEN}|,)\s*", text)
    if len(items) > count:
        items = re.split(rf"{_BETWEEN}|,(?!\d{{3}}(?!\d)))\s*", text)
    return [item.strip() for item in items]


def generate(
    rng: random.Random,
    *,
    count: int = 5,
    operations: int | None = None,
    held_out: bool | None = None,
) -> Several:
    """Draw ``count`` expressions of ``operations`` operations each (4 to 7 by default)."""
    chosen = [rng.randint(4, 7) if operations is None else operations for _ in range(count)]
    return Several(
        expressions=tuple(
            arithmetic.generate(rng, operations=each, held_out=held_out).expression
            for each in chosen
        )
    )
