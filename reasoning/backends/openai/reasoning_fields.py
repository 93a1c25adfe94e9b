"""What a server's answer says: tokens, log-probabilities, and reasoning in whichever field."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from reasoning.backends.base import Token
from reasoning.backends.prompted import confidence

OPEN, CLOSE = "<think>", "</think>"


class Malformed(Exception):
    """What a server did that is no part of an answer, to be said after its name."""


@dataclass(frozen=True, kw_only=True)
class ServerUsage:
    """A server's own count of one request; None is what it does not say."""

    prompt: int | None
    completion: int | None
    cached: int | None


def event(line: str) -> dict[str, Any] | None:
    """The object in one line of a server-sent stream; None where the line carries none.

    Raises:
        Malformed: the line is no event, or reports an error.
    """
    if not line.startswith("data:"):
        if not line or line[0] == ":" or line.partition(":")[0] in ("event", "id", "retry"):
            return None
        raise Malformed(f"sent no event stream ({line[:60]!r})")
    data = line[5:].strip()
    if not data or data == "[DONE]":
        return None
    try:
        found = json.loads(data)
    except ValueError as error:
        raise Malformed(f"sent a malformed event ({data[:60]!r})") from error
    if not isinstance(found, dict):
        raise Malformed(f"sent {data[:60]!r} as an event")
    if found.get("error"):
        raise Malformed(f"failed: {_message(found['error'])}")
    return found


def _message(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)[:200]


def usage(body: dict[str, Any]) -> ServerUsage | None:
    """The usage in a response or in a stream's last event."""
    found = body.get("usage")
    if not isinstance(found, dict):
        return None
    details = found.get("prompt_tokens_details") or {}
    return ServerUsage(
        prompt=found.get("prompt_tokens"),
        completion=found.get("completion_tokens"),
        cached=details.get("cached_tokens") if isinstance(details, dict) else None,
    )


def tokens(choice: dict[str, Any], likeliest: int) -> list[Token]:
    """The token ids of a completion's chunk, with their log-probabilities as far as given.

    Servers list ``likeliest`` tokens, and the one that was drawn where it is not among them.
    """
    ids = choice.get("token_ids") or []
    logprobs = choice.get("logprobs") or {}
    chosen = logprobs.get("token_logprobs") or []
    tops = logprobs.get("top_logprobs") or []
    out = []
    for index, token in enumerate(ids):
        logprob = chosen[index] if index < len(chosen) else None
        top = tops[index] if index < len(tops) else None
        best = sorted((top or {}).values(), reverse=True)[:likeliest]
        out.append(Token(token, _number(logprob), None, confidence(best)))
    return out


def _number(logprob: float | None) -> float:
    return math.nan if logprob is None else logprob


def text(choice: dict[str, Any]) -> tuple[str, str]:
    """Reasoning and answer of a chat or completion chunk, whichever fields the server uses.

    These are ``reasoning`` (vLLM, OpenRouter), ``reasoning_content`` (DeepSeek, SGLang),
    ``reasoning_details`` (OpenRouter), ``thinking`` (Ollama), and typed parts of the content
    (Mistral); ``<think>`` tags inside the content stay there.
    """
    delta = choice.get("delta") or choice.get("message")
    if not isinstance(delta, dict):
        return "", choice.get("text") or ""
    thought = ""
    for name in ("reasoning", "reasoning_content", "thinking"):
        found = delta.get(name)
        if isinstance(found, str) and found:
            thought = found
            break
    else:
        thought = "".join(map(_detail, delta.get("reasoning_details") or []))
    content = delta.get("content")
    if isinstance(content, list):
        thought += "".join(_part(one, thinking=True) for one in content)
        content = "".join(_part(one, thinking=False) for one in content)
    return thought, content or ""


def _detail(one: Any) -> str:
    return str(one.get("text") or one.get("summary") or "") if isinstance(one, dict) else ""


def _part(one: Any, *, thinking: bool) -> str:
    if not isinstance(one, dict) or (one.get("type") == "thinking") != thinking:
        return ""
    inner = one.get("thinking", one.get("text", ""))
    return "".join(str(i.get("text", "")) for i in inner) if isinstance(inner, list) else str(inner)


def text_logprobs(choice: dict[str, Any]) -> list[float]:
    """The log-probabilities of a chunk's tokens, as chat or completions give them."""
    found = choice.get("logprobs") or {}
    content = found.get("content")
    if isinstance(content, list):
        return [_number(one.get("logprob")) for one in content]
    return [_number(one) for one in found.get("token_logprobs") or []]
