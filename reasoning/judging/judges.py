"""Judges of one's own by name: a function in a file or module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import InvalidValue, ReasonError
from pruning import Judge, Trace
from reasoning.registry import KindRegistry

_JUDGES: KindRegistry[Any] = KindRegistry("judge", group="parallel_reason.judges", kinds={})


def load_judge(name: str) -> Judge:
    """A function ``(trace, other, tokens) -> float``, or a class of such objects, by its name.

    That is ``path.py:Name``, ``module:Name``, or the name of an installed package's entry point.

    Raises:
        UnknownName: there is no such function, file or module.
        InvalidValue: it can't be called.
    """
    choice = _JUDGES.choose(name)
    made = choice.make(_JUDGES.noun) if inspect.isclass(choice.kind) else choice.kind
    if not callable(made) or inspect.iscoroutinefunction(made):
        raise InvalidValue(f"judge: {name} is no plain function; give (trace, other, tokens)")
    return NamedJudge(name, made)


@dataclass(frozen=True)
class NamedJudge:
    """Somebody's function, whose errors are told in one line."""

    name: str
    function: Callable[[Trace, Trace, int], Any]

    def __call__(self, trace: Trace, other: Trace, tokens: int) -> float:
        """
        Raises:
            InvalidValue: the function failed, or gave no probability.
        """
        try:
            same = float(self.function(trace, other, tokens))
        except ReasonError:
            raise
        except Exception as error:  # whatever somebody else's code does
            said = f"{type(error).__name__}: {error}"
            raise InvalidValue(f"judge: {self.name}: {said}; mend it") from error
        if not 0 <= same <= 1:
            raise InvalidValue(f"judge: {self.name} gave {same}; return a probability, 0 to 1")
        return same
