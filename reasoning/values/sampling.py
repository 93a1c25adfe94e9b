"""How a thread's tokens are drawn, and why it stops."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.errors import InvalidValue

StopReason = Literal["stop", "length", "lost"]
"""A stop token was written, the context is full, or the backend lost the thread."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A form that what a thread writes must have, enforced while it is generated.

    Attributes:
        kind: What ``value`` is: a regular expression, a JSON schema, options one a line, or a
            grammar in EBNF.
    """

    kind: Literal["regex", "json", "choice", "grammar"]
    value: str

    @property
    def response_format(self) -> dict[str, Any]:
        """A JSON schema as chat servers take it: OpenAI's ``response_format``."""
        named = {"name": "reply", "schema": json.loads(self.value)}
        return {"type": "json_schema", "json_schema": named}

    @property
    def options(self) -> dict[str, str | list[str]]:
        """The constraint as keyword arguments of vLLM's ``StructuredOutputsParams``."""
        return {self.kind: self.value.splitlines() if self.kind == "choice" else self.value}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a thread's tokens are drawn.

    Attributes:
        temperature: 0 takes the likeliest token; above, tokens are drawn from the softmax.
        seed: The same seed gives the same tokens, alone or in any batch.
        priority: A thread of lower priority value is served first, where the backend can.
        constraint: Needs a backend with the capability ``json-schema`` for JSON, and for other
            forms ``structured-output``.
        adapter: A LoRA adapter by name; needs the capability ``adapters``.
        confidence: Over how many of the likeliest tokens each token's confidence is measured; 0
            measures none.
    """

    temperature: float = 0.0
    seed: int = 0
    priority: int = 0
    constraint: Constraint | None = None
    adapter: str | None = None
    confidence: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise InvalidValue(f"temperature: {self.temperature} is out of range; give 0 to 10")
