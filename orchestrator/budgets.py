"""Budgets: what may be spent is reserved before the work starts, and settled after it.

Everything here happens on the event loop, between two awaits, so that nothing needs a lock and
concurrent branches can't overshoot a limit together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self

from orchestrator.errors import BudgetExhausted, InvalidValue

FIELDS = ("tokens", "cost", "tasks")
SLACK = 1e-9
"""Relative; sums of costs in floating point depend on their order by less."""

_current: ContextVar[Budget | None] = ContextVar("orchestrator_budget", default=None)


def current_budget() -> Budget | None:
    """The innermost budget whose block encloses this code."""
    return _current.get()


def set_budget(budget: Budget | None) -> tuple[ContextVar[Any], Token[Any]]:
    """Let this code spend from a budget; return the variable and how to reset it."""
    return _current, _current.set(budget)


class Budget:
    """Limits on what the tasks added inside its block may spend together::

        with Budget(tokens=10_000, seconds=60):
            for question in questions:
                graph.add(answer, question, reserve={"tokens": 512})

    Budgets nest: what is spent inside counts for all that enclose it.  At every moment, what is
    spent and what is reserved are together within each limit.  Past the share ``soft`` of a limit
    tasks are asked to wrap up (`Task.wrap_up`); at the limit they are cancelled.

    Attributes:
        limits: By field: ``tokens``, ``cost`` and ``tasks``; fields without a limit are absent.
        seconds: Wall time from entering the block, or None.
        spent: By field.
        reserved: What open reservations hold and have not spent, by field.
    """

    def __init__(
        self,
        *,
        tokens: int | None = None,
        seconds: float | None = None,
        cost: float | None = None,
        tasks: int | None = None,
        soft: float = 0.9,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        given = {"tokens": tokens, "cost": cost, "tasks": tasks}
        self.limits = {name: limit for name, limit in given.items() if limit is not None}
        for name, limit in [*self.limits.items(), ("seconds", seconds)]:
            if limit is not None:
                _check(name, limit)
        if isinstance(soft, bool) or not 0 < soft <= 1:
            raise InvalidValue(f"budget soft is {soft}; give a share above 0 and up to 1")
        self.seconds = seconds
        self.soft = soft
        self.parent: Budget | None = None
        self.spent = dict.fromkeys(FIELDS, 0.0)
        self.reserved = dict.fromkeys(FIELDS, 0.0)
        self._clock = clock
        self._entered: float | None = None
        self._token: Token[Budget | None] | None = None
        self._listeners: dict[Callable[[], None], None] = {}

    def __enter__(self) -> Self:
        if self._entered is not None:
            raise InvalidValue("this budget was entered already; make a new one")
        self._entered = self._clock()
        self.parent = _current.get()
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._token is not None
        _current.reset(self._token)

    def chain(self) -> Iterator[Budget]:
        """This budget and those that enclose it, outwards."""
        budget: Budget | None = self
        while budget is not None:
            yield budget
            budget = budget.parent

    def remaining(self, field: str) -> float:
        """What is neither spent nor reserved, here and in all enclosing budgets."""
        outer = math.inf if self.parent is None else self.parent.remaining(field)
        if field not in self.limits:
            return outer
        return min(outer, max(0.0, self.limits[field] - self.spent[field] - self.reserved[field]))

    @property
    def deadline(self) -> float:
        """When the first of the budgets' seconds are over, on its clock; infinite without."""
        outer = math.inf if self.parent is None else self.parent.deadline
        return outer if self.seconds is None else min(outer, (self._entered or 0.0) + self.seconds)

    @property
    def wrap_up(self) -> bool:
        """Whether a soft limit is reached, here or in an enclosing budget."""
        return self._past_soft() or (self.parent is not None and self.parent.wrap_up)

    def try_reserve(self, **amounts: float) -> Reservation | None:
        """Reserve in this and all enclosing budgets, or nothing; None if it may fit later.

        Raises:
            BudgetExhausted: it can never fit, whatever open reservations turn out to spend.
        """
        for name, amount in amounts.items():
            if name not in FIELDS:
                raise InvalidValue(f"reserve has {name!r}; give some of {', '.join(FIELDS)}")
            _check(name, amount)
        for budget in self.chain():
            budget.refuse_hopeless(amounts)
        if not all(budget.fits(amounts) for budget in self.chain()):
            return None
        for budget in self.chain():
            for name, amount in amounts.items():
                budget.reserved[name] += amount
        return Reservation(self, amounts)

    def restore(self, amounts: Mapping[str, float]) -> None:
        """Count what was spent in an earlier process, here and in all enclosing budgets."""
        for budget in self.chain():
            for name, amount in amounts.items():
                budget.spent[name] += amount

    def on_release(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever something reserved comes back, here or in an outer budget."""
        self._listeners[listener] = None
        if self.parent is not None:
            self.parent.on_release(listener)

    def released(self) -> None:
        """Tell each listener of this and all enclosing budgets once."""
        for listener in {call: None for budget in self.chain() for call in budget.listeners}:
            listener()

    @property
    def listeners(self) -> tuple[Callable[[], None], ...]:
        """Whom this budget tells when something comes back."""
        return tuple(self._listeners)

    def fits(self, amounts: Mapping[str, float]) -> bool:
        """Whether so much is left in this budget alone, beside what is reserved."""
        return all(
            self.spent[name] + self.reserved[name] + amount
            <= self.limits[name] * (1 + SLACK * (name == "cost"))
            for name, amount in amounts.items()
            if name in self.limits
        )

    def refuse_hopeless(self, amounts: Mapping[str, float]) -> None:
        """Refuse what this budget could not give even if all that is reserved came back.

        Raises:
            BudgetExhausted: it names the field, what is left, and what was asked for.
        """
        for name, amount in amounts.items():
            if name in self.limits and self.spent[name] + amount > self.limits[name] * (1 + SLACK):
                left = self.limits[name] - self.spent[name]
                raise BudgetExhausted(
                    f"the budget of {self.limits[name]:g} {name} has {left:g} left and "
                    f"{amount:g} were asked for; raise it, or ask for less"
                )

    def _past_soft(self) -> bool:
        if any(self.spent[name] >= self.soft * limit for name, limit in self.limits.items()):
            return True
        if self.seconds is None or self._entered is None:
            return False
        return self._clock() - self._entered >= self.soft * self.seconds


class Reservation:
    """What one task holds of a budget; it is settled once, with what was spent.

    Attributes:
        granted: The amounts held, by field.
        spent: Those used so far.
    """

    __slots__ = ("_budget", "granted", "open", "spent")

    def __init__(self, budget: Budget, amounts: Mapping[str, float]) -> None:
        self._budget = budget
        self.granted = dict(amounts)
        self.spent = dict.fromkeys(amounts, 0.0)
        self.open = True

    def spend(self, **amounts: float) -> None:
        """Record use; beyond what is held, more is reserved first.

        Raises:
            BudgetExhausted: more can't be had now; the use that asked for it is not recorded.
        """
        assert self.open, "a settled reservation can't be spent"
        for name, amount in amounts.items():
            _check(name, amount)
            short = self.spent.get(name, 0.0) + amount - self.granted.get(name, 0.0)
            if short > 0:
                self._grow(name, short)
            self.spent[name] = self.spent.get(name, 0.0) + amount
            for budget in self._budget.chain():
                budget.spent[name] += amount
                budget.reserved[name] = max(0.0, budget.reserved[name] - amount)

    def _grow(self, name: str, amount: float) -> None:
        more = self._budget.try_reserve(**{name: amount})
        if more is None:
            raise BudgetExhausted(
                f"the budget has no {amount:g} {name} more that are not reserved by others; "
                "raise it, or reserve more at the start"
            )
        self.granted[name] = self.granted.get(name, 0.0) + amount

    def settle(self) -> None:
        """Give back what was not spent; later calls do nothing."""
        if not self.open:
            return
        self.open = False
        for budget in self._budget.chain():
            for name, amount in self.granted.items():
                rest = max(0.0, amount - self.spent.get(name, 0.0))
                budget.reserved[name] = max(0.0, budget.reserved[name] - rest)
        self._budget.released()


def _check(name: str, amount: float) -> None:
    kinds = (int,) if name in ("tokens", "tasks") else (int, float)
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise InvalidValue(f"budget {name} is {amount!r}; give a number")
    if not isinstance(amount, kinds) and not float(amount).is_integer():
        raise InvalidValue(f"budget {name} is {amount!r}; give a whole number")
    if not amount >= 0:
        raise InvalidValue(f"budget {name} is {amount!r}; give 0 or more")
