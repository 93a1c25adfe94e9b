"""What a server's answer says: tokens, log-probabilities, and reasoning in whichever field."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from reasoning.backends.base import Token
from reasoning.backends.openai.event_stream import Event, Malformed
from reasoning.backends.prompted import confidence
from reasoning.backends.text_tokens import FILLER, size_of, text_token
from reasoning.values.conversation import ToolCall

OPEN, CLOSE = "<think>", "</think>"

ENDED = ("stop", "length", "tool_calls", "function_call", "eos", "eos_token", "end_turn")
CUT = ("length", "max_tokens", "max_output_tokens", "model_length", "token_limit")
WITHHELD = (
    *("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
    *("sensitive", "refusal", "guardrail_intervened"),
)
BROKEN_OFF = ("error", "abort", "aborted", "cancelled", "timeout", "insufficient_system_resource")
"""Reasons why an answer ended, in small letters; any other is a good end."""


class AnswerReader:
    """Reads one answer out of its events.

    Attributes:
        finish: Why it ended, in the server's words; None while it goes on, or where nobody says.
        usage: The server's last count.
        written: How many tokens were read; in text one for each event.
        size: How many of the model's tokens that is, in text about.
        complete: Whether the stream came to its proper end.
    """

    def __init__(self, *, in_text: bool, k: int) -> None:
        """``k`` is over how many of the likeliest tokens confidence is measured."""
        self.finish: str | None = None
        self.usage: ServerUsage | None = None
        self.written = 0
        self.size = 0.0
        self.complete = False
        self._told = 0
        self._in_text = in_text
        self._k = k
        self._thinks = False
        self._half = ""
        self._calls: dict[int, dict[str, str]] = {}

    def read(self, event: Event) -> list[Token]:
        """The tokens that an event brings.

        Raises:
            Malformed: it is no event of an answer.
        """
        try:
            self.usage = usage(event) or self.usage
            choice: dict[str, Any] = next(iter(event.get("choices") or ()), {})
            found = self._text_tokens(choice) if self._in_text else tokens(choice, self._k)
            finish = choice.get("finish_reason")
        except (AttributeError, TypeError, ValueError) as error:
            raise Malformed(f"sent a malformed event ({str(event)[:60]!r})") from error
        self.written += len(found)
        for one in found:
            self.size += size_of(one.token) if self._in_text else 1
        if finish or found:  # one that is said before the last token means nothing
            self.finish = str(finish) if finish else None
        return found

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the answer asks for, put together from their pieces."""
        return tuple(ToolCall(**call) for _, call in sorted(self._calls.items()) if call["name"])

    def _take_calls(self, choice: dict[str, Any]) -> bool:
        """Keep the pieces of calls that an event brings; False where there are none."""
        delta = choice.get("delta") or choice.get("message") or {}
        pieces = delta.get("tool_calls") or []
        for place, piece in enumerate(pieces):
            call = self._calls.setdefault(
                piece.get("index", place), {"id": "", "name": "", "arguments": ""}
            )
            function = piece.get("function") or {}
            call["id"] = call["id"] or piece.get("id") or ""
            call["name"] += function.get("name") or ""
            call["arguments"] += _arguments(function.get("arguments"))
        return bool(pieces)

    def _text_tokens(self, choice: dict[str, Any]) -> list[Token]:
        thought, said = text(choice)
        called = self._take_calls(choice)
        if thought and not self._thinks:
            thought, self._thinks = f"{OPEN}{thought}", True
        elif said and self._thinks and not thought:
            said, self._thinks = f"{CLOSE}{said}", False
        piece = f"{self._half}{thought}{said}"
        self._half = piece[-1:] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        piece = piece.removesuffix(self._half)
        if not piece:  # a piece of a call counts as a token without text
            return [Token(FILLER, math.nan)] if called else []
        if not piece.isascii():  # halves of characters, which JSON may hold, become whole
            piece = piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        logprobs = text_logprobs(choice)
        self._told += len(logprobs)
        return [Token(text_token(piece), sum(logprobs) if logprobs else math.nan)]

    @property
    def remainder(self) -> float:
        """The log-probability of the tokens in text that no event stands for.

        It is 0 where the events' own were of all tokens but the end, and else not known: NaN.
        """
        counted = None if self.usage is None else self.usage.completion
        whole = self.written if counted is None else counted
        return 0.0 if self._told and self._told >= whole - 1 else math.nan


def _arguments(found: Any) -> str:
    """A piece of a call's arguments: JSON text, or from some servers the value itself."""
    return found if isinstance(found, str) else json.dumps(found) if found else ""


@dataclass(frozen=True, kw_only=True)
class ServerUsage:
    """A server's own count of one request; None is what it does not say."""

    prompt: int | None
    completion: int | None
    cached: int | None


def usage(body: dict[str, Any]) -> ServerUsage | None:
    """The usage in a response or in a stream's last event."""
    found = body.get("usage")
    if not isinstance(found, dict):
        return None
    details = found.get("prompt_tokens_details") or {}
    return ServerUsage(
        prompt=_count(found.get("prompt_tokens")),
        completion=_count(found.get("completion_tokens")),
        cached=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


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
        if _count(token) is None:
            raise ValueError(f"{token!r} is no token")
        logprob = chosen[index] if index < len(chosen) else None
        top = tops[index] if index < len(tops) else None
        best = sorted((top or {}).values(), reverse=True)[:likeliest]
        out.append(Token(token, _number(logprob), None, confidence(best)))
    return out


def _number(logprob: float | None) -> float:
    return math.nan if logprob is None else float(logprob)


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
    content = delta.get("content") or delta.get("refusal")
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
