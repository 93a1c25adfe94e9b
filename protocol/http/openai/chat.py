"""OpenAI's chat completions over a `Service`: thoughts as reasoning, the answer as content."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from protocol.http.errors import Refusal, shape
from protocol.http.openai.exchange import Desk, Exchange, read_body
from protocol.http.openai.fields import (
    UNSUPPORTED,
    EmptyList,
    EmptyObject,
    Message,
    No,
    Nothing,
    Shared,
    Strict,
    TextFormat,
    Zero,
    last_question,
    parse,
)
from protocol.http.openai.stream import Focus, Thought, merged, sse
from protocol.http.service import Answer, BranchEvent, Variant


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: No = None


class ChatRequest(Shared):
    """The body of ``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1, max_length=10_000)
    """The question is the last message, the user's; branches see nothing of those before it."""
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    """The same seed gives the same tokens; without one it is 0."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The most that all branches together may write, hidden tokens included."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The older name of the same."""
    stream_options: StreamOptions | None = None
    n: Annotated[Literal[1] | None, UNSUPPORTED] = None
    response_format: Annotated[TextFormat | None, UNSUPPORTED] = None
    modalities: Annotated[list[Literal["text"]] | None, UNSUPPORTED] = None
    logprobs: No = None
    frequency_penalty: Zero = None
    presence_penalty: Zero = None
    logit_bias: EmptyObject = None
    functions: EmptyList = None
    stop: EmptyList = None
    audio: Nothing = None
    function_call: Nothing = None
    prediction: Nothing = None
    reasoning_effort: Nothing = None
    verbosity: Nothing = None
    web_search_options: Nothing = None


def extension(answer: Answer, dropped: int, ignored: tuple[str, ...]) -> dict[str, Any]:
    """What OpenAI's responses have no field for."""
    return {
        "status": answer.status,
        "cut": answer.cut,
        "strategy": answer.strategy,
        "verified": answer.verified,
        "confidence": round(answer.confidence, 4),
        "votes": dict(answer.votes),
        "branches": answer.branches,
        "prompt_tokens": answer.prompt_tokens,
        "work_tokens": answer.work_tokens,
        "span_tokens": answer.span_tokens,
        "wall_s": round(answer.wall_s, 4),
        "dropped_characters": dropped,
        "ignored": list(ignored),
    }


def usage(answer: Answer) -> dict[str, Any]:
    """Tokens of every branch; all that are written are thoughts, from which the answer is read."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.work_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.completion_tokens},
    }


def no_answer(answer: Answer) -> str:
    """Words for a run that found nothing."""
    ended = {
        "finished": "ended without one; try another variant or a larger n",
        "timed-out": "were stopped at the time limit; raise x_reason.timeout",
        "interrupted": "were stopped",
    }[answer.status]
    if answer.cut:
        ended = "were stopped at max_completion_tokens; raise it"
    return f"No answer was found: {answer.branches} branches {ended}."


def unfinished(answer: Answer) -> bool:
    return answer.status != "finished"


class ChatWriter:
    """A run as chunks of a chat completion, or as one completion."""

    def __init__(self, request: ChatRequest, ignored: tuple[str, ...]) -> None:
        self._request = request
        self._ignored = ignored
        self._focus = Focus()
        self._texts: dict[str, str] = {}
        self._shared = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": request.model,
        }
        options = request.stream_options
        self._with_usage = options is not None and options.include_usage is True

    @property
    def waiting(self) -> bool:
        return self._focus.waiting

    def head(self) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[bytes]:
        if self._request.x_reason.interleave:
            yield from self._interleaved(events)
        elif self._request.stream:
            for thought in self._focus.feed(events, now):
                yield self._thought(thought)
        else:
            for branch, text in merged(events).items():
                self._texts[branch] = self._texts.get(branch, "") + text

    def end(self, answer: Answer, dropped: int) -> Iterator[bytes]:
        for thought in self._focus.flush():
            yield self._thought(thought)
        if answer.text is None:
            yield self._chunk({"refusal": no_answer(answer)})
        else:
            yield self._chunk({"content": answer.text})
        found = extension(answer, dropped, self._ignored)
        yield self._chunk({}, finish=_finish(answer), x_reason=found)
        if self._with_usage:
            yield sse(self._object("chat.completion.chunk", [], usage=usage(answer)))
        yield sse("[DONE]")

    def failed(self, problem: Refusal) -> Iterator[bytes]:
        yield sse(shape(problem))

    def whole(self, answer: Answer) -> dict[str, Any]:
        thoughts = "\n\n".join(f"[{branch}] {text}" for branch, text in self._texts.items())
        message = {
            "role": "assistant",
            "content": answer.text or "",
            "refusal": no_answer(answer) if answer.text is None else None,
            "reasoning": thoughts,
            "reasoning_content": thoughts,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish(answer),
        }
        return self._object(
            "chat.completion",
            [choice],
            usage=usage(answer),
            x_reason=extension(answer, 0, self._ignored),
        )

    def _interleaved(self, events: Iterable[BranchEvent]) -> Iterator[bytes]:
        for branch, text in merged(events).items():
            yield self._thought(Thought(branch, text, False))

    def _thought(self, thought: Thought) -> bytes:
        text = thought.text
        if thought.label:
            gap = "\n\n" if self._texts else ""
            text = f"{gap}[{thought.branch}] {text.lstrip()}"
            self._texts[thought.branch] = ""
        delta = {"reasoning": text, "reasoning_content": text}
        return self._chunk(delta, x_reason={"branch": thought.branch})

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse(self._object("chat.completion.chunk", [choice], **more))

    def _object(self, kind: str, choices: list[Any], **more: Any) -> dict[str, Any]:
        return {**self._shared, "object": kind, "choices": choices, **more}


def _finish(answer: Answer) -> str:
    return "length" if unfinished(answer) else "stop"


def chat(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of ``POST /v1/chat/completions``."""

    async def endpoint(request: Request) -> Response:
        asked = parse(ChatRequest, await read_body(request))
        text, ignored = last_question(asked.messages, "messages")
        budget = asked.max_completion_tokens or asked.max_tokens
        question = desk.check(asked.question(text, budget, asked.seed))
        writer = ChatWriter(asked, ignored)
        return Exchange(desk, question, writer, stream=asked.stream is True, endpoint="chat")

    return endpoint


def model_object(variant: Variant) -> dict[str, Any]:
    """One entry of ``/v1/models``."""
    return {
        "id": variant.id,
        "object": "model",
        "created": variant.created,
        "owned_by": "reason",
        "name": variant.skill,
        "description": variant.description,
    }
