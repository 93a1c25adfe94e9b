"""The functions that patches may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.errors import UnknownName

Resolver = Callable[[str], Callable[..., Any] | None]
"""Returns the function that a name means, or None if it knows none of that name."""


class Functions:
    """Functions by name: those that were registered, then what a resolver finds."""

    def __init__(self, resolver: Resolver | None) -> None:
        self._resolver = resolver
        self._registered: dict[str, Callable[..., Any]] = {}

    def register(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Let patches name this function, by its own name unless another is given."""
        self._registered[name or function.__name__] = function

    def find(self, name: str) -> Callable[..., Any]:
        """The function of this name.

        Raises:
            UnknownName: there is none.
        """
        found = self._registered.get(name)
        if found is None and self._resolver is not None:
            found = self._resolver(name)
        if found is None:
            known = ", ".join(sorted(self._registered)) or "none"
            raise UnknownName(f"no function {name!r} is registered (registered: {known})")
        return found
