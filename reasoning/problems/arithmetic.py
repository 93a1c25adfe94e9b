"""Arithmetic: multi-step integer expressions with one answer.

Leaves are 1..99 and every intermediate is an integer in 0..999, so that each number is one token
of the shipped model's vocabulary.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

from orchestrator.errors import InvalidValue
from reasoning.problems.base import Verdict, is_held_out
from reasoning.problems.equality import number, unmarked
from reasoning.problems.expression import (
    MOST_SYMBOLS,
    Operation,
    Operator,
    apply,
    evaluate,
    parse,
    plain,
    render,
    value,
)

LARGEST = 999
OPERATIONS = range(3, 8)


_ASKING = re.compile(
    r"(?:compute|calculate|evaluate|solve|what is|what's|how much is)?(?: the value of)? ?:?", re.I
)
_EXPRESSION = re.compile(r"(?=\D*\d)[\d +\-*/()]+")


def asked(text: str) -> str:
    """What a text asks to be computed, without the words that ask."""
    asking = _ASKING.match(text)
    return text[asking.end() :] if asking else text


def is_expression(text: str) -> bool:
    """Whether a text has only what expressions are made of."""
    return _EXPRESSION.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """An arithmetic problem: the value of one expression."""

    domain: ClassVar[str] = "arithmetic"
    expression: str

    @classmethod
    def recognise(cls, text: str) -> Arithmetic | None:
        """The expression that a text asks for.

        Raises:
            InvalidValue: it can't be read or has no value.
        """
        expression = plain(asked(text).strip(" .?!=")).strip()
        if not is_expression(expression) or expression.isdigit() or _is_code(expression):
            return None
        try:
            value(parse(expression))
        except ValueError as error:
            raise InvalidValue(
                f"expression: {error}; write one such as (17*3+5)*4-12 with at most "
                f"{MOST_SYMBOLS} symbols"
            ) from error
        return cls(expression=expression)

    @property
    def question(self) -> str:
        return f"Compute {self.expression.replace(' ', '')}."

    @cached_property
    def tree(self) -> Operation | int:
        return parse(self.expression)

    @property
    def held_out(self) -> bool:
        """Whether this expression is kept from training."""
        return is_held_out(render(self.tree))

    def verify(self, answer: str) -> Verdict:
        """Check that the answer is the expression's value."""
        given = self.canonical(answer)
        if given is None:
            return Verdict(ok=False, reason="the answer is not a number")
        if given != str(value(self.tree)):
            return Verdict(ok=False, reason=f"the value is not {given}")
        return Verdict(ok=True, reason="the value is right")

    def canonical(self, answer: str) -> str | None:
        """The number as an integer or reduced fraction, or None.

        Of an equation such as ``25*50 = 1250`` it is the last side, where all sides are equal.
        """
        if "=" not in answer:
            found = number(answer)
        else:
            sides = [side.strip() for side in unmarked(answer).rstrip(". ").split("=")]
            known = {_side(side) for side in sides if not _VARIABLE.fullmatch(side)}
            found = number(sides[-1]) if len(known) == 1 else None
        return None if found is None else str(found)


_VARIABLE = re.compile(r"[a-z]", re.I)
_CODE = re.compile(r"(?<!\d)0\d|^\d+(?:-\d+)*-\d{3,}-\d+$|^\d{3}-\d{4}$|^\d{4}-\d\d-\d\d$")


def _is_code(text: str) -> bool:
    """Whether it is a telephone number or a date, which has hyphens and no minus signs."""
    return _CODE.search(text) is not None


def _side(text: str) -> Fraction | None:
    """The value of one side of an equation; None where it has none."""
    try:
        return number(text) if number(text) is not None else value(parse(text))
    except ValueError:
        return None


def generate(
    rng: random.Random, *, operations: int | None = None, held_out: bool | None = None
) -> Arithmetic:
    """Draw an expression of ``operations`` operations (3 to 7 by default)."""
    while True:
        count = rng.choice(OPERATIONS) if operations is None else operations
        tree = _draw(rng, count)
        if tree is None:
            continue
        problem = Arithmetic(expression=render(tree))
        if held_out is None or problem.held_out is held_out:
            return problem


def _draw(rng: random.Random, count: int) -> Operation | int | None:
    if count == 0:
        return rng.randint(1, 99)
    split = rng.randrange(count)
    left, right = _draw(rng, split), _draw(rng, count - 1 - split)
    if left is None or right is None:
        return None
    a, b = evaluate(left), evaluate(right)
    allowed: list[Operator] = [
        operator
        for operator in ("+", "-", "*", "/")
        if (result := apply(a, operator, b)) is not None and result <= LARGEST
    ]
    if not allowed:
        return None
    return Operation(left=left, operator=rng.choice(allowed), right=right)
