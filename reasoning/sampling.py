"""How a thread's tokens are drawn, and why it stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import InvalidValue

StopReason = Literal["stop", "length"]
"""A stop token was written, or the context is full."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a thread's tokens are drawn.

    Attributes:
        temperature: 0 takes the likeliest token; above, tokens are drawn from the softmax.
        seed: The same seed gives the same tokens, alone or in any batch.
    """

    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise InvalidValue(f"temperature: {self.temperature} is out of range; give 0 to 10")
