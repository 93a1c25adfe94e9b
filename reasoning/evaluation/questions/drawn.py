"""Held-out problems, drawn by a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from orchestrator.errors import InvalidValue
from reasoning.problems import Problem, arithmetic, countdown, enumeration, several, shortest_paths

MOST_PROBLEMS = 100_000

_GENERATORS: dict[str, Callable[[Random, int], Problem]] = {
    "arithmetic": lambda rng, size: arithmetic.generate(rng, held_out=True),
    "countdown": lambda rng, size: countdown.generate(rng, count=size, held_out=True),
    "several": lambda rng, size: several.generate(rng, count=size, held_out=True),
    "shortest-paths": lambda rng, size: shortest_paths.generate(rng, size=size, held_out=True),
}


class DrawnSize(NamedTuple):
    """How large a drawn problem usually is, and may be: numbers, expressions, items or nodes."""

    usual: int
    allowed: range


DRAWN: dict[str, DrawnSize | None] = {
    "arithmetic": None,
    "countdown": DrawnSize(4, range(4, 6)),
    "several": DrawnSize(5, range(2, 13)),
    "enumeration": DrawnSize(40, range(2, 101)),
    "shortest-paths": DrawnSize(4, range(3, 5)),
    "word-problems": None,
}
"""What can be drawn; None is of one size."""


def draw_problems(domain: str, count: int, *, numbers: int, seed: int) -> list[Problem]:
    """``count`` different held-out problems; a seed always gives the same, in the same order.

    ``numbers`` is the size of each problem.  There are few enumerations: of them it is the largest
    size.

    Raises:
        InvalidValue: there are not so many.
    """
    if not 1 <= count <= MOST_PROBLEMS:
        raise InvalidValue(f"n: {count} is out of range; give 1 to {MOST_PROBLEMS} problems")
    rng = Random(f"{domain} {numbers} {seed}")
    if domain == "enumeration":
        return _draw_enumerations(rng, count, numbers)
    drawn: dict[Problem, None] = {}
    while len(drawn) < count:
        drawn[_GENERATORS[domain](rng, numbers)] = None
    return list(drawn)


def _draw_enumerations(rng: Random, count: int, most: int) -> list[Problem]:
    sizes = range(min(enumeration.USUAL.start, most), most + 1)
    every = [one for size in sizes for one in enumeration.of(size, held_out=True)]
    if count > len(every):
        raise InvalidValue(
            f"n: only {len(every)} enumerations of {sizes.start} to {most} items are held out; "
            "give at most that many, or a larger --numbers"
        )
    return list(rng.sample(every, count))
