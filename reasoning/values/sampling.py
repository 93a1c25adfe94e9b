"""How a thread's tokens are drawn, and why it stops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.errors import InvalidValue

StopReason = Literal["stop", "length", "lost"]
"""A stop token was written, the context is full, or the backend lost the thread."""
MOST_TOKENS = 10_000_000


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

    What is None or empty is the model's or the server's own default; on backends in this process
    that is the plain softmax.  Log-probabilities are those of the model, before all of this.

    Attributes:
        temperature: 0 takes the likeliest token; above, tokens are drawn from the softmax.  None,
            the server's own, is for servers alone.
        seed: The same seed gives the same tokens, alone or in any batch.
        priority: A thread of lower priority value is served first, where the backend can.
        constraint: Needs a backend with the capability ``json-schema`` for JSON, and for other
            forms ``structured-output``.
        adapter: A LoRA adapter by name; needs the capability ``adapters``.
        confidence: Over how many of the likeliest tokens each token's confidence is measured; 0
            measures none.
        top_p: Only the likeliest tokens are drawn that together have this probability.
        top_k: Only so many of the likeliest tokens are drawn; 0 is all.
        min_p: Only tokens are drawn that are at least this likely, against the likeliest.
        repetition_penalty: Divides logits above 0 of tokens that were seen or written, and
            multiplies those below (CTRL, arXiv 1909.05858); 1 is none.
        presence_penalty: Taken off the logit of each token that was written.
        frequency_penalty: Taken off it for each time that it was written.
        logit_bias: Added to the logits of tokens, by their ids.
        stop: Texts that end a thread and are not shown in its text.
        max_new_tokens: The most that a thread generates, beside what its context holds.
        drawn: So many tokens were drawn by this seed before, in another thread that goes on here.
        problem: Names what the thread works at; backends that choose where a thread runs put those
            of one problem together.
        logprobs: Whether log-probabilities are kept, so that a server is asked for them in chat,
            where they make each event longer.
        whole: Whether nobody looks at the tokens as they come, so that a backend may give them all
            at the end.
        extra: Fields for a server's request body, as they stand; other backends take none.
    """

    temperature: float | None = 0.0
    seed: int = 0
    priority: int = 0
    constraint: Constraint | None = None
    adapter: str | None = None
    confidence: int = 0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    drawn: int = 0
    problem: str = ""
    logprobs: bool = False
    whole: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("temperature", *KNOBS, "max_new_tokens"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name))
        if self.top_p == 0:
            raise InvalidValue("top-p: 0 leaves no token; give above 0 to 1")
        if any(not isinstance(one, str) or not one for one in self.stop):
            raise InvalidValue("stop: a stop text is empty or no text; give some characters")
        for token, bias in self.logit_bias.items():
            check_number("logit_bias token", token)
            check_number("logit_bias", bias)

    @property
    def shaped(self) -> bool:
        """Whether logits are changed before a token is chosen, temperature aside."""
        one = self.repetition_penalty not in (None, 1)
        return bool(one or self.presence_penalty or self.frequency_penalty or self.logit_bias)

    @property
    def knobs(self) -> dict[str, float]:
        """Those of `KNOBS` that are said."""
        told = {name: getattr(self, name) for name in KNOBS}
        return {name: value for name, value in told.items() if value is not None}

    @property
    def truncated(self) -> bool:
        """Whether some tokens are never drawn."""
        return bool(self.top_k or self.min_p or self.top_p not in (None, 1))


RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0, 10, False),
    "top_p": (0, 1, False),
    "top_k": (0, MOST_TOKENS, True),
    "min_p": (0, 1, False),
    "repetition_penalty": (0.01, 10, False),
    "presence_penalty": (-2, 2, False),
    "frequency_penalty": (-2, 2, False),
    "max_new_tokens": (1, MOST_TOKENS, True),
    "logit_bias token": (0, MOST_TOKENS, True),
    "logit_bias": (-100, 100, False),
}
"""The least and the most of each number, and whether it is whole."""
KNOBS = (
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
"""The fields that say which tokens are drawn, beside the temperature."""


def check_number(name: str, value: Any) -> None:
    """Check a number against `RANGES`.

    Raises:
        InvalidValue: it is no number of its kind, or out of range.
    """
    least, most, whole = RANGES[name]
    label = name.replace("_", "-")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        kind = "a whole number" if whole else "a number"
        raise InvalidValue(f"{label}: {value!r} is no number of its kind; give {kind}")
    if not least <= value <= most:
        raise InvalidValue(f"{label}: {value} is out of range; give {least:g} to {most:g}")
