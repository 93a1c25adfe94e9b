"""Remembering the last answer, for questions that tasks with one function ask again and again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar
from weakref import ref

R = TypeVar("R")


def remembering_last(make: Callable[[Callable[..., Any]], R]) -> Callable[[Callable[..., Any]], R]:
    """The same function of functions, which keeps what it gave last; it keeps none alive."""
    last: tuple[Callable[[], Any], Any] = (lambda: None, None)

    @wraps(make)
    def remember(function: Callable[..., Any]) -> R:
        nonlocal last
        whose, found = last  # at once, as threads ask too
        if whose() is not function:
            found = make(function)
            with suppress(TypeError):  # some can't be referred to weakly
                last = (ref(function), found)
        kept: R = found
        return kept

    return remember
