"""What the plugin does to a layer, only in the steps that need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class PatchedMethod:
    """A method that is replaced on the instances of a worker's layers, and not at other times.

    Ordinary steps then run nothing of the plugin in their layers.

    Attributes:
        calls: How many layers have come by in the present step.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self._layers: list[tuple[Any, Callable[..., Any]]] = []
        self._on = False
        self.calls = 0

    @property
    def missing(self) -> int:
        """How many layers have not come by in the present step."""
        return len(self._layers) - self.calls

    def add(self, impl: Any, instead: Callable[..., Any]) -> None:
        """Let ``instead`` stand for a layer's method, when it is turned on."""

        def counted(*args: Any, **options: Any) -> Any:
            self.calls += 1
            return instead(*args, **options)

        self._layers.append((impl, counted))

    def turn(self, on: bool) -> None:
        """Replace the method from now on, or leave vLLM's own; a step begins."""
        self.calls = 0
        if on is self._on:
            return
        self._on = on
        for impl, instead in self._layers:
            if on:
                setattr(impl, self._method, instead)
            else:
                delattr(impl, self._method)
