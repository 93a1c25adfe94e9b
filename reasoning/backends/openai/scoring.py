"""Given text scored by a server: completions that echo their prompt with its log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reasoning.errors import BackendLost

Fields = dict[str, Any]


def echo_request(prompt: Sequence[int] | str) -> Fields:
    """The fields that ask for a prompt's log-probabilities, and for one token more."""
    return {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}


def echoed(answer: Any) -> list[tuple[int, float | None]]:
    """Where each token of an echoed prompt begins, if that is said, and how likely it was.

    The first token has nothing before it and no log-probability.  The token that was generated is
    left out.

    Raises:
        BackendLost: the answer has none.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    found = (choices[0].get("logprobs") if choices else None) or {}
    likely = found.get("token_logprobs") or []
    starts = found.get("text_offset") or []
    usage = answer.get("usage") if isinstance(answer, dict) else None
    generated = (usage or {}).get("completion_tokens")
    count = len(likely) - (generated if isinstance(generated, int) else 1)
    if count < 2 or any(not isinstance(one, float | int) for one in likely[1:count]):
        raise BackendLost("the server does not say how likely a prompt is; see reason doctor")
    places = [starts[k] if k < len(starts) else -1 for k in range(count)]
    return list(zip(places, likely[:count], strict=True))


def of_tokens(answer: Any, count: int) -> list[float]:
    """The log-probabilities of the last ``count`` tokens of an echoed prompt."""
    return [float(likely or 0.0) for _, likely in echoed(answer)[-count:]]


def of_text(answer: Any, start: int) -> list[float]:
    """The log-probabilities of the tokens that begin at this character of a prompt, or later."""
    return [float(likely or 0.0) for place, likely in echoed(answer) if place >= start]
