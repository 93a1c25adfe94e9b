"""Countdown: combine the given numbers, each exactly once, to reach a target.

The distribution is that of Stream of Search (arXiv 2404.03683) and APR (arXiv 2504.15466): four
numbers drawn from 1..99, a target in 10..100, solvable with all numbers used, and every
intermediate a non-negative integer.  A problem with five numbers is the harder set.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar, cast

from orchestrator.errors import InvalidValue
from reasoning.errors import ProblemRefused
from reasoning.problems.base import Verdict, integer, is_held_out
from reasoning.problems.expression import (
    Operation,
    Operator,
    Step,
    apply,
    canonical,
    combine,
    leaves,
    parse,
    plain,
    steps,
    value,
)

NUMBER_RANGE = range(1, 100)
TARGET_RANGE = range(10, 101)
COUNTS = range(3, 6)
"""How many numbers a problem may have; four is the papers' set, five the harder one."""


def operations(a: int, b: int) -> Iterator[Step]:
    """Every permitted operation on two numbers, larger one first, in the order ``+ - * /``."""
    left, right = max(a, b), min(a, b)
    for operator in ("+", "-", "*", "/"):
        result = apply(left, operator, right)
        if result is not None:
            yield Step(left, operator, right, result)


def expand(numbers: Sequence[int]) -> Iterator[tuple[Step, tuple[int, ...]]]:
    """Each first operation on ``numbers`` with the numbers that remain, the result last.

    Pairs come in list order; a remainder equal to an earlier one (as a multiset) is left out.
    """
    seen: set[tuple[int, ...]] = set()
    for i, j in itertools.combinations(range(len(numbers)), 2):
        rest = tuple(n for k, n in enumerate(numbers) if k != i and k != j)
        for step in operations(numbers[i], numbers[j]):
            state = (*rest, step.result)
            multiset = tuple(sorted(state))
            if multiset not in seen:
                seen.add(multiset)
                yield step, state


@lru_cache(maxsize=1 << 16)
def _solve(numbers: tuple[int, ...], target: int) -> tuple[Step, ...] | None:
    if len(numbers) == 1:
        return () if numbers[0] == target else None
    for step, state in expand(numbers):
        rest = _solve(tuple(sorted(state)), target)
        if rest is not None:
            return (step, *rest)
    return None


def solve(numbers: Sequence[int], target: int) -> tuple[Step, ...] | None:
    """An exact solution found by exhaustive search, or None where there is none."""
    return _solve(tuple(sorted(numbers)), target)


# The gaps are bounded, so that no text makes the search slow.
_LIST = r"(-?\d+(?: ?(?:, ?and|and|,| ) ?-?\d+)+)"
_NUMBER = r"(-?\d+(?:[.,]\d+)*)"
_GOAL = r"\b(?:make|get|reach|obtain)\b"
_ASKED = r"(?:(?:please|how (?:can|do) (?:i|we|you)|can you|try to),? )?"
_NAMED = r"(?:(?:only|all|each|of|the|numbers?|digits)\b:? ?){0,6}"
_TARGET = r"(?:(?:exactly|the|target|number|value|result|total|of)\b:? ?){0,5}"
_RULES = (
    r"(?:[ ,()]|\+[ ,]*[-−][ ,]*[*×][ ,]*(?:and )?[/÷]"
    r"|\b(?:each|all|every|exactly|only|just|once|numbers?|one|time|with|using|use"
    r"|by|and|the|operations?|operators?|arithmetic|basic|four|in any order|to)\b){0,60}"
)
_END = r"[ .!?]*(?:every intermediate result must be a non-negative integer\.?)?"
_STATED = (
    re.compile(
        rf"{_ASKED}(?:use|using|with|from|combine|combining) {_NAMED}{_LIST}{_RULES}?{_GOAL} "
        rf"{_TARGET}{_NUMBER}{_RULES}{_END}",
        re.I,
    ),
    re.compile(
        rf"{_ASKED}{_GOAL} {_TARGET}(?P<target>{_NUMBER[1:-1]}),? (?:by )?"
        rf"(?:using|use|with|from|combining) {_NAMED}{_LIST}{_RULES}{_END}",
        re.I,
    ),
)
"""What states such a problem and nothing more: a question about it is no such problem."""


@dataclass(frozen=True, kw_only=True)
class Countdown:
    """A Countdown problem: reach ``target`` with each of ``numbers`` used exactly once.

    Attributes:
        whole: Whether every intermediate result must be a non-negative integer; a problem in
            words that don't say so takes any expression for an answer.
    """

    domain: ClassVar[str] = "countdown"
    numbers: tuple[int, ...]
    target: int
    whole: bool = field(default=True, compare=False, repr=False)

    @classmethod
    def recognise(cls, text: str) -> Countdown | None:
        """The Countdown problem that a text states, if whole numbers solve it.

        Raises:
            InvalidValue: there are too few or many numbers, or one is out of range.
            ProblemRefused: there is no solution.
        """
        for pattern in _STATED:
            match = pattern.fullmatch(text)
            if match is not None:
                numbers, target = match.groups()
                if "target" in match.groupdict():
                    numbers, target = target, numbers
                listed = [integer("numbers", n) for n in re.findall(r"-?\d+", numbers)]
                return _checked(listed, integer("target", target), whole="integer" in text)
        return None

    @property
    def question(self) -> str:
        *head, last = map(str, self.numbers)
        return (
            f"Use {', '.join(head)} and {last}, each exactly once, with + - * / "
            f"to make {self.target}. Every intermediate result must be a non-negative integer."
        )

    @property
    def held_out(self) -> bool:
        """Whether this problem, identified by (sorted numbers, target), is kept from training."""
        return is_held_out(f"{sorted(self.numbers)}{self.target}")

    def verify(self, answer: str) -> Verdict:
        """Check an answer given as steps (``10*3=30, 30+20=50``) or as one expression.

        Strict: every number given is used exactly once and no other, every operation is right,
        the last result is the target, and, where the problem is ``whole`` or the answer in steps,
        every intermediate is a non-negative integer.
        """
        found = parse_answer(answer)
        if found is None:
            return self._verify_expression(_expression(answer))
        pool = list(self.numbers)
        for step in found:
            for operand in (step.left, step.right):
                if operand not in pool:
                    return Verdict(ok=False, reason=f"{step}: {operand} is not available")
                pool.remove(operand)
            if apply(step.left, step.operator, step.right) != step.result:
                return Verdict(ok=False, reason=f"{step} is wrong or not a non-negative integer")
            pool.append(step.result)
        if len(pool) != 1:
            return Verdict(ok=False, reason=f"not all numbers are used: {pool} remain")
        if pool[0] != self.target:
            return Verdict(ok=False, reason=f"the result is {pool[0]}, not {self.target}")
        return Verdict(ok=True, reason="every step holds and each number is used once")

    def _verify_expression(self, tree: Operation | int | None) -> Verdict:
        """Check an expression with negative or fractional intermediates."""
        if tree is None:
            return Verdict(
                ok=False, reason="the answer is neither a list of steps nor an expression"
            )
        if self.whole:
            return Verdict(ok=False, reason="an intermediate result is no non-negative integer")
        if sorted(leaves(tree)) != sorted(self.numbers):
            return Verdict(ok=False, reason="not each number, and no other, is used once")
        if (result := value(tree)) != self.target:
            return Verdict(ok=False, reason=f"the result is {result}, not {self.target}")
        return Verdict(ok=True, reason="the expression holds and each number is used once")

    def canonical(self, answer: str) -> str | None:
        """A key shared by equivalent answers: operands commuted, steps in another order."""
        tree, found = _expression(answer), parse_answer(answer)
        if isinstance(tree, Operation) and not (found is None and self.whole):
            return canonical(tree)
        built: dict[int, list[str]] = {}
        text = None
        for step in found or ():
            left, right = (
                built[n].pop() if built.get(n) else str(n) for n in (step.left, step.right)
            )
            text = combine(left, step.operator, right)
            built.setdefault(step.result, []).append(text)
        return text


_STEP = re.compile(r"\s*(\d{1,30})\s*([-+*/])\s*(\d{1,30})\s*=\s*(\d{1,30})\s*")


def parse_answer(answer: str) -> list[Step] | None:
    """The steps of an answer, or None where there are none in non-negative integers."""
    found = []
    for part in re.split(r"[,;\n]", _written(answer).rstrip(".,;")):
        match = _STEP.fullmatch(part)
        if match is None:
            tree = _expression(answer)
            try:
                return None if tree is None else list(steps(tree))
            except ValueError:
                return None
        left, operator, right, result = match.groups()
        found.append(Step(int(left), cast("Operator", operator), int(right), int(result)))
    return found


_FONT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_NAME_BEFORE = re.compile(r"[`$\s]*[a-zA-Z]\s*=\s*")


def _written(answer: str) -> str:
    """An answer in plain signs, without fonts and the name of what it is."""
    text = plain(_FONT.sub(r"\1", answer)).strip("`$ \n\t")
    return text[named.end() :] if (named := _NAME_BEFORE.match(text)) is not None else text


def _expression(answer: str) -> Operation | int | None:
    """The tree of ``(a+b)*c``, ``(a+b)*c = 12`` or ``12 = (a+b)*c``, where the claim holds.

    None for all else.
    """
    text = _TIMES.sub("*", _written(answer).replace("\\", "").translate(_BRACKETS))
    try:
        sides = [parse(side) for side in _FACTOR.sub("*", text).strip().rstrip(".").split("=")]
        if len({value(side) for side in sides}) != 1:
            return None
    except ValueError:
        return None
    # One step is read as a step, so that "2+3=5" has one meaning only.
    return None if _STEP.fullmatch(_written(answer)) else max(sides, key=_operations)


def _operations(tree: Operation | int) -> int:
    if isinstance(tree, int):
        return 0
    return 1 + _operations(tree.left) + _operations(tree.right)


_BRACKETS = str.maketrans("[]{}", "()()")
_TIMES = re.compile(r"(?<=[\d)\s])[xX](?=[\d(\s])")


_FACTOR = re.compile(r"(?<=[\d)])\s*(?=\()|(?<=\))\s*(?=\d)")
"""Where ``10(2+3)`` and ``(2+3)(4+1)`` leave out the sign of a product."""


def generate(rng: random.Random, *, count: int = 4, held_out: bool | None = None) -> Countdown:
    """Draw a solvable problem; ``held_out`` restricts it to one side of the train/test split."""
    while True:
        problem = Countdown(
            numbers=tuple(rng.choice(NUMBER_RANGE) for _ in range(count)),
            target=rng.choice(TARGET_RANGE),
        )
        if held_out is not None and problem.held_out is not held_out:
            continue
        if solve(problem.numbers, problem.target) is not None:
            return problem


def _checked(numbers: list[int], target: int, *, whole: bool) -> Countdown | None:
    """A checked Countdown problem; None where it needs fractions or negative numbers.

    Args:
        whole: Whether its text says that there are none.

    Raises:
        InvalidValue: too few or many numbers, or one out of range.
        ProblemRefused: there is no solution.
    """
    if len(numbers) not in COUNTS:
        raise InvalidValue(f"numbers: {len(numbers)} given; a Countdown problem has 3, 4 or 5")
    for number in numbers:
        if number not in NUMBER_RANGE:
            raise InvalidValue(f"numbers: {number} is out of range; give 1 to 99")
    if target not in TARGET_RANGE:
        raise InvalidValue(f"target: {target} is out of range; give 10 to 100")
    if solve(numbers, target) is not None:
        return Countdown(numbers=tuple(numbers), target=target, whole=whole)
    if not whole and target in _values(tuple(map(Fraction, numbers))):
        return None
    rule = " and every intermediate result a non-negative integer" if whole else ""
    raise ProblemRefused(
        f"{', '.join(map(str, numbers))} can't make {target} with every number used once{rule}; "
        "change a number or the target"
    )


@lru_cache(maxsize=256)
def _values(numbers: tuple[Fraction, ...]) -> frozenset[Fraction]:
    """Every value of all ``numbers``, each used once, with fractions and negative numbers."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found: set[Fraction] = set()
    for mask in range(1, 2 ** (len(numbers) - 1)):
        sides = [tuple(n for k, n in enumerate(numbers) if mask >> k & 1 == s) for s in (1, 0)]
        for a, b in itertools.product(*map(_values, sides)):
            found |= {a + b, a - b, b - a, a * b}
            found |= {x / y for x, y in ((a, b), (b, a)) if y}
    return frozenset(found)
