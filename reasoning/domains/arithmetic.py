"""Arithmetic: multi-step integer expressions with one answer.

Leaves are 1..99 and every intermediate is an integer in 0..999, so that each number is one token
of the shipped model's vocabulary.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from reasoning.domains.base import Verdict, is_held_out
from reasoning.domains.expression import Node, Operator, apply, evaluate, parse, render

LARGEST = 999
OPERATIONS = range(3, 8)


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """An arithmetic problem: the value of one expression."""

    domain: ClassVar[str] = "arithmetic"
    expression: str

    @property
    def question(self) -> str:
        return f"Compute {self.expression.replace(' ', '')}."

    @cached_property
    def tree(self) -> Node | int:
        return parse(self.expression)

    @property
    def held_out(self) -> bool:
        """Whether this expression is kept from training."""
        return is_held_out(render(self.tree))

    def verify(self, answer: str) -> Verdict:
        """Check that the answer is the expression's value."""
        given = self.canonical(answer)
        expected = str(evaluate(self.tree))
        if given is None:
            return Verdict(ok=False, reason="the answer is not an integer")
        if given != expected:
            return Verdict(ok=False, reason=f"the value is not {given}")
        return Verdict(ok=True, reason="the value is right")

    def canonical(self, answer: str) -> str | None:
        """The integer in plain digits, or None."""
        match = re.fullmatch(r"\s*([-+]?\d{1,30})(?:\.0+)?\s*", answer.replace(",", ""))
        return None if match is None else str(int(match[1]))


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


def _draw(rng: random.Random, count: int) -> Node | int | None:
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
        if (value := apply(a, operator, b)) is not None and value <= LARGEST
    ]
    if not allowed:
        return None
    return Node(left=left, operator=rng.choice(allowed), right=right)
