"""Integer expressions with ``+ - * /``: reading, writing, and evaluating them step by step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

Operator = Literal["+", "-", "*", "/"]

MOST_SYMBOLS = 200


class Step(NamedTuple):
    """One operation on two numbers."""

    left: int
    operator: Operator
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left}{self.operator}{self.right}={self.result}"


def apply(left: int, operator: str, right: int) -> int | None:
    """The value of one operation, or None where it is not a non-negative integer."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right if left >= right else None
        case "*":
            return left * right
        case "/":
            return left // right if right and left % right == 0 else None
    return None


_RANK: dict[str, int] = {"+": 0, "-": 0, "*": 1, "/": 1}
_TOKEN = re.compile(r"\s*(\d{1,30}|[-+*/()])")
_SYMBOLS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})


def plain(text: str) -> str:
    """The text with typographic and LaTeX operators replaced by ``- * /``."""
    text = text.translate(_SYMBOLS).replace("\\times", "*").replace("\\div", "/")
    return text.replace("\\cdot", "*").replace("\\left", "").replace("\\right", "")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation of an expression tree; a leaf is a plain int."""

    left: Operation | int
    operator: Operator
    right: Operation | int


def parse(text: str) -> Operation | int:
    """Read an expression with ``+ - * /`` and parentheses.

    Raises:
        ValueError: the text is not such an expression.
    """
    tokens: list[str] = []
    position = 0
    text = plain(text).strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"unexpected {text[position]!r} in the expression")
        tokens.append(match[1])
        position = match.end()
        if match[1].isdigit() and text[position : position + 1].isdigit():
            raise ValueError("a number has more than 30 digits")
    if len(tokens) > MOST_SYMBOLS:
        raise ValueError(f"the expression has more than {MOST_SYMBOLS} symbols")
    tokens.append("")
    tree, end = _parse(tokens, 0, 0)
    if tokens[end]:
        raise ValueError(f"unexpected {tokens[end]!r} in the expression")
    return tree


def _parse(tokens: list[str], at: int, minimum: int) -> tuple[Operation | int, int]:
    token = tokens[at]
    tree: Operation | int
    if token == "(":
        tree, at = _parse(tokens, at + 1, 0)
        if tokens[at] != ")":
            raise ValueError("a parenthesis is not closed")
        at += 1
    elif token.isdigit():
        tree, at = int(token), at + 1
    else:
        raise ValueError(
            f"a number is missing before {token!r}" if token else "the expression ends early"
        )
    while (rank := _RANK.get(tokens[at], -1)) >= minimum:
        operator = tokens[at]
        right, at = _parse(tokens, at + 1, rank + 1)
        tree = Operation(left=tree, operator=operator, right=right)  # type: ignore[arg-type]
    return tree, at


def render(tree: Operation | int, *, minimum: int = 0) -> str:
    """The tree as text, tokens separated by spaces, with only the parentheses that it needs."""
    if isinstance(tree, int):
        return str(tree)
    rank = _RANK[tree.operator]
    left, right = render(tree.left, minimum=rank), render(tree.right, minimum=rank + 1)
    text = f"{left} {tree.operator} {right}"
    return f"( {text} )" if rank < minimum else text


def steps(tree: Operation | int) -> Iterator[Step]:
    """The operations in the order of evaluation, operands before what uses them.

    Raises:
        ValueError: an intermediate is negative or not an integer.
    """
    if isinstance(tree, Operation):
        yield from steps(tree.left)
        yield from steps(tree.right)
        yield Step(evaluate(tree.left), tree.operator, evaluate(tree.right), evaluate(tree))


def evaluate(tree: Operation | int) -> int:
    """The exact value.

    Raises:
        ValueError: an intermediate is negative or not an integer.
    """
    if isinstance(tree, int):
        return tree
    left, right = evaluate(tree.left), evaluate(tree.right)
    value = apply(left, tree.operator, right)
    if value is None:
        raise ValueError(f"{left} {tree.operator} {right} is not a non-negative integer")
    return value


def value(tree: Operation | int) -> Fraction:
    """The exact value, with negative numbers and fractions allowed.

    Raises:
        ValueError: something is divided by zero.
    """
    if isinstance(tree, int):
        return Fraction(tree)
    left, right = value(tree.left), value(tree.right)
    match tree.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            if not right:
                raise ValueError("a number is divided by zero")
            return left / right


def canonical(tree: Operation | int) -> str:
    """The expression with the operands of ``+`` and ``*`` in a fixed order, fully bracketed."""
    if isinstance(tree, int):
        return str(tree)
    return combine(canonical(tree.left), tree.operator, canonical(tree.right))


def combine(left: str, operator: str, right: str) -> str:
    """One operation on two canonical texts."""
    if operator in "+*":
        left, right = sorted((left, right))
    return f"({left}{operator}{right})"


def leaves(tree: Operation | int) -> list[int]:
    """The numbers of the expression, from the left."""
    return [tree] if isinstance(tree, int) else [*leaves(tree.left), *leaves(tree.right)]


def largest(tree: Operation | int) -> int:
    """The largest number that occurs in the expression or in its evaluation."""
    if isinstance(tree, int):
        return tree
    return max(largest(tree.left), largest(tree.right), evaluate(tree))


def redexes(tree: Operation | int) -> int:
    """The number of operations whose operands are both plain numbers."""
    if isinstance(tree, int):
        return 0
    if isinstance(tree.left, int) and isinstance(tree.right, int):
        return 1
    return redexes(tree.left) + redexes(tree.right)


def redex(tree: Operation | int, index: int) -> Step:
    """The ``index``-th redex (from the left) as a step."""
    assert isinstance(tree, Operation)
    if isinstance(tree.left, int) and isinstance(tree.right, int):
        return Step(tree.left, tree.operator, tree.right, evaluate(tree))
    inside = redexes(tree.left)
    return redex(tree.left, index) if index < inside else redex(tree.right, index - inside)


def reduce_at(tree: Operation | int, index: int) -> Operation | int:
    """The tree with its ``index``-th redex (from the left) replaced by its value."""
    if isinstance(tree, int) or (isinstance(tree.left, int) and isinstance(tree.right, int)):
        return evaluate(tree)
    inside = redexes(tree.left)
    if index < inside:
        return Operation(left=reduce_at(tree.left, index), operator=tree.operator, right=tree.right)
    return Operation(
        left=tree.left, operator=tree.operator, right=reduce_at(tree.right, index - inside)
    )
