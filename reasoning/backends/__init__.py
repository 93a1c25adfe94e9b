"""What generates tokens: the contract, the backends that ship, and the base for one of your own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reasoning.backends.base import Backend, Generation, Token
    from reasoning.backends.text import TextBackend

_HOMES = {"Backend": "base", "Generation": "base", "TextBackend": "text", "Token": "base"}

__all__ = ["Backend", "Generation", "TextBackend", "Token"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
