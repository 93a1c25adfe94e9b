"""What a model answered, in the JSON of OpenAI's interfaces: chats, completions, responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from pruning import TracesError
from pruning.evaluation.traces import MOST_TOKENS
from reasoning.evaluation.importers.samples import ImportedSample, SampleEnd, shares, thought

ENDS: dict[str, SampleEnd] = {"length": "length", "max_tokens": "length", "incomplete": "length"}
"""How a sample ended, by what servers call it; all else is its own end."""


def as_mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> Sequence[Any]:
    """The value where it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_count(value: Any) -> int | None:
    """The value where it is a number of tokens; None where it is none.

    Raises:
        TracesError: nothing has so many.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        return None
    if value > MOST_TOKENS:
        raise TracesError(f"tokens: {value} are out of range; give at most {MOST_TOKENS}")
    return int(value)


def as_numbers(values: Sequence[Any], name: str) -> list[float]:
    """The values, which have to be finite numbers.

    Raises:
        TracesError: one of them is none.
    """
    for one in values:
        if isinstance(one, bool) or not isinstance(one, int | float) or not isfinite(one):
            raise TracesError(f"{name}: {str(one)[:40]!r} is no number; give one for each token")
    return list(map(float, values))


def message_text(message: Mapping[str, Any]) -> str:
    """A message's text, with its thoughts before it where they stand apart."""
    apart = message.get("reasoning_content") or message.get("reasoning")
    content = message.get("content")
    thoughts = [apart] if isinstance(apart, str) else []
    said = [content] if isinstance(content, str) else []
    for part in map(as_mapping, as_list(content)):
        kept = thoughts if part.get("type") in ("reasoning", "thinking") else said
        found = part.get("text") or part.get("reasoning") or part.get("thinking")
        kept += [found] if isinstance(found, str) else []
    return thought("".join(thoughts), "".join(said))


def question_of(messages: Sequence[Any]) -> str:
    """What a conversation asks: its last user message."""
    asked = [one for one in map(as_mapping, messages) if one.get("role") in ("user", "human")]
    return message_text(asked[-1]).strip() if asked else ""


def completion_samples(body: Mapping[str, Any]) -> list[ImportedSample]:
    """The samples in the body of a response; none where it is no such body."""
    usage = as_mapping(body.get("usage"))
    tokens = as_count(usage.get("completion_tokens", usage.get("output_tokens")))
    choices = [as_mapping(one) for one in as_list(body.get("choices"))]
    if not choices:
        return list(_response(body, tokens))
    texts = [_choice_text(one) for one in choices]
    logged = [as_list(as_mapping(one.get("logprobs")).get("content")) for one in choices]
    lengths = [len(one) for one in logged]
    exact = all(lengths) and sum(lengths) == tokens
    parts = [(one, True) for one in lengths] if exact else shares(tokens, texts)
    return [
        ImportedSample(
            text=text,
            tokens=share,
            counted=counted_alone,
            end=ENDS.get(str(choice.get("finish_reason") or choice.get("stop_reason")), "own"),
            confidences=tuple(_confidences(log)),
        )
        for choice, text, log, (share, counted_alone) in zip(
            choices, texts, logged, parts, strict=True
        )
    ]


def _choice_text(choice: Mapping[str, Any]) -> str:
    text = choice.get("text")
    return text if isinstance(text, str) else message_text(as_mapping(choice.get("message")))


def _confidences(log: Sequence[Any]) -> Iterator[float]:
    """DeepConf's confidence of each token (arXiv 2508.15260), where likelier ones were stored."""
    for token in map(as_mapping, log):
        others = [as_mapping(one).get("logprob") for one in as_list(token.get("top_logprobs"))]
        if len(others) < 2:
            return
        known = as_numbers(others, "logprobs")
        yield -sum(known) / len(known)


def _response(body: Mapping[str, Any], tokens: int | None) -> Iterator[ImportedSample]:
    """The one sample of the Responses interface."""
    items = [as_mapping(one) for one in as_list(body.get("output"))]
    messages = [one for one in items if one.get("type") == "message"]
    if messages:
        thoughts = [
            message_text({"content": as_list(one.get("content")) or as_list(one.get("summary"))})
            for one in items
            if one.get("type") == "reasoning"
        ]
        said = "".join(map(message_text, messages))
        end = ENDS.get(str(body.get("status")), "own")
        yield ImportedSample(text=thought("".join(thoughts), said), tokens=tokens, end=end)
