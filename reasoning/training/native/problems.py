"""Problems in words and in symbols, some of which decompose, with their worked solutions.

An item is a chain of operations on whole numbers, or a check whether one number divides another.
A problem asks for several items that have nothing to do with each other, which can be worked out
apart, or for one long item, which can't.  Every operation is written in steps that are read off a
table of two digits: ``67+8=75``, ``3*14=30+12=42``, ``67+58=110+15=125``.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

NAMES = ("Ana", "Ben", "Cal", "Dan", "Eva", "Fay", "Gus", "Hal", "Ida", "Joe", "Kim", "Leo")
OBJECTS = ("pens", "cups", "eggs", "keys", "nuts", "cards", "coins", "books")
LETTERS = "ABCDEFGH"
GAINS = ("buys", "finds", "gets")
LOSSES = ("loses", "sells", "gives")
HELD_OUT = 16
"""One chain in so many is held out of training."""
SHORTEST_HELD_OUT = 3
"""Operations, or digits but one, from which on a chain can be held out; below, chains are facts."""
LARGEST = 199
LONGEST = 6
"""Operations of a chain that stands beside others, at most."""


class ChainStep(NamedTuple):
    """One operation of a chain on the value before it: ``+``, ``-`` or ``*``."""

    operator: str
    operand: int

    def apply(self, value: int) -> int:
        """The value after it."""
        if self.operator == "*":
            return value * self.operand
        return value + (self.operand if self.operator == "+" else -self.operand)


@dataclass(frozen=True)
class Chain:
    """A number, and what is done to it, one operation after the other."""

    start: int
    steps: tuple[ChainStep, ...]

    @property
    def values(self) -> list[int]:
        """The start and the value after each step."""
        values = [self.start]
        for step in self.steps:
            values.append(step.apply(values[-1]))
        return values

    @property
    def key(self) -> str:
        """What the chain is, as ``3*14+25``."""
        return f"{self.start}" + "".join(f"{one.operator}{one.operand}" for one in self.steps)

    @property
    def held_out(self) -> bool:
        """Whether it is kept out of training."""
        return len(self.steps) >= SHORTEST_HELD_OUT and _held_out(self.key)

    @property
    def parts(self) -> Iterator[Chain]:
        """Every chain that is worked out on the way, itself included."""
        values = self.values
        for first in range(len(self.steps)):
            for last in range(first + 1, len(self.steps) + 1):
                yield Chain(values[first], self.steps[first:last])

    @property
    def work(self) -> str:
        """The chain worked out, as ``3*14=30+12=42,42+25=60+7=67``."""
        return ",".join(map(_worked, self.values, self.steps))


@dataclass(frozen=True)
class Division:
    """Whether ``divisor`` (2 to 9) divides ``number``, by long division."""

    number: int
    divisor: int

    @property
    def key(self) -> str:
        """What the check is, as ``2380/7``."""
        return f"{self.number}/{self.divisor}"

    @property
    def divides(self) -> bool:
        """Whether it does."""
        return self.number % self.divisor == 0

    @property
    def held_out(self) -> bool:
        """Whether it is kept out of training."""
        return self.number >= 10**SHORTEST_HELD_OUT and _held_out(self.key)

    @property
    def parts(self) -> Iterator[Division]:
        """Every check that is made on the way, itself included."""
        digits = str(self.number)
        for length in range(1, len(digits) + 1):
            yield Division(int(digits[:length]), self.divisor)

    @property
    def work(self) -> str:
        """The check worked out, digit by digit."""
        rest, lines = 0, []
        for digit in map(int, str(self.number)):
            part = 10 * rest + digit
            quotient, rest = divmod(part, self.divisor)
            lines.append(f"{part}={self.divisor}*{quotient}+{rest}")
        return f"{','.join(lines)}. {'Yes' if self.divides else 'No'}."


Item = Chain | Division


@dataclass(frozen=True)
class TaughtProblem:
    """A question with its worked solution.

    Attributes:
        labels: What each part is called, in a plan.
        parts: The work of each part; only the first stands where the problem is serial.
        conclusion: What the parts came to and what follows; empty where there is one part.
        items: The chains or checks in it.
    """

    question: str
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    conclusion: str
    answer: str
    items: tuple[Item, ...]

    @property
    def decomposes(self) -> bool:
        """Whether its parts have nothing to do with each other."""
        return len(self.parts) > 1


def _held_out(key: str) -> bool:
    return hashlib.sha256(key.encode()).digest()[0] % HELD_OUT == 0


def _worked(value: int, step: ChainStep) -> str:
    """One operation as its steps and result."""
    other, result = step.operand, step.apply(value)
    asked = f"{value}{step.operator}{other}"
    if step.operator == "*":
        one, many = sorted((value, other))
        tens, ones = one * (many - many % 10), one * (many % 10)
        return f"{asked}={tens}+{ones}={result}" if tens and ones else f"{asked}={result}"
    digits = value % 10, other % 10
    tens = value + other - sum(digits)
    split = step.operator == "+" and other > 9 and all(digits)
    return f"{asked}={tens}+{sum(digits)}={result}" if split else f"{asked}={result}"


def draw_fact(rng: random.Random) -> str:
    """One operation worked out, such as ``67+8=75``: what all else is made of."""
    kind = rng.choice("++--*/s")
    if kind == "/":
        divisor = rng.randint(2, 9)
        part = rng.randrange(10 * divisor)
        return f"{part}={divisor}*{part // divisor}+{part % divisor}"
    if kind == "*":
        return _worked(rng.randint(2, 9), ChainStep("*", rng.randint(11, 19)))
    if kind == "s":
        return _worked(rng.randint(1, 999 - LARGEST), ChainStep("+", rng.randint(1, LARGEST)))
    operand = rng.randint(2, 9)
    value = rng.randint(1, LARGEST - operand)
    return _worked(value if kind == "+" else value + operand, ChainStep(kind, operand))


# ---- drawing items -------------------------------------------------------------------------


def draw_chain(rng: random.Random, length: int, *, held_out: bool, product: bool = True) -> Chain:
    """A chain of so many different steps with values from 1 to `LARGEST`.

    Args:
        held_out: Whether it is one that is kept out of training; else nothing in it is.
        product: Whether it may begin with a product.
    """
    while True:
        chain = _any_chain(rng, length, product)
        if _fits(chain, held_out):
            return chain


def _any_chain(rng: random.Random, length: int, product: bool) -> Chain:
    first: list[ChainStep] = []
    start = rng.randint(11, 99)
    if product and rng.random() < 0.6:
        start = rng.randint(2, 9)
        first = [ChainStep("*", rng.randint(11, 19))]
    value = first[0].apply(start) if first else start
    while len(first) < length:
        step = ChainStep(rng.choice("+-"), rng.randint(2, 9))
        if step not in first and 1 <= step.apply(value) <= LARGEST:
            first.append(step)
            value = step.apply(value)
    return Chain(start, tuple(first))


def draw_division(rng: random.Random, divisor: int, *, held_out: bool) -> Division:
    """A check of a number of four to six digits, about half of which succeed."""
    while True:
        number = rng.randrange(
            10 ** (digits := rng.randint(4 if held_out else 3, 5)), 10 ** (digits + 1)
        )
        if rng.random() < 0.45:
            number -= number % divisor
        division = Division(number, divisor)
        if number >= 1000 and _fits(division, held_out):
            return division


def _fits(item: Item, held_out: bool) -> bool:
    return item.held_out if held_out else not any(part.held_out for part in item.parts)


# ---- problems that decompose ---------------------------------------------------------------


def owners(rng: random.Random, *, held_out: bool) -> TaughtProblem:
    """Several people who each have, gain and lose things."""
    chains = _chains(rng, held_out)
    names, things = tuple(rng.sample(NAMES, len(chains))), rng.choice(OBJECTS)
    told = " ".join(_story(rng, *one, things) for one in zip(names, chains, strict=True))
    kind = rng.choice(("all", "most", "most", "each", "each"))
    asked = {
        "all": f"How many {things} do they have in all?",
        "most": f"Who has the most {things}?",
        "each": f"How many {things} does each have?",
    }[kind]
    return _apart(kind, f"{told} {asked}", names, chains)


def variables(rng: random.Random, *, held_out: bool) -> TaughtProblem:
    """Several expressions with names."""
    chains = _chains(rng, held_out)
    names = tuple(sorted(rng.sample(LETTERS, len(chains))))
    told = " ".join(f"{name}={one.key}." for name, one in zip(names, chains, strict=True))
    kind = rng.choice(("all", "most", "most", "each", "each"))
    asked = {
        "all": f"Find {'+'.join(names)}.",
        "most": "Which is the largest?",
        "each": "Find each.",
    }[kind]
    return _apart(kind, f"{told} {asked}", names, chains)


def divisions(rng: random.Random, *, held_out: bool) -> TaughtProblem:
    """Numbers to be listed that a divisor divides, after a check of each."""
    divisor = rng.randint(2, 9)
    found = {draw_division(rng, divisor, held_out=held_out) for _ in range(_count(rng, held_out))}
    items = tuple(sorted(found, key=lambda one: rng.random()))
    labels = tuple(str(one.number) for one in items)
    right = [str(one.number) for one in items if one.divides]
    answer = ", ".join(right) or "none"
    return TaughtProblem(
        question=f"Which of {', '.join(labels)} can be divided by {divisor}?",
        labels=labels,
        parts=tuple(f"{one.key}: {one.work}" for one in items),
        conclusion=_listed(labels, ["Yes" if one.divides else "No" for one in items]),
        answer=answer,
        items=items,
    )


def _listed(labels: Sequence[str], results: Sequence[object]) -> str:
    """What the parts came to, as ``Ana 12, Ben 7.``."""
    return ", ".join(f"{label} {found}" for label, found in zip(labels, results, strict=True)) + "."


def _chains(rng: random.Random, held_out: bool) -> list[Chain]:
    count = _count(rng, held_out)
    length = LONGEST if held_out else rng.randint(SHORTEST_HELD_OUT, LONGEST)
    return [draw_chain(rng, length, held_out=held_out) for _ in range(count)]


def _count(rng: random.Random, held_out: bool) -> int:
    """How many parts: those that are measured are of the larger sizes."""
    return rng.randint(5 if held_out else 2, 6)


def _story(rng: random.Random, name: str, chain: Chain, things: str) -> str:
    start, steps = f"{chain.start} {things}", list(chain.steps)
    if steps[0].operator == "*":
        start = f"{chain.start} boxes of {steps.pop(0).operand} {things}"
    verbs = [rng.choice(GAINS if one.operator == "+" else LOSSES) for one in steps]
    told = (f"{verb} {one.operand}" for verb, one in zip(verbs, steps, strict=True))
    return f"{name} has {start}, {', '.join(told)}."


def _apart(
    kind: str, question: str, names: Sequence[str], chains: Sequence[Chain]
) -> TaughtProblem:
    """A problem of chains with names, of which all, the largest or each is asked for."""
    values = [chain.values[-1] for chain in chains]
    conclusion, answer = _listed(names, values), ", ".join(map(str, values))
    if kind == "all":
        total = Chain(values[0], tuple(ChainStep("+", value) for value in values[1:]))
        conclusion, answer = f"{conclusion}\n{total.work}", str(total.values[-1])
    elif kind == "most":
        best = max(values)
        answer = names[values.index(best)]
        conclusion += f"\n{answer} has {best}"
    parts = (f"{name}: {one.work}." for name, one in zip(names, chains, strict=True))
    return TaughtProblem(question, tuple(names), tuple(parts), conclusion, answer, tuple(chains))


# ---- problems that stay serial -------------------------------------------------------------


def instructions(rng: random.Random, *, held_out: bool) -> TaughtProblem:
    """A number and what to do with it."""
    chain = draw_chain(rng, rng.randint(4, 10), held_out=held_out, product=False)
    verbs = {"+": "add", "-": "take"}
    told = ", ".join(f"{verbs[one.operator]} {one.operand}" for one in chain.steps)
    return _serial(f"Start with {chain.start}, {told}. What is left?", chain.work, chain)


def compared(rng: random.Random, *, held_out: bool) -> TaughtProblem:
    """People who each have so many more or fewer than the one before."""
    chain = draw_chain(rng, rng.randint(3, 5), held_out=held_out, product=False)
    names, things = rng.sample(NAMES, len(chain.steps) + 1), rng.choice(OBJECTS)
    words = {"+": "more", "-": "fewer"}
    told = " ".join(
        f"{name} has {one.operand} {words[one.operator]} than {before}."
        for before, name, one in zip(names, names[1:], chain.steps, strict=False)
    )
    question = f"{names[0]} has {chain.start} {things}. {told}"
    question += f" How many {things} does {names[-1]} have?"
    worked = map(_worked, chain.values, chain.steps)
    lines = (f"{name}: {line}." for name, line in zip(names[1:], worked, strict=True))
    return _serial(question, "\n".join(lines), chain)


def dependent(rng: random.Random, *, held_out: bool) -> TaughtProblem:
    """Expressions with names, each of which begins with the one before."""
    chain = draw_chain(rng, rng.randint(4, 10), held_out=held_out)
    cuts = sorted(
        rng.sample(range(1, len(chain.steps)), min(rng.randint(1, 3), len(chain.steps) - 1))
    )
    bounds = list(zip([0, *cuts], [*cuts, len(chain.steps)], strict=True))
    names = sorted(rng.sample(LETTERS, len(bounds)))
    heads = [str(chain.start), *names]
    told, lines = [], []
    for name, head, (first, last) in zip(names, heads, bounds, strict=False):
        piece = Chain(chain.values[first], chain.steps[first:last])
        told.append(f"{name}={head}{piece.key.removeprefix(str(piece.start))}.")
        lines.append(f"{name}: {piece.work}.")
    return _serial(f"{' '.join(told)} Find {names[-1]}.", "\n".join(lines), chain)


def alone(rng: random.Random, *, held_out: bool) -> TaughtProblem:
    """One person, or one expression with a name."""
    chain = draw_chain(rng, rng.randint(3 if held_out else 1, 6), held_out=held_out)
    if rng.random() < 0.5:
        name = rng.choice(LETTERS)
        question = f"{name}={chain.key}. Find {name}."
    else:
        name, things = rng.choice(NAMES), rng.choice(OBJECTS)
        question = f"{_story(rng, name, chain, things)} How many {things} does {name} have?"
    return _serial(question, f"{name}: {chain.work}.", chain)


def one_division(rng: random.Random, *, held_out: bool) -> TaughtProblem:
    """A single check."""
    item = draw_division(rng, rng.randint(2, 9), held_out=held_out)
    question = f"Can {item.number} be divided by {item.divisor}?"
    answer = "Yes" if item.divides else "No"
    return TaughtProblem(question, (), (f"{item.key}: {item.work}",), "", answer, (item,))


def _serial(question: str, work: str, chain: Chain) -> TaughtProblem:
    return TaughtProblem(question, (), (work,), "", str(chain.values[-1]), (chain,))


APART = (owners, variables, divisions)
SERIAL = (instructions, compared, dependent, alone, one_division)


def draw_problem(
    rng: random.Random, *, held_out: bool, decomposes: bool | None = None
) -> TaughtProblem:
    """A problem; two in three decompose unless it is said."""
    if decomposes is None:
        decomposes = rng.random() < 0.67
    return rng.choice(APART if decomposes else SERIAL)(rng, held_out=held_out)
