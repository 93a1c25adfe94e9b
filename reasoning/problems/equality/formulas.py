"""Keys that are formulas, in a LaTeX with every bracket and fraction explicit."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LONGEST = 200
_DEEPEST = 12
_LARGEST_POWER, _LARGEST_FACTORIAL = 64, 30
WORDS, SIGN = "\0", "\1"
"""What begins an item that is no formula, and is equal to itself alone; what ends a relation's
sign."""


@dataclass(frozen=True)
class Form:
    """A key as items, each a number, a formula in LaTeX or plain words, in brackets or alone."""

    brackets: str
    items: tuple[str, ...]
    formula: bool

    def fits(self, other: Form) -> bool:
        """Whether the two may be equal, and are not both mere numbers or words."""
        shaped = self.brackets == other.brackets and len(self.items) == len(other.items)
        return shaped and (self.formula or other.formula)


def form_of(key: str) -> Form | None:
    """A key as something that can be compared; None where it is no formula and no number."""
    if len(key) > _LONGEST:
        return None
    brackets, inside = "", key
    if len(key) > 2 and (pair := key[0] + key[-1]) in ("()", "[]", "(]", "[)", "{}"):
        brackets, inside = pair, key[1:-1]
    items = _split(inside)
    if items is None or (brackets in ("()", "[]") and len(items) < 2):
        brackets, items = "", _split(key)
    if items is None:
        return None
    read = [_latex(item) for item in items]
    if all(found is None for found in read):
        return None
    formula = any(found is not None and not is_number(found) for found in read)
    return Form(
        brackets,
        tuple(found or WORDS + item for found, item in zip(read, items, strict=True)),
        formula,
    )


def _split(text: str) -> list[str] | None:
    """What commas part outside brackets; None where brackets are not in pairs."""
    items, start, depth = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            return None
        if sign == "," and depth == 0:
            items.append(text[start:at].strip())
            start = at + 1
    return None if depth else [*items, text[start:].strip()]


def is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(?:/\d+)?", text) is not None


_TOKEN = re.compile(
    r"\d+(?:\.\d+)?|(?:sin|cos|tan|ln|exp)(?![a-z])|√(?:\[\d\])?|<=|>=|!=|[A-Za-zα-ωπ∞]|[-+*/^()|!=<>]"
)
_RELATIONS = ("=", "!=", "<", "<=", ">", ">=")
_GREEK = {"π": r"\pi ", "α": r"\alpha ", "β": r"\beta ", "θ": r"\theta ", "λ": r"\lambda "}
_MERE_SUM = re.compile(r"[\d+*/.()=<>!-]+|[a-zA-Z]{1,2}|.*[a-zA-Zπ]\d.*")
"""Scores, ranges, sizes and two-letter words, which are no formulas though they look like some."""


def _latex(key: str) -> str | None:
    """A formula with every bracket and fraction explicit; None for all that is not surely one."""
    if is_number(key):
        return key
    if " " in key or _MERE_SUM.fullmatch(key):
        return None
    tokens = _TOKEN.findall(key)
    if "".join(tokens) != key:
        return None
    try:
        return _Formula(tokens).relation()
    except (ValueError, IndexError):
        return None


class _Formula:
    """Reads tokens by the usual precedence, with a product's sign left out or not."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def relation(self) -> str:
        """All tokens: a sum, or a relation of two, as its sign and their difference.

        Raises:
            ValueError, IndexError: they are no formula, or one of more than is compared.
        """
        text = self._sum()
        if self._next in _RELATIONS:
            sign, other = self._take(), self._sum()
            if sign[0] == ">":
                sign, text, other = sign.replace(">", "<"), other, text
            text = rf"{sign}{SIGN}{text}-\left({other}\right)"
        if self._next is not None:
            raise ValueError("more tokens")
        return text

    @property
    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, wanted: str | None = None) -> str:
        token = self._tokens[self._at]
        if wanted is not None and token != wanted:
            raise ValueError(f"no {wanted}")
        self._at += 1
        return token

    def _sum(self) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("too deep")
        text = self._take() if self._next in ("-", "+") else ""
        text += self._product()
        while self._next in ("+", "-"):
            text += self._take() + self._product()
        self._depth -= 1
        return text

    def _product(self) -> str:
        text, divided = self._power(), False
        while (token := self._next) is not None and token not in _ENDS:
            if token == "/":
                self._take()
                divided = True
                text = rf"\frac{{{text}}}{{{self._power()}}}"
            else:
                if token == "*":
                    self._take()
                elif token[0].isdigit() or divided:
                    raise ValueError("a factor that may be above or below")
                text = rf"{text} \cdot {self._power()}"
        return text

    def _power(self) -> str:
        base = self._atom()
        if self._next == "!":
            self._take()
            if not (base.isdigit() and int(base) <= _LARGEST_FACTORIAL) and base[0] != "{":
                raise ValueError("a factorial of much")
            base += "!"
        if self._next == "^":
            self._take()
            sign = self._take() if self._next == "-" else ""
            exponent = self._atom()
            if self._next == "^" or "^" in exponent or _is_large(exponent):
                raise ValueError("a power of much")
            base = rf"{{{base}}}^{{{sign}{exponent}}}"
        return base

    def _atom(self) -> str:
        token = self._take()
        if token == "(":
            inside = self._sum()
            self._take(")")
            return rf"\left({inside}\right)"
        if token == "|":
            inside = self._sum()
            self._take("|")
            return rf"\left|{inside}\right|"
        if token[0] == "√":
            return rf"\sqrt{token[1:]}{{{self._atom()}}}"
        if token in ("sin", "cos", "tan", "ln", "exp"):
            if self._next != "(":
                raise ValueError("a function of what stands beside it")
            return rf"\{token}{self._atom()}"
        if token[0].isdigit():
            whole, point, part = token.partition(".")
            return rf"\frac{{{whole}{part}}}{{{10 ** len(part)}}}" if point else whole
        if token in _GREEK or (token.isalpha() and token.isascii()):
            # math-verify takes no notice of case, and takes 2c for two cents if c has no braces.
            return _GREEK.get(token) or f"{{{token.lower()}{'' if token.islower() else '_{9}'}}}"
        raise ValueError(f"{token} begins nothing")


_ENDS = frozenset((*_RELATIONS, "+", "-", ")", "|", "^", "!"))


def _is_large(exponent: str) -> bool:
    return any(int(digits[:9]) > _LARGEST_POWER for digits in re.findall(r"\d+", exponent))
