"""Arithmetic word problems of one and two steps, drawn from templates of our own by a seed.

Any chat model can be asked them: each is put in words, and its value is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from orchestrator.errors import InvalidValue
from reasoning.problems import Verdict
from reasoning.problems.arithmetic import Arithmetic
from reasoning.problems.equality import canonical
from reasoning.problems.expression import parse, value

_NAMES = (
    *("Ada", "Ben", "Carla", "Deniz", "Emeka", "Fatima", "Goran", "Hana"),
    *("Ivo", "Jun", "Kemi", "Lars", "Mina", "Noor", "Otto", "Priya"),
)
_THINGS = (
    *("apples", "pencils", "stickers", "marbles", "books"),
    *("coins", "shells", "cards", "buttons", "stamps"),
)
_PLACES = ("boxes", "baskets", "bags", "drawers", "trays")


@dataclass(frozen=True, kw_only=True)
class WordProblem:
    """A question in words that asks for the value of one expression."""

    domain: ClassVar[str] = "word-problems"
    question: str
    expression: str

    @property
    def value(self) -> str:
        """What the expression comes to."""
        return str(value(parse(self.expression)))

    def verify(self, answer: str) -> Verdict:
        """Check that the answer is the value, by itself or with what the question counts."""
        return Arithmetic(expression=self.expression).verify(self.canonical(answer) or "")

    def canonical(self, answer: str) -> str | None:
        key = Arithmetic(expression=self.expression).canonical(answer)
        return key or canonical(answer, self.question)


_Template = Callable[[Random], WordProblem]


class _Words:
    """What a template is filled with: two different names, a thing, a place."""

    def __init__(self, rng: Random) -> None:
        self.one, self.other = rng.sample(_NAMES, 2)
        self.things = rng.choice(_THINGS)
        self.places = rng.choice(_PLACES)


def _posed(question: str, expression: str) -> WordProblem:
    return WordProblem(question=question, expression=expression)


def _more(rng: Random) -> WordProblem:
    w, a, b = _Words(rng), rng.randint(3, 60), rng.randint(2, 40)
    return _posed(
        f"{w.one} has {a} {w.things} and finds {b} more. "
        f"How many {w.things} does {w.one} have now?",
        f"{a} + {b}",
    )


def _fewer(rng: Random) -> WordProblem:
    w, b, rest = _Words(rng), rng.randint(2, 40), rng.randint(2, 40)
    return _posed(
        f"{w.one} has {b + rest} {w.things} and gives {b} of them to {w.other}. "
        f"How many {w.things} are left for {w.one}?",
        f"{b + rest} - {b}",
    )


def _rows(rng: Random) -> WordProblem:
    w, a, b = _Words(rng), rng.randint(2, 12), rng.randint(2, 12)
    return _posed(
        f"There are {b} {w.places} with {a} {w.things} in each of them. "
        f"How many {w.things} are there in all?",
        f"{a} * {b}",
    )


def _shared(rng: Random) -> WordProblem:
    w, a, b = _Words(rng), rng.randint(2, 12), rng.randint(2, 9)
    return _posed(
        f"{w.one} shares {a * b} {w.things} equally among {b} friends. "
        f"How many {w.things} does each friend get?",
        f"{a * b} / {b}",
    )


def _difference(rng: Random) -> WordProblem:
    w, a, more = _Words(rng), rng.randint(5, 50), rng.randint(2, 30)
    return _posed(
        f"{w.one} is {a + more} years old, and {w.other} is {a}. "
        f"By how many years is {w.one} older?",
        f"{a + more} - {a}",
    )


def _distance(rng: Random) -> WordProblem:
    speed, hours = rng.randrange(20, 100, 5), rng.randint(2, 9)
    return _posed(
        f"A train goes {speed} kilometres in each hour. How many kilometres does it go in {hours} "
        "hours?",
        f"{speed} * {hours}",
    )


def _two_gifts(rng: Random) -> WordProblem:
    w, a, b, c = _Words(rng), rng.randint(3, 40), rng.randint(2, 30), rng.randint(2, 30)
    return _posed(
        f"{w.one} has {a} {w.things}. {w.other} gives {w.one} {b} {w.things}, and then {w.one} "
        f"buys {c} more. How many {w.things} does {w.one} have in the end?",
        f"{a} + {b} + {c}",
    )


def _packs_and_loose(rng: Random) -> WordProblem:
    w, a, b, c = _Words(rng), rng.randint(2, 12), rng.randint(3, 12), rng.randint(2, 9)
    return _posed(
        f"{w.one} buys {a} packs of {b} {w.things} each, and {c} single {w.things}. "
        f"How many {w.things} is that in all?",
        f"{a} * {b} + {c}",
    )


def _change(rng: Random) -> WordProblem:
    w, a, b = _Words(rng), rng.randint(2, 9), rng.randint(2, 9)
    paid = -(-a * b // 10) * 10 + 10
    return _posed(
        f"One notebook costs {a} euros. {w.one} buys {b} notebooks and pays with {paid} euros. "
        f"How many euros does {w.one} get back?",
        f"{paid} - {a} * {b}",
    )


def _left_then_shared(rng: Random) -> WordProblem:
    w, each, friends, kept = _Words(rng), rng.randint(2, 12), rng.randint(2, 8), rng.randint(2, 20)
    return _posed(
        f"{w.one} has {each * friends + kept} {w.things}, keeps {kept} of them, and shares the "
        f"rest equally among {friends} friends. How many {w.things} does each friend get?",
        f"({each * friends + kept} - {kept}) / {friends}",
    )


def _twice(rng: Random) -> WordProblem:
    w, a, times = _Words(rng), rng.randint(3, 25), rng.randint(2, 5)
    return _posed(
        f"{w.one} has {a} {w.things}, and {w.other} has {times} times as many. "
        f"How many {w.things} do they have together?",
        f"{a} + {times} * {a}",
    )


def _weeks(rng: Random) -> WordProblem:
    w, a, weeks = _Words(rng), rng.randint(2, 12), rng.randint(2, 6)
    return _posed(
        f"{w.one} reads {a} pages on each day. How many pages does {w.one} read in {weeks} weeks?",
        f"{a} * 7 * {weeks}",
    )


TEMPLATES: dict[int, tuple[_Template, ...]] = {
    1: (_more, _fewer, _rows, _shared, _difference, _distance),
    2: (_two_gifts, _packs_and_loose, _change, _left_then_shared, _twice, _weeks),
}
"""By the number of steps that a problem takes."""


def draw_word_problem(rng: Random, steps: int) -> WordProblem:
    """One problem of one or two steps.

    Raises:
        InvalidValue: there are no problems of so many steps.
    """
    if steps not in TEMPLATES:
        raise InvalidValue(f"steps: {steps} is out of range; give 1 or 2")
    return rng.choice(TEMPLATES[steps])(rng)


def draw_word_problems(count: int = 200, *, seed: int = 0) -> list[WordProblem]:
    """``count`` different problems, of one step and of two in turn; a seed gives the same ones."""
    rng = Random(f"word-problems {seed}")
    drawn: dict[str, WordProblem] = {}
    while len(drawn) < count:
        problem = draw_word_problem(rng, len(drawn) % 2 + 1)
        drawn.setdefault(problem.question, problem)
    return list(drawn.values())
