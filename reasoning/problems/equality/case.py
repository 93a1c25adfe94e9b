"""Answers without the case of their letters, except where it says something.

It does in symbols of units (MW and mW), in formulas (R and r), in chemistry (CO and Co), in pairs
of alleles (Aa and AA), in code, and in Greek (Γ and γ).
"""

from __future__ import annotations

import re

from reasoning.problems.equality.units import symbols_in_case

_ELEMENTS = frozenset(
    re.findall(
        "[A-Z][a-z]?",
        "HHeLiBeBCNOFNeNaMgAlSiPSClArKCaScTiVCrMnFeCoNiCuZnGaGeAsSeBrKrRbSrYZrNbMoTcRuRhPdAgCdInSn"
        "SbTeIXeCsBaLaCePrNdPmSmEuGdTbDyHoErTmYbLuHfTaWReOsIrPtAuHgTlPbBiPoAtRnFrRaAcThPaUNpPuAmCm"
        "BkCfEsFmMdNoLrRfDbSgBhHsMtDsRgCnNhFlMcLvTsOg",
    )
)
_TWO_ELEMENTS = {
    one for one in _ELEMENTS if len(one) == 2 and {one[0], one[1].upper()} <= _ELEMENTS
}
_ATOMS = rf"(?:(?:{'|'.join(sorted(_ELEMENTS, key=len, reverse=True))})(?:_?\(?\d+\)?)?)"
_COMPOUND = re.compile(rf"\d*\s?(?:{_ATOMS}|\({_ATOMS}+\)(?:_?\d+)?)+(?:\^?\(?\d*[-+]\)?)?")
_CHARGE = re.compile(r"\^?\(?(\d*[-+])\)?$")
_ALLELES = re.compile(r"(?:([A-Za-z])(?i:\1)){1,4}")

_PARTED = re.compile(r"(\s*[,;&⏎⦃⦄{}]\s*|\s+(?:and|or)\s+)", re.I)
_HEAD = re.compile(r"[\s(\[\"'*]*(?:[^\W\d_](?:_\w+)?\s?=\s?)?")
_NUMERAL = re.compile(r"[-+]?\s?[.\d]")
_LATIN = re.compile(r"[^\W\d_]{2,}")
_SLASHED = re.compile(r"[^\W\d_]+(?:[/-][^\W\d_]+)+")
_CODE = re.compile(r"\w\(|\w_\w|::|\\")
_EXPONENT = re.compile(r"(?<=\d)E(?=[-+]?\d)")
_GREEK = re.compile(r"(?<![^\W\d_])[ΓΔΘΛΞΠΣΦΨΩ](?![^\W\d_])")
FUNCTIONS = ("sin", "cos", "tan", "log", "ln", "exp", "mod", "gcd", "lcm", "max", "min")
_LONG_WORD = re.compile(r"[^\W\d_]{3,}")
_MATHEMATICAL = re.compile(
    r"[=<>^√±∪∩∈π]|\b\d*(?:sin|cos|tan|log|ln|exp)\b|\d\s?[-+*/]\s?[\da-z(]|[a-z)]\s?[+*/]\s?[\da-z(]|\)\(",
    re.I,
)


def is_mathematical(text: str) -> bool:
    """Whether a text has signs of mathematics and no words."""
    words = [w for w in _LONG_WORD.findall(text) if w.casefold() not in FUNCTIONS]
    return not words and _MATHEMATICAL.search(text) is not None


def folded(text: str) -> str:
    """A text, item by item, without the case that says nothing; a formula without underscores."""
    return "".join(
        part.casefold() if at % 2 else _item(part) for at, part in enumerate(_PARTED.split(text))
    )


def _item(text: str) -> str:
    head = _HEAD.match(text)
    start = 0 if head is None else head.end()
    return text[:start] + _body(text[start:])


def _body(text: str) -> str:
    bare = text.rstrip(" .]\"'*")
    bare = bare.rstrip(")") if bare.count(")") > bare.count("(") else bare
    if _ALLELES.fullmatch(bare):
        return text
    if _COMPOUND.fullmatch(bare) and (_is_told(bare) or not bare[0].isdigit()):
        plain = _CHARGE.sub(r"^\1", bare.replace("_", ""))
        return (plain if _is_told(bare) else plain.casefold()) + text[len(bare) :]
    if _CODE.search(text):
        return _LATIN.sub(lambda m: _function(m[0]), text)
    text = _EXPONENT.sub("e", text)
    if _NUMERAL.match(text):
        return symbols_in_case(text)
    if is_mathematical(text) and not _SLASHED.fullmatch(bare):
        return _LATIN.sub(lambda m: _function(m[0]), text)
    return "".join(
        part if _GREEK.fullmatch(part) else part.casefold()
        for part in re.split(rf"({_GREEK.pattern})", text)
    )


def _is_told(compound: str) -> bool:
    """Whether one of its symbols would be two without its case; *no* and *in* are words."""
    symbols = re.findall(r"[A-Z][a-z]", compound)
    return not _TWO_ELEMENTS.isdisjoint(symbols) and compound not in ("No", "In")


def _function(word: str) -> str:
    return word.casefold() if word.casefold() in FUNCTIONS else word
