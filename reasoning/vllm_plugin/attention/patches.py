"""What the plugin does to a layer, only in the steps that need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class PatchedMethod:
    """A method that is replaced on the instances of a worker's layers, and not at other times.

    Ordinary steps then run nothing of the plugin in their layers.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self._layers: list[tuple[Any, Callable[..., Any]]] = []
        self._on = False

    def add(self, impl: Any, instead: Callable[..., Any]) -> None:
        """Let ``instead`` stand for a layer's method, when it is turned on."""
        self._layers.append((impl, instead))

    def turn(self, on: bool) -> None:
        """Replace the method from now on, or leave vLLM's own."""
        if on is self._on:
            return
        self._on = on
        for impl, instead in self._layers:
            if on:
                setattr(impl, self._method, instead)
            else:
                delattr(impl, self._method)
