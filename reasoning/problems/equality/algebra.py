"""Which answers are one though their keys differ: ``2√2`` and ``√8``, ``30`` and ``30 usd``.

Where the extra ``math`` is there, math-verify is asked whether two keys of `equality.canonical` say
the same.  It is given only what reads as a formula and has no decimals, so that nothing is equal by
rounding; numbers, words, units, times, choices and the order of tuples stay with the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from reasoning.problems.equality.comparer import comparer, is_available
from reasoning.problems.equality.formulas import WORDS, Form, form_of, is_number
from reasoning.problems.equality.units import currencies, without_money

MOST_COMPARISONS = 64
"""Of one question's answers."""


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
    _amounts: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    _forms: dict[str, Form] = field(default_factory=dict, repr=False)
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

    def _new(self, key: str) -> Form | None:
        """What there is to compare of a key; None where nothing is, or it was compared."""
        self._count_money(key)
        if key in self.merged or key in self._forms or not is_available():
            return None
        return None if _ASKS_FOR_A_FORM.search(self.question) else form_of(key)

    def _count_money(self, key: str) -> None:
        """Give an amount the class of the same one with a currency, where there is one currency.

        A question that names one currency has said which; keys leave that one out.
        """
        if key in self.merged or len(currencies(self.question)) == 1:
            return
        bare, currency = without_money(key)
        classes = self._amounts.setdefault(bare, {})
        if currency in classes:
            return
        if len(classes) == 1 and (currency == "" or "" in classes):
            (self.merged[key],) = classes.values()
        classes[currency] = self.known(key)

    def _rivals(self, form: Form) -> list[tuple[str, Form]]:
        """What a new form has to be compared with."""
        return [(name, other) for name, other in self._forms.items() if form.fits(other)]

    def _place(self, key: str, form: Form) -> str:
        for name, other in self._rivals(form):
            if self._same(form, other):
                return self.merged.setdefault(key, name)
        self._forms.setdefault(key, form)
        return key

    def _same(self, one: Form, other: Form) -> bool:
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
        if WORDS in one + other or (is_number(one) and is_number(other)):
            return False
        if self._left <= 0:
            self.limited = True
            return False
        self._left -= 1
        same = comparer().same(one, other)
        self.limited = self.limited or same is None
        return same is True


_ASKS_FOR_A_FORM = re.compile(
    r"\b(?:factor(?:i[sz]e|i[sz]ation)?|expand|simpl\w+|rewrite|rationali[sz]e|standard form"
    r"|lowest terms|in (?:the|its) (?:\w+ )?form|in terms of|partial fractions?|scientific notation"
    r"|as an? (?:product|sum|power|fraction|decimal|percent\w*|mixed number|ratio)|notation)\b",
    re.I,
)
