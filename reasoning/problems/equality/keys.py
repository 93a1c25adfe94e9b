r"""A key for each answer, which equal answers share."""

from __future__ import annotations

import json
import re
from fractions import Fraction

from reasoning.problems.equality.case import folded, is_mathematical
from reasoning.problems.equality.markup import unmarked
from reasoning.problems.equality.numbers import WORD_NUMBERS, number_in
from reasoning.problems.equality.units import (
    amount,
    currencies,
    measure,
    units_named,
    without_money,
)

LONGEST = 2_000
"""Characters of an answer that is read as more than words."""
_DEEPEST = 4


def equal(one: str, other: str) -> bool:
    """Whether two answers say the same; False where one says nothing.

    An amount without a currency is equal to the same amount of any.
    """
    key, second = canonical(one), canonical(other)
    if key is None or second is None:
        return False
    return key == second or without_money(key)[0] == second or key == without_money(second)[0]


def canonical(answer: str, question: str = "") -> str | None:
    """The key that equal answers share; None where there are no words in the answer.

    It is its own key, and it is always found in a time that grows as the answer's length does.
    A unit that the ``question`` names may be left out, and where it asks for all solutions their
    order is none.
    """
    if len(answer) > LONGEST:
        return " ".join(answer.casefold().split()) or None
    if (written := _as_written(answer, question)) is not None:
        return written
    key = answer
    for _ in range(2 * _DEEPEST):
        before, key = key, _key(unmarked(key), 0)
        if key == before:
            break
    return (_asked_for(key, answer, question) if question else key) or None


_KEY_WITH_UNIT = re.compile(r"(-?\d+(?:/\d+)?)(?: (.+)|(%))")
_ALL_SOLUTIONS = re.compile(
    r"\b(?:find|what are|give|list|determine) (?:all|both)\b|\broots\b|\bzeros\b|\bsolutions\b"
    r"|\ball (?:\w+ )?(?:values|[a-z])\b|\bwhich (?:two|three|four)\b",
    re.I,
)
_RATIO = re.compile(r"(\d+) to (\d+)")
_ORDERED = re.compile(r"\b(?:system|pairs?|order|sequence|sorted|respectively)\b", re.I)


_NO_FRACTION = re.compile(
    r"\b(?:dates?|birthday|deadline|what day|which day|time signature|odds|score|blood pressure)\b"
    r"|^\s*when (?:is|was|did|does|do|will|were|are)\b",
    re.I,
)
_NUMBERS_APART = re.compile(r"0*(\d{1,3})\s?/\s?0*(\d{1,3})")


def _as_written(answer: str, question: str) -> str | None:
    """Two numbers with a slash, which are no fraction where a day or a score is asked for."""
    found = _NUMBERS_APART.fullmatch(answer.strip(" .$"))
    if found is None or _NO_FRACTION.search(question) is None:
        return None
    return f"{found[1]} / {found[2]}"


def _asked_for(key: str, answer: str, question: str) -> str:
    if (ratio := _RATIO.fullmatch(key)) is not None and re.search(r"\bratio\b", question):
        return f"{ratio[1]}:{ratio[2]}"
    bare, money = without_money(key)
    if currencies(question) == {money or "gbp"} and (money or key.endswith(" pound")):
        return bare.removesuffix(" pound")
    found = _KEY_WITH_UNIT.fullmatch(key)
    if found is not None:
        unit, named = found[2] or found[3], units_named(question[:LONGEST])
        return found[1] if unit in named or (unit == "%" and "percentage" in named) else key
    several = ", " in key and not key.startswith(("(", "[", "{"))
    if several and _ALL_SOLUTIONS.search(question) and not _ORDERED.search(question):
        names = set(re.findall(r"([^\W\d_])\s*=", answer))
        items = [_key(item, 1) for item in _items(key)]
        return _set(items) if len(names) < 2 else key
    return key


def number(answer: str) -> Fraction | None:
    """The value of one number in any notation, without a unit; None where it is none.

    Currency signs are no unit; a percent sign is.
    """
    if len(answer) > LONGEST:
        return None
    return amount(unmarked(answer).strip().rstrip(".;, "))


# ---- forms ---------------------------------------------------------------------------------------

_ARTICLES = re.compile(r"^(?:(?:the|an?)\s+)+(?=\S\S)")
_NOON = re.compile(r"(?<=\d)\s?([ap])\.?m\b\.?", re.I)
_NEAR = re.compile(r"^(?:≈|about|approximately|approx\.?|roughly|circa|ca\.)\s?(?=[-+$€£]?[\d.])")
_QUOTED = re.compile(r"([\"'*])(.+)\1", re.S)
_CHOICE = re.compile(r"(?:(?:option|choice|answer)\s+)?\(?([a-z])\)?[.)]?")
_VARIABLE = re.compile(r"[^\W\dπ_]")
_ASSIGNED = re.compile(r"[^\W\d_](?:_\w)?\s?=\s?([^=]+)")
_BRACKETED = re.compile(r"([(\[])(.+)([)\]])", re.S)
_BRACED = re.compile(r"⦃(.*)⦄|\{(.*)\}", re.S)
_ALTERNATIVES = re.compile(r",?\s+or\s+")
_LISTED = re.compile(r",?\s+and\s+")
_NAMED = re.compile(r"([^\W\d_](?:_\w+)?)\s?=\s?([^=]+)")


def _key(text: str, depth: int) -> str:
    """One reading of a plain text; `canonical` repeats it until nothing changes."""
    if (found := _json_key(text.strip().casefold())) is not None:
        return found
    text = _NEAR.sub("", folded(_NOON.sub(r" \1m", text.strip())))
    text = text if text.endswith("...") else re.sub(r"(?<=\w[^\W\d])!$", "", text).rstrip(".;, ")
    while (quoted := _QUOTED.fullmatch(text)) is not None:
        text = quoted[2].strip()
    for form in (_value_key, _set_key, _bracket_key, _list_key, _expression_key):
        if (found := form(text, depth)) is not None:
            return found
    return _ARTICLES.sub("", text)


def _json_key(text: str) -> str | None:
    if not text.startswith(("{", "[")) or '"' not in text:
        return None
    try:
        return json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


_ORDINALS = {
    "first": "1 st", "second": "2 nd", "third": "3 rd", "fourth": "4 th", "fifth": "5 th",
    "sixth": "6 th", "seventh": "7 th", "eighth": "8 th", "ninth": "9 th", "tenth": "10 th",
}  # fmt: skip


def _value_key(text: str, depth: int) -> str | None:
    word = text.replace(" ", "-")
    if word in WORD_NUMBERS:
        return str(WORD_NUMBERS[word])
    if word in _ORDINALS:
        return _ORDINALS[word]
    if re.fullmatch(r"0\d+", text):
        return text  # a code
    if text.lstrip("+") in ("∞", "infinity"):
        return "∞"
    if (moment := _moment(text)) is not None:
        return moment
    if (choice := _CHOICE.fullmatch(text)) is not None:
        return choice[1]
    value = number_in(text)
    if value is not None:
        return str(value)
    assigned = _ASSIGNED.fullmatch(text)
    if assigned is not None:
        return _value_key(assigned[1].strip(), depth) or _constant(assigned[1], depth)
    return measure(text)


_TIME = re.compile(r"(\d{1,2})(?:[:.](\d\d))?(?: ([ap])m| uhr)|(\d{1,2})h(\d\d)")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NAME = "|".join(f"{month[:3]}(?:{month[3:]})?" for month in _MONTHS)
_DATE = re.compile(
    rf"(?P<month>{_NAME})\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,? (?P<year>\d{{4}}))?"
)
_DAY_FIRST = re.compile(
    rf"(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)? (?:of )?"
    rf"(?P<month>{_NAME})\.?(?:,? (?P<year>\d{{4}}))?"
)


def _moment(text: str) -> str | None:
    """A time of day on the clock of 24 hours, or a day that is written with its month's name."""
    if (time := _TIME.fullmatch(text)) is not None:
        hour, minute = int(time[1] or time[4]), int(time[2] or time[5] or 0)
        if time[3] is not None:
            hour = hour % 12 + 12 * (time[3] == "p") if 0 < hour < 13 else 99
        return f"{hour:02}:{minute:02}" if hour < 24 and minute < 60 else None
    if (date := _DATE.fullmatch(text) or _DAY_FIRST.fullmatch(text)) is not None:
        month = [name[:3] for name in _MONTHS].index(date["month"][:3]) + 1
        day = f"{month:02}-{int(date['day']):02}"
        return (
            f"{date['year']}-{day}" if date["year"] else f"{date['month'][:3]} {int(date['day'])}"
        )
    return None


def _constant(text: str, depth: int) -> str | None:
    """A formula without variables, such as ``2√2``; None for all else."""
    return None if _VARIABLE.search(text) else _expression_key(text.strip(), depth)


def _set_key(text: str, depth: int) -> str | None:
    if text in ("∅", "⦃⦄", "{}", "⦃ ⦄"):
        return "∅"
    if text.startswith("±") and depth < _DEEPEST:
        value = number_in(text[1:].strip())
        return None if value is None else _set([str(value), str(-value)])
    braced = _BRACED.fullmatch(text)
    if braced is not None and depth < _DEEPEST:
        inside = braced[1] if braced[1] is not None else braced[2]
        if "|" in inside or (":" in inside and "," not in inside):
            return None
        return _set([_key(item, depth + 1) for item in _items(inside)])
    if depth == 0 and " or " in text and len(parts := _ALTERNATIVES.split(text)) > 1:
        items = [item for part in parts for item in _items(part)]
        if all(_value_key(item, depth) and not _CHOICE.fullmatch(item) for item in items):
            return _set([_key(item, depth + 1) for item in items])
    return None


def _set(keys: list[str]) -> str:
    return "{" + ", ".join(sorted(set(keys))) + "}"


def _bracket_key(text: str, depth: int) -> str | None:
    found = _BRACKETED.fullmatch(text)
    if found is None or depth >= _DEEPEST:
        return None
    items = _items(found[2])
    if len(items) < 2 or len(items) != len(_items(found[2], whole=False)):
        return None
    return f"{found[1]}{_joined([_key(item, depth + 1) for item in items])}{found[3]}"


def _list_key(text: str, depth: int) -> str | None:
    if depth == 0 and " and " in text:
        listed = [item for part in _LISTED.split(text) for item in _items(part)]
        if all(_value_key(item, depth) is not None for item in listed):
            text = ", ".join(listed)
    if "," not in text and ";" not in text:
        return None
    items = _items(text)
    if len(items) < 2 or depth >= _DEEPEST or any(not item for item in items):
        return None
    named = [_NAMED.fullmatch(item) for item in items]
    if all(named) and (names := {found[1] for found in named if found}):
        if len(names) == 1:
            return _set([_key(found[2], depth + 1) for found in named if found])
        if len(names) == len(items):
            pairs = sorted((found[1], _key(found[2], depth + 1)) for found in named if found)
            return ", ".join(f"{name}={value}" for name, value in pairs)
    return _joined([_key(item, depth + 1) for item in items])


def _joined(keys: list[str]) -> str:
    return ("; " if any(", " in key and key[0] not in "([{" for key in keys) else ", ").join(keys)


def _items(text: str, *, whole: bool = True) -> list[str]:
    """What commas or semicolons part, outside brackets; a thousands comma parts nothing."""
    parting, depth = [], 0
    for at, sign in enumerate(text):
        depth += (sign in "([{⦃") - (sign in ")]}⦄")
        if sign in ",;" and depth == 0:
            parting.append(at)
        if depth < 0 and whole:
            return [text.strip()]
    semicolons = [at for at in parting if text[at] == ";"]
    ends = [*(semicolons or parting), len(text)]
    items = [text[a + 1 : b].strip() for a, b in zip([-1, *ends], ends, strict=False)]
    if not semicolons:
        return items
    return [item.replace(",", ".") if _COMMA.fullmatch(item) else item for item in items]


_COMMA = re.compile(r"-?\d+,\d+")


_MATRIX = re.compile(
    r"\\begin\{(?:[pb]|small)?(?:matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\w+\}", re.I | re.S
)


def _matrix(text: str, depth: int) -> str | None:
    """A matrix by its cells, whatever its brackets; a determinant is none."""
    found = _MATRIX.fullmatch(text.strip("()[] "))
    if found is None or "\\begin" in found[1]:
        return None
    rows = [row for row in found[1].split("⏎") if row.strip()]
    cells = [[_key(cell.strip(), depth + 1) for cell in row.split("&")] for row in rows]
    inside = "⏎".join("&".join(row) for row in cells)
    return rf"\begin{{matrix}}{inside}\end{{matrix}}"


_TIMES = re.compile(r"((?<![\d/.])\d+(?:\.\d+)?|(?<!/)\([^()]*\))\*(?=[^\W\d_]|[√(])")
"""A sign that may be left out: not one behind a slash, where the product would go below it."""


def _expression_key(text: str, depth: int) -> str | None:
    """Mathematics without spaces; None for words, dates and times."""
    if "\\begin{" in text:
        return _matrix(text, depth) or re.sub(r"\s+", "", text)
    tight = re.sub(r"\s*([:/=<>^])\s*", r"\1", text)
    if re.fullmatch(r"\d+(?::\d+)+", tight):
        return tight
    if not is_mathematical(text) or re.fullmatch(r"\d+(?:-\d+){2,}", tight):
        return None
    tight = re.sub(r"(?<!\d)\s+|\s+(?!\d)|(?<=\|)\s+|\s+(?=\|)", "", text)
    return _TIMES.sub(r"\1", tight)
