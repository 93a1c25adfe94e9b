"""Functions that take the fields of a frozen options object as keyword arguments.

The names, types and defaults stand once, in the dataclass; editors and type checkers see them on
the function, and at run time an unknown one is refused by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from reasoning.registry import nearest

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741
A = TypeVar("A")
S = TypeVar("S")
R = TypeVar("R")


def build(kind: Callable[P, O], name: str, *args: P.args, **keywords: P.kwargs) -> O:
    """An options object for the function ``name``.

    Raises:
        TypeError: a keyword is unknown; the message has the nearest one.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in keywords:
        if key not in known:
            raise TypeError(
                f"{name}() has no option {key!r}; {nearest(key, known)}"
                f"it has {', '.join(sorted(known))}"
            )
    return kind(*args, **keywords)


def takes_options(
    kind: Callable[P, O],
) -> Callable[[Callable[[A, O], R]], Callable[Concatenate[A, P], R]]:
    """Let a function of a value and an options object take the options by keyword."""
    return lambda function: _taking(kind, function)


def method_takes_options(
    kind: Callable[P, O],
) -> Callable[[Callable[[S, A, O], R]], Callable[Concatenate[S, A, P], R]]:
    """The same for a method."""
    return lambda function: _taking(kind, function)


def _taking(kind: Callable[..., Any], function: Callable[..., Any]) -> Any:
    """The function with the options' signature in place of its last parameter."""
    signature = inspect.signature(function)
    *own, _ = signature.parameters.values()

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        first, more = args[: len(own)], args[len(own) :]
        return function(*first, build(kind, function.__name__, *more, **keywords))

    parameters = [*own, *inspect.signature(kind).parameters.values()]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call
