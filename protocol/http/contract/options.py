"""What a request may set for its own run, and the form that its answer must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Vote = Literal["whole", "fields"]


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """What a request may set for its own run; None leaves it to the service.

    Attributes:
        n: The number of branches.
        policy: What steers the branches, by name.
        effort: How much to try, where the request names neither branches nor policy.
        answers: How many distinct answers are wanted, the best first.
        seed: The same seed gives the same tokens.
        max_tokens: The most tokens that one branch may write.
        budget: The most tokens that all branches together may write; then the run is stopped.
        context: The context of each branch in tokens, prompt included.
        timeout: Seconds after which the run answers with the best that it has.
        stop: Texts at which a branch ends; they are not part of the answer.
        template: More arguments for the model's chat template.
        extra: Fields that this server does not know, for the server behind.
        vote: What branches vote for where a form is asked for: whole values, or field by field.
    """

    n: int | None = None
    policy: str | None = None
    effort: Effort | None = None
    answers: int = 1
    seed: int | None = None
    max_tokens: int | None = None
    budget: int | None = None
    context: int | None = None
    timeout: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    stop: tuple[str, ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    vote: Vote = "whole"


@dataclass(frozen=True, kw_only=True)
class OutputForm:
    """The JSON that an answer must be.

    Attributes:
        schema: A JSON schema; ``{"type": "object"}`` takes any object.
        field: The field of the request that asks for it, for messages about it.
    """

    schema: Mapping[str, Any]
    field: str = "response_format"


@dataclass(frozen=True, kw_only=True)
class ToolOffer:
    """The tools that a model may want called.

    Attributes:
        tools: As OpenAI's chat writes them.
        choice: ``auto``, ``none``, ``required``, or the one tool that must be called, as OpenAI's
            chat writes it.
        parallel: Whether several may be called at once; None leaves it to the model.
    """

    tools: tuple[Mapping[str, Any], ...]
    choice: str | Mapping[str, Any] = "auto"
    parallel: bool | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(tool["function"]["name"]) for tool in self.tools)
