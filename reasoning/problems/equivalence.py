"""Which answers are one by algebra, as ``2√2`` and ``√8``: a step over the keys of equal answers.

Where the extra ``math`` is there, math-verify is asked whether two keys of `equality.canonical` say
the same.  It is given only what reads as a formula and has no decimals, so that nothing is equal by
rounding; numbers, words, units, times, choices and the order of tuples stay with `equality`.  It
runs in one process of its own, whose processor time and memory are limited for each question to it:
its own limits need signals, which threads have not.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

import anyio
import anyio.to_thread

MOST_COMPARISONS = 64
"""Of one question's answers."""
SECONDS = 2
"""Of processor time for one comparison."""
PATIENCE = 30.0
"""Seconds of waiting, on a busy machine or while the process starts, for one comparison."""
_MEMORY = 2 << 30
_LONGEST = 200
_DEEPEST = 12
_LARGEST_POWER, _LARGEST_FACTORIAL = 64, 30


@dataclass(frozen=True)
class _Form:
    """A key as items, each a number, a formula in LaTeX or plain words, in brackets or alone."""

    brackets: str
    items: tuple[str, ...]
    formula: bool

    def fits(self, other: _Form) -> bool:
        """Whether the two may be equal, and are not both mere numbers or words."""
        shaped = self.brackets == other.brackets and len(self.items) == len(other.items)
        return shaped and (self.formula or other.formula)


@dataclass
class Equivalence:
    """The classes of one question's keys; each has the name of the key that came first.

    Attributes:
        question: Where it asks for a form (to factor, to simplify, ...), only equal keys are equal.
        merged: Every key that votes under another one's name, and that name.
        limited: Whether a comparison took too long or there were too many, so that answers may be
            apart that are equal.
    """

    question: str = ""
    merged: dict[str, str] = field(default_factory=dict)
    limited: bool = False
    _forms: dict[str, _Form] = field(default_factory=dict, repr=False)
    _left: int = field(default=MOST_COMPARISONS, repr=False)
    _lock: anyio.Lock | None = field(default=None, repr=False)

    def known(self, key: str) -> str:
        """The name under which a key votes, as far as it was compared."""
        return self.merged.get(key, key)

    async def of(self, key: str) -> str:
        """The name under which a key votes; it is compared where it is new and a formula."""
        form = self._new(key)
        if form is None:
            return self.known(key)
        if self._lock is None:
            self._lock = anyio.Lock()
        if not self._lock.locked() and not self._rivals(form):
            return self._place(key, form)  # at once: most answers are the only one of their kind
        async with self._lock:  # whoever asks first is compared first
            if self._new(key) is None:
                return self.known(key)
            return await anyio.to_thread.run_sync(self._place, key, form, abandon_on_cancel=True)

    def compare(self, keys: Iterable[str]) -> None:
        """Compare keys in their order, and wait for it; `known` says what came of it."""
        for key in keys:
            form = self._new(key)
            if form is not None:
                self._place(key, form)

    def _new(self, key: str) -> _Form | None:
        """What there is to compare of a key; None where nothing is, or it was compared."""
        if key in self.merged or key in self._forms or not is_available():
            return None
        return None if _ASKS_FOR_A_FORM.search(self.question) else _form(key)

    def _rivals(self, form: _Form) -> list[tuple[str, _Form]]:
        """What a new form has to be compared with."""
        return [(name, other) for name, other in self._forms.items() if form.fits(other)]

    def _place(self, key: str, form: _Form) -> str:
        for name, other in self._rivals(form):
            if self._same(form, other):
                return self.merged.setdefault(key, name)
        self._forms.setdefault(key, form)
        return key

    def _same(self, one: _Form, other: _Form) -> bool:
        if one.brackets != "{}":
            return all(map(self._equal, one.items, other.items))
        rest = list(other.items)
        for item in one.items:
            found = next((at for at, second in enumerate(rest) if self._equal(item, second)), None)
            if found is None:
                return False
            del rest[found]
        return True

    def _equal(self, one: str, other: str) -> bool:
        if one == other:
            return True
        if _WORDS in one + other or (_is_number(one) and _is_number(other)):
            return False
        if self._left <= 0:
            self.limited = True
            return False
        self._left -= 1
        same = comparer().same(one, other)
        self.limited = self.limited or same is None
        return same is True


@cache
def is_available() -> bool:
    """Whether math-verify is installed."""
    return find_spec("math_verify") is not None


_ASKS_FOR_A_FORM = re.compile(
    r"\b(?:factor(?:i[sz]e|i[sz]ation)?|expand|simpl\w+|rewrite|rationali[sz]e|standard form"
    r"|lowest terms|in (?:the|its) (?:\w+ )?form|in terms of|partial fractions?|scientific notation"
    r"|as an? (?:product|sum|power|fraction|decimal|percent\w*|mixed number|ratio)|notation)\b",
    re.I,
)


# ---- from keys to LaTeX --------------------------------------------------------------------------


def _form(key: str) -> _Form | None:
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
    formula = any(found is not None and not _is_number(found) for found in read)
    return _Form(
        brackets,
        tuple(found or _WORDS + item for found, item in zip(read, items, strict=True)),
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


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(?:/\d+)?", text) is not None


_WORDS, _SIGN = "\0", "\1"
"""What begins an item that is no formula, and is equal to itself alone; what ends a relation's
sign."""

_TOKEN = re.compile(
    r"\d+(?:\.\d+)?|(?:sin|cos|tan|ln|exp)(?![a-z])|√(?:\[\d\])?|<=|>=|!=|[a-zα-ωπ∞]|[-+*/^()|!=<>]"
)
_RELATIONS = ("=", "!=", "<", "<=", ">", ">=")
_GREEK = {"π": r"\pi ", "α": r"\alpha ", "β": r"\beta ", "θ": r"\theta ", "λ": r"\lambda "}
_MERE_SUM = re.compile(r"[\d+*/.()=<>!-]+|[a-z]{1,2}|.*[a-zπ]\d.*")
"""Scores, ranges, sizes and two-letter words, which are no formulas though they look like some."""


def _latex(key: str) -> str | None:
    """A formula with every bracket and fraction explicit; None for all that is not surely one."""
    if _is_number(key):
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
            text = rf"{sign}{_SIGN}{text}-\left({other}\right)"
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
        text = self._power()
        while (token := self._next) is not None and token not in _ENDS:
            if token == "/":
                self._take()
                text = rf"\frac{{{text}}}{{{self._power()}}}"
            else:
                if token == "*":
                    self._take()
                elif token[0].isdigit():
                    raise ValueError("a number after its factor")
                text = rf"{text} \cdot {self._power()}"
        return text

    def _power(self) -> str:
        base = self._atom()
        if self._next == "!":
            self._take()
            if not (base.isdigit() and int(base) <= _LARGEST_FACTORIAL) and not base.isalpha():
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
            return _GREEK.get(token, token)
        raise ValueError(f"{token} begins nothing")


_ENDS = frozenset((*_RELATIONS, "+", "-", ")", "|", "^", "!"))


def _is_large(exponent: str) -> bool:
    return any(int(digits[:9]) > _LARGEST_POWER for digits in re.findall(r"\d+", exponent))


# ---- the process that compares -------------------------------------------------------------------

_MAIN = (
    "import sys; sys.path[:] = sys.argv[1:]\n"
    "from reasoning.problems.equivalence import serve; serve()"
)


class Comparer:
    """The process that math-verify runs in; begun at the first comparison, and again after a loss.

    One comparison runs at a time.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._replies: SimpleQueue[str | None] = SimpleQueue()
        self._known: dict[tuple[str, str], bool | None] = {}
        atexit.register(self.close)

    def same(self, one: str, other: str) -> bool | None:
        """Whether two formulas are equal; None where that is not known within the limits."""
        with self._lock:
            pair = (one, other)
            if pair not in self._known:
                if len(self._known) >= 10_000:
                    self._known.clear()
                self._known[pair] = self._ask(pair)
            return self._known[pair]

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _ask(self, pair: tuple[str, str]) -> bool | None:
        process = self._process or self._begin()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(pair) + "\n")
            process.stdin.flush()
            reply = self._replies.get(timeout=PATIENCE)
        except (OSError, Empty):
            reply = None
        if reply is None:
            self.close()
            return None
        found: bool | None = json.loads(reply)
        return found

    def _begin(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for whoever asks
        )
        replies: SimpleQueue[str | None] = SimpleQueue()
        self._process, self._replies = process, replies
        Thread(target=_pass_on, args=(process.stdout, replies), daemon=True).start()
        return process


def _pass_on(lines: Any, replies: SimpleQueue[str | None]) -> None:
    with suppress(ValueError, OSError):  # it was closed
        for line in lines:
            replies.put(line)
    replies.put(None)


@cache
def comparer() -> Comparer:
    """The one of this process."""
    return Comparer()


def serve() -> None:
    """Answer each line, a JSON list of two formulas, with a line: ``true`` or ``false``.

    The system ends the process when one takes more than `SECONDS` of processor time.
    """
    import math_verify  # before the clock runs

    assert math_verify
    _limit_memory()
    for line in sys.stdin:
        one, other = json.loads(line)
        _limit_time()
        try:
            reply = _are_equal(one, other)
        except (Exception, RecursionError):
            reply = False
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _are_equal(one: str, other: str) -> bool:
    """Whether two formulas are, or two relations whose differences have a constant ratio."""
    from math_verify import parse, verify

    first, second = one.rpartition(_SIGN), other.rpartition(_SIGN)
    if first[0] != second[0]:
        return False
    left, right = (
        parse(f"${text}$", fallback_mode="no_fallback", parsing_timeout=None)
        for text in (first[2], second[2])
    )
    if not len(left) == len(right) == 1:
        return False
    exact = {"float_rounding": 15, "numeric_precision": 60, "timeout_seconds": None}
    return verify(left, right, **exact) or (first[0] != "" and _scaled(left[0], right[0], first[0]))


def _scaled(one: Any, other: Any, sign: str) -> bool:
    """Whether one difference is a multiple of the other, by a positive number for ``<``."""
    from sympy import simplify

    ratio = simplify(one.doit() / other.doit())
    if not ratio.is_number or not ratio.is_finite or ratio.is_zero:
        return False
    return bool("<" not in sign or ratio.is_positive)


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _limit_time() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        until = int(used.ru_utime + used.ru_stime) + 1 + SECONDS
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
