"""Numbers with a unit or a currency, in the unit's short form: ``60 km/h``, ``30 usd``.

The case of a unit's symbol is kept where another symbol differs by it alone, as in MW and mW.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from reasoning.problems.equality.numbers import cents, number_in, word_number

# ---- symbols and names ---------------------------------------------------------------------------

_KINDS = {
    "kMGTPmμnp": "A Hz N Pa J W V Ω eV Wh Sv Gy Bq",
    "kMGTP": "B b bit bps Bps cal Cal t pc",
    "GTMKk": "iB ib",
    "Mkcmdμnp": "m",
    "kMmμnp": "g s C F H S T K mol bar lm rad",
    "mcdμnh": "l L",
    "mμn": "M",
    "dB kNm Nm k h G atm lx ppm rpm ha ft yd oz mmHg": "",
}
"""Symbols by the prefixes that they have; the last ones have none."""
_SYMBOLS = {
    prefix + base: prefix + base.replace("L", "l")
    for prefixes, bases in _KINDS.items()
    for prefix in (["", *prefixes] if bases else prefixes.split())
    for base in (bases.split() or [""])
}
_SYMBOLS |= {f"K{base}": f"k{base}" for base in ("B", "b", "bit", "bps", "Bps")}
_SYMBOLS |= {f"{prefix}b": f"{prefix.upper()}B" for prefix in "mgt"}
_BY_FOLD: dict[str, set[str]] = {}
for _written, _symbol in _SYMBOLS.items():
    _BY_FOLD.setdefault(_written.casefold(), set()).add(_symbol)

_NAMED = {
    "m": "metre meter", "g": "gram", "s": "second sec", "A": "ampere amp", "K": "kelvin",
    "mol": "mole", "Hz": "hertz", "N": "newton", "Pa": "pascal", "J": "joule", "W": "watt",
    "C": "coulomb", "V": "volt", "Ω": "ohm", "F": "farad", "T": "tesla", "l": "litre liter",
    "B": "byte", "b": "bit", "cal": "calorie",
}  # fmt: skip
_PREFIXES = {
    "": "", "kilo": "k", "mega": "M", "giga": "G", "tera": "T", "centi": "c", "deci": "d",
    "hecto": "h", "milli": "m", "micro": "μ", "nano": "n", "pico": "p",
}  # fmt: skip
_UNITS = {
    "minute": "min", "mins": "min", "hour": "h", "hr": "h", "hrs": "h", "secs": "s",
    "yr": "year", "yrs": "year",
    "percent": "%", "degree": "°", "inche": "inch", "in": "inch", "kph": "km/h", "kmh": "km/h",
    "mph": "mi/h", "lb": "pound", "lbs": "pound", "mile": "mi", "feet": "ft", "foot": "ft",
    "tonne": "t", "bit": "b",
} | {
    long + name: short + symbol
    for long, short in _PREFIXES.items()
    for symbol, names in _NAMED.items()
    for name in names.split()
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")


def symbols_in_case(text: str) -> str:
    """The words after a number without case, but for symbols and for letters that stand alone."""
    return _WORD.sub(lambda found: _in_case(found[0]), text)


def _in_case(word: str) -> str:
    if word in _SYMBOLS or len(word) == 1:
        return _SYMBOLS.get(word, word)
    found = _BY_FOLD.get(word.casefold(), set())
    alike = {symbol for symbol in found if symbol[0] == word[0] and word[0].isupper()}
    only = found if len(found) == 1 else alike
    return next(iter(only)) if len(only) == 1 else word.casefold()


def unit_in(text: str) -> str:
    """A unit in its short form: ``square metres`` is ``m^2``."""
    text = text.strip(" .").replace("μ ", "μ")
    text = re.sub(r"\bper cent\b", "percent", _UNITS.get(text, text))
    text = re.sub(r"(?:°|degrees?) ?(celsius|fahrenheit|[cf])\b", _temperature, text, flags=re.I)
    text = re.sub(r"[ *]?\b([^\W\d_]+)\^\(?-(\d)\)?", _inverse, text)
    text = re.sub(r"\s?(?:/|\bper\b)\s?", "/", text)
    text = re.sub(r"\b(?:square|sq)\.?\s(\w+)", r"\1^2", text)
    text = re.sub(r"\bcubic\s(\w+)", r"\1^3", text)
    text = re.sub(r"[^\W\d_]{2,}", lambda m: _singular(m[0]), text)
    return re.sub(r"\b(k?W)[* ](h)\b|\b(k?N)[* ](m)\b", r"\1\2\3\4", text)


def _temperature(found: re.Match[str]) -> str:
    return f"°{found[1][0].upper()}"


def _inverse(found: re.Match[str]) -> str:
    return f"/{found[1]}" + (f"^{found[2]}" if found[2] != "1" else "")


def _singular(word: str) -> str:
    if word in _SYMBOLS:
        return word
    one = word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word
    return _UNITS.get(word) or _UNITS.get(one, one)


@lru_cache(maxsize=64)  # it is asked about a question again for each of its answers
def units_named(text: str) -> frozenset[str]:
    """The words of a text, units among them in their short form."""
    words = unit_in(symbols_in_case(text)).replace("%", " % ").split()
    return frozenset(word.strip("?.,;:!()") for word in words)


# ---- money ---------------------------------------------------------------------------------------

_CURRENCIES = {
    "usd": "$ us$ usd us_dollar dollar", "eur": "€ eur euro", "gbp": "£ gbp pounds_sterling",
    "jpy": "¥ jpy yen", "cny": "cny rmb yuan", "inr": "₹ inr rupee", "chf": "chf franc",
    "krw": "₩ krw", "aud": "a$ au$ aud australian_dollar", "cad": "c$ ca$ cad canadian_dollar",
    "rub": "₽ rub rouble ruble", "brl": "r$ brl",
}  # fmt: skip
_CODES = {
    name.replace("_", " "): code for code, names in _CURRENCIES.items() for name in names.split()
}
_CODE = "|".join(rf"{re.escape(one)}s?" for one in sorted(_CODES, key=len, reverse=True))
_NUMERAL = r"(?:\d[\d,.' ]*\d|\d|\.\d+)"
_BEFORE = re.compile(
    rf"([-+]?)\s?({_CODE})\s?([-+]?)\s?({_NUMERAL}(?:/\d+)?(?:\s?(?:[kmb]|bn|[mb]illion)\b)?)", re.I
)
_BEHIND = re.compile(rf"(?<=[\w.])\s?(?<![a-z])({_CODE})(?![\w$])", re.I)
_TWICE = re.compile(rf"\b(?:usd ({'|'.join(_CURRENCIES)})|({'|'.join(_CURRENCIES)}) \2)\b")
_OF_MONEY = re.compile(rf"(?<=\d) (?:{'|'.join(_CURRENCIES)})\b(?!/)")
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "bn": 9}
_SHORT_SCALES = {"k": 3, "m": 6, "b": 9}


def priced(text: str) -> str:
    """A text with the codes of currencies behind their numbers: ``$5`` is ``5 usd``."""
    text = text.replace("¢", " cent")
    text = _BEFORE.sub(lambda m: f"{m[1]}{m[3]}{m[4]} {_code(m[2])}", text, count=1)
    text = _BEHIND.sub(lambda m: f" {_code(m[1])}", text)
    return _TWICE.sub(lambda m: m[1] or m[2], text)


def _code(name: str) -> str:
    name = name.casefold()
    return _CODES.get(name) or _CODES[name.removesuffix("s")]


@lru_cache(maxsize=64)
def currencies(text: str) -> frozenset[str]:
    """The codes of the currencies that a text names."""
    names = re.findall(rf"(?<![^\W\d_])(?:{_CODE})(?![^\W\d_])", text, re.I)
    return frozenset(map(_code, names))


def without_money(key: str) -> tuple[str, str]:
    """A key with its currency left out, and that currency; none where it has several or none."""
    found = {code.strip() for code in _OF_MONEY.findall(key)}
    return (_OF_MONEY.sub("", key), found.pop()) if len(found) == 1 else (key, "")


def amount(text: str) -> Fraction | None:
    """The number that a text is, with a currency or without; None for all else."""
    bare, code = without_money(priced(text))
    if code == "eur" and _THOUSANDS_OR_NOT.fullmatch(bare):
        return None
    return number_in(cents(bare) if code else bare)


# ---- measures ------------------------------------------------------------------------------------

_THOUSANDS_OR_NOT = re.compile(r"[-+]?\d{1,3}\.\d{3}")
_POWER = r"/\s?\d+|e[-+]?\d{1,3}|\*\s?10\s?\^\s?\(?-?\d{1,3}\)?"
_MEASURE = re.compile(
    rf"([-+]?\s?\(?(?:\d[\d,.' ]*\d|\d)(?:\s?(?:{_POWER}))?\)?|[-+]?\.\d+)"
    r"\s?(%|°|[^\W\d_][\w/^ *.²³-]{0,60}|°\s?[a-z])",
    re.I,
)
_ANY_DIGIT = re.compile(r"\d")
_NO_UNIT = re.compile(r"\b(?:and|or|to|by)\b|(?<![\^\d-])-?\d")
_COMPOUND = re.compile(r"(?:\d+(?:\.\d+)?\s?[a-z]+(?:,?\s(?:and\s)?|\s?|$)){2,4}")
_ONE_OF_SEVERAL = re.compile(r"(\d+(?:\.\d+)?)\s?([a-z]+)")
_SMALLER = (
    *("year", "month", "week", "day", "h", "min", "s"),
    *("mi", "yd", "ft", "inch", "m", "cm", "mm", "kg", "g", "pound", "ounce"),
)
"""Units that stand together, each before its parts."""


def measure(text: str) -> str | None:
    """A number with a unit, as ``60 km/h``; degrees of angles are numbers, as are millions."""
    text = word_number(text)
    if _ANY_DIGIT.search(text) is None:
        return None
    text = priced(text)
    found = _MEASURE.fullmatch(text)
    if found is None:
        return _compound(text)
    given, unit = found[1].strip(), unit_in(found[2])
    power, unit = _scaled(unit)
    value = number_in(cents(given))
    if value is None or len(unit.split()) > 4 or _NO_UNIT.search(unit):
        return _compound(text)
    if unit[:1] in ("π", "√", "∞") or (unit == "eur" and _THOUSANDS_OR_NOT.fullmatch(given)):
        return None
    # A letter beside a number is a product, as in 2x, unless it is a unit that stands apart.
    if len(unit) == 1 and unit.isalpha() and not (unit in _SYMBOLS and " " in text):
        factor = str(value) if value.denominator == 1 else f"({value})"
        return f"{factor}{unit}" if " " in text else None
    value *= 10**power
    return f"{value}%" if unit == "%" else f"{value} {unit}".removesuffix("°").strip()


def _scaled(unit: str) -> tuple[int, str]:
    """The power of ten that a unit begins with, and the unit without it."""
    first, _, rest = unit.partition(" ")
    scales = _SCALES | _SHORT_SCALES if rest in _CURRENCIES else _SCALES
    power = scales.get(first.casefold() if rest in _CURRENCIES else first)
    return (0, unit) if power is None else (power, rest)


def _compound(text: str) -> str | None:
    """A number of units and of smaller ones, as ``1 h 30 min``."""
    if _COMPOUND.fullmatch(text) is None:
        return None
    parts = [(value, unit_in(unit)) for value, unit in _ONE_OF_SEVERAL.findall(text)]
    order = [_SMALLER.index(unit) if unit in _SMALLER else -1 for _, unit in parts]
    if -1 in order or order != sorted(set(order)):
        return None
    return " ".join(f"{Fraction(value)} {unit}" for value, unit in parts)
