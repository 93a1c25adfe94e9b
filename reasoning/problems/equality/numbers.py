"""Single numbers in every notation, by their exact values."""

from __future__ import annotations

import re
from fractions import Fraction

_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:'\d{3})+|\d{1,3}(?: \d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}|\d+)"
)
_DECIMAL = re.compile(rf"(?P<whole>{_DIGITS})(?:\.(?P<part>\d+))?|\.(?P<bare>\d+)")
_EUROPEAN = re.compile(
    r"(?P<whole>\d{1,3}(?:\.\d{3})+),(?P<part>\d+)|(?P<many>\d{1,3}(?:\.\d{3}){2,})"
    r"|(?P<spaced>\d{1,3}(?:[ ']\d{3})+),(?P<rest>\d+)"
)
_POWER = re.compile(r"(?:(.+?)\s?\*\s?)?10\s?\^\s?\(?\s?([-+]?\d{1,3})\s?\)?|(.+?)e([-+]?\d{1,3})")
_RATIO = re.compile(r"\(?([-+]?[\d.]+)\)?\s?/\s?\(?([-+]?[\d.]+)\)?")
_MIXED_NUMBER = re.compile(r"(\d+) (\d+)\s?/\s?(\d+)")
_MOST_DIGITS = 400
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
_TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORD_NUMBERS = {
    **{word: Fraction(value) for value, word in enumerate(f"{_WORDS} {_TEENS}".split(" "))},
    **{
        f"{tens}{unit and '-' + unit}": Fraction(10 * ten + value)
        for ten, tens in enumerate(_TENS, 2)
        for value, unit in enumerate(["", *_WORDS.split(" ")[1:10]])
    },
}


def number_in(text: str) -> Fraction | None:
    """The number that a plain text is; None for all else."""
    if len(text) > 2 * _MOST_DIGITS:
        return None
    text = text.strip()
    if len(text) > 2 and text[0] == "(" and text[-1] == ")" and "(" not in text[1:-1]:
        text = text[1:-1].strip()
    negative = text[:1] == "-"
    if text[:1] in ("-", "+"):
        text = text[1:].strip()
    value = _unsigned(text)
    return -value if value is not None and negative else value


_CENTS = re.compile(r"([-+]?\s?\d+),(\d{1,2})")


def cents(text: str) -> str:
    """A number before a unit or a currency, where a comma and two digits are a decimal part."""
    return text.replace(",", ".") if _CENTS.fullmatch(text) is not None else text


def word_number(text: str) -> str:
    """A text whose first word is a number in words, with that number in digits."""
    first, space, rest = text.partition(" ")
    value = WORD_NUMBERS.get(f"{first}-{rest.partition(' ')[0]}")
    if value is not None:
        return f"{value} {rest.partition(' ')[2]}".strip()
    value = WORD_NUMBERS.get(first)
    return text if value is None else f"{value}{space}{rest}"


def _unsigned(text: str) -> Fraction | None:
    if not text or not (text[0].isdigit() or text[0] in ".(") or not text.isascii():
        return None
    if (power := _POWER.fullmatch(text)) is not None:
        factor = power[1] or power[3]
        base = Fraction(1) if factor is None else number_in(factor)
        return None if base is None else base * Fraction(10) ** int(power[2] or power[4])
    if (mixed := _MIXED_NUMBER.fullmatch(text)) is not None and _short(text):
        whole, above, below = map(int, mixed.groups())
        return Fraction(whole) + Fraction(above, below) if above < below else None
    if (ratio := _RATIO.fullmatch(text)) is not None and _short(text):
        upper, lower = _decimal(ratio[1]), _decimal(ratio[2])
        return upper / lower if upper is not None and lower else None
    return _decimal(text)


def _short(text: str) -> bool:
    return len(text) <= 2 * _MOST_DIGITS and max(map(len, re.findall(r"\d+", text))) <= _MOST_DIGITS


def _decimal(text: str) -> Fraction | None:
    sign = -1 if text[:1] == "-" else 1
    text = text.lstrip("+-")
    whole, part = "", ""
    if (found := _EUROPEAN.fullmatch(text)) is not None:
        whole = found["whole"] or found["many"] or found["spaced"]
        part = found["part"] or found["rest"] or ""
    elif (found := _DECIMAL.fullmatch(text)) is not None:
        whole, part = found["whole"] or "", found["part"] or found["bare"] or ""
    else:
        return None
    digits = re.sub(r"\D", "", whole)
    if len(digits) + len(part) > _MOST_DIGITS or re.match(r"0\d*[,' ]", whole):
        return None
    return sign * Fraction(int(f"{digits}{part}" or "0"), 10 ** len(part))
