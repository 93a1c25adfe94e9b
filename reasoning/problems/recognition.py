"""From plain words to a `Problem`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from orchestrator.errors import InvalidValue
from reasoning.errors import ProblemRefused
from reasoning.problems.arithmetic import Arithmetic
from reasoning.problems.base import Problem, Verdict
from reasoning.problems.countdown import COUNTS, NUMBER_RANGE, TARGET_RANGE, Countdown, solve
from reasoning.problems.enumeration import COUNTS as ENUMERATED
from reasoning.problems.enumeration import LARGEST, Enumeration
from reasoning.problems.expression import MOST_SYMBOLS, parse, plain, render, value
from reasoning.problems.several import COUNTS as TOGETHER
from reasoning.problems.several import Several
from reasoning.problems.shortest_paths import SIZES, WEIGHTS, ShortestPaths

LONGEST = 100_000  # characters; beyond this a prompt is a mistake


@dataclass(frozen=True, kw_only=True)
class FreeForm:
    """Any other question: no verifier, and answers vote by their text."""

    domain: ClassVar[str] = "free-form"
    question: str

    def verify(self, answer: str) -> Verdict | None:
        return None

    def canonical(self, answer: str) -> str | None:
        return " ".join(answer.casefold().split()).rstrip(".") or None


# The gaps are bounded, so that no text makes the search slow.
_LIST = r"(-?\d+(?: ?(?:, ?and|and|,| ) ?-?\d+)+)"
_NUMBER = r"(-?\d+(?:[.,]\d+)*)"
_GOAL = r"\b(?:make|get|reach|obtain)\b"
_COUNTDOWN = (
    re.compile(
        rf"\b(?:use|using|with|from|combine)\b[^\d-]{{0,60}}{_LIST}\D{{0,200}}?{_GOAL}\D{{0,40}}?{_NUMBER}",
        re.I,
    ),
    re.compile(
        rf"{_GOAL}[^\d-]{{0,40}}(?P<target>{_NUMBER[1:-1]})\D{{0,60}}?\b(?:using|with|from)\b"
        rf"[^\d-]{{0,60}}{_LIST}",
        re.I,
    ),
)
_ASKING = re.compile(
    r"(?:compute|calculate|evaluate|solve|what is|what's|how much is)?(?: the value of)? ?:?", re.I
)
_ARITHMETIC = re.compile(r"(?=\D*\d)[\d +\-*/()]+")


def recognise(text: str) -> Problem:
    """The problem that ``text`` states, or else a `FreeForm` question.

    Raises:
        InvalidValue: the text is empty or enormous, or a number is out of range.
        ProblemRefused: it is a Countdown problem without a solution.
    """
    if not text.strip():
        raise InvalidValue(
            "the problem is empty; state one, such as 'Use 3, 10, 21 and 23 to make 50'"
        )
    if len(text) > LONGEST:
        raise InvalidValue(f"the problem has {len(text)} characters; give at most {LONGEST}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue("the problem is not valid UTF-8; encode it as such") from error
    text = " ".join(text.split())
    return (
        _countdown(text)
        or _enumeration(text)
        or _graph(text)
        or _several(text)
        or _arithmetic(text)
        or FreeForm(question=text)
    )


def _countdown(text: str) -> Countdown | None:
    for pattern in _COUNTDOWN:
        match = pattern.search(text)
        if match is not None:
            first, second = match.groups()
            numbers, target = (second, first) if "target" in match.groupdict() else (first, second)
            return countdown(
                [_integer("numbers", n) for n in re.findall(r"-?\d+", numbers)],
                _integer("target", target),
            )
    return None


def _integer(name: str, digits: str) -> int:
    digits = re.sub(r",(?=\d{3}\b)", "", digits)
    if not digits.removeprefix("-").isdigit():
        raise InvalidValue(f"{name}: {digits[:20]} is not a whole number; give 1 to 100")
    if len(digits) > 9:
        raise InvalidValue(
            f"{name}: a number of {len(digits)} digits is out of range; use 1 to 100"
        )
    return int(digits)


def countdown(numbers: list[int], target: int) -> Countdown:
    """A checked Countdown problem.

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
    if solve(numbers, target) is None:
        raise ProblemRefused(
            f"{', '.join(map(str, numbers))} can't make {target} with every number used once; "
            "change a number or the target"
        )
    return Countdown(numbers=tuple(numbers), target=target)


_ENUMERATION = re.compile(
    r"\b(?:list|name|give|write(?: down)?|find)\b[^\d]{0,40}?(\d+)\D{0,40}?"
    r"\bmultiples of (\d+)\b(?! and| or|,)",
    re.I,
)


def _enumeration(text: str) -> Enumeration | None:
    match = _ENUMERATION.search(text)
    if match is None:
        return None
    count, divisor = _integer("count", match[1]), _integer("divisor", match[2])
    if count not in ENUMERATED:
        raise InvalidValue(
            f"count: {count} is out of range; ask for 2 to {ENUMERATED[-1]} multiples"
        )
    if not divisor >= 1 or count * divisor > LARGEST:
        raise ProblemRefused(
            f"there are no {count} multiples of {divisor} up to {LARGEST}; ask for fewer"
        )
    return Enumeration(count=count, divisor=divisor)


_GRAPH = re.compile(
    r"\bshortest\b.{0,80}?\b(?:graph|edges|weights)\b[^\d]{0,40}(\d[\d ;]*\d)", re.I
)


def _graph(text: str) -> ShortestPaths | None:
    match = _GRAPH.search(text)
    if match is None or ";" not in match[1]:
        return None
    rows = tuple(
        tuple(int(n[:9]) for n in row.split()) for row in match[1].split(";") if row.strip()
    )
    size = len(rows)
    if size not in SIZES or any(len(row) != size for row in rows):
        raise InvalidValue(
            f"graph: {size} rows of {', '.join(str(len(row)) for row in rows[:8])} numbers; give "
            f"{SIZES[0]} to {SIZES[-1]} rows of as many numbers"
        )
    for i, row in enumerate(rows):
        if row[i] != 0 or any(n not in WEIGHTS for j, n in enumerate(row) if j != i):
            raise InvalidValue(
                f"graph: row {i + 1} must have 0 for its own node and 1 to {WEIGHTS[-1]} elsewhere"
            )
    return ShortestPaths(weights=rows)


def _several(text: str) -> Several | None:
    asking = _ASKING.match(text)
    rest = (text[asking.end() :] if asking else text).strip().removeprefix("each").strip(" :")
    parts = [part.strip(" ;,.?=") for part in re.split(r"(?:^|;)\s*(?:\d{1,2}\)\s*)?", rest)]
    parts = [plain(part).strip() for part in parts if part]
    if len(parts) < 2 or any(not _ARITHMETIC.fullmatch(part) for part in parts):
        return None
    if len(parts) not in TOGETHER:
        raise InvalidValue(
            f"expressions: {len(parts)} given; give {TOGETHER[0]} to {TOGETHER[-1]} at once"
        )
    for part in parts:
        _arithmetic(part)  # refuses what can't be computed
    return Several(expressions=tuple(render(parse(part)) for part in parts))


def _arithmetic(text: str) -> Arithmetic | None:
    asking = _ASKING.match(text)
    rest = text[asking.end() :] if asking else text
    expression = plain(rest.strip(" .?!=")).strip()
    if not _ARITHMETIC.fullmatch(expression) or expression.isdigit():
        return None
    try:
        value(parse(expression))
    except ValueError as error:
        raise InvalidValue(
            f"expression: {error}; write one such as (17*3+5)*4-12 with at most "
            f"{MOST_SYMBOLS} symbols"
        ) from error
    return Arithmetic(expression=expression)
