"""OpenAI's chat completions over a `Service`: thoughts as reasoning, the answer as content."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from protocol.http.errors import Refusal, error_body
from protocol.http.openai.common_fields import (
    UNSUPPORTED,
    CommonRequest,
    EmptyList,
    EmptyObject,
    No,
    Nothing,
    StrictModel,
    TextFormat,
    TurnFields,
    Zero,
    read_turns,
)
from protocol.http.openai.run_response import BodyWriter, sse
from protocol.http.openai.thoughts import BranchFocus, LabelledText
from protocol.http.runs import texts_by_branch
from protocol.http.service import BranchEvent, ModelVariant, ReasoningRequest, ReasoningResult


class ChatStreamOptions(StrictModel):
    include_usage: bool | None = None
    include_obfuscation: No = None


class ChatRequest(CommonRequest):
    """The body of ``POST /v1/chat/completions``."""

    messages: list[TurnFields] = Field(min_length=1, max_length=10_000)
    """The question is the last message, the user's; branches do not see those before it."""
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    """The same seed gives the same tokens; without one it is 0."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The most that all branches together may write, hidden tokens included."""
    max_tokens: int | None = Field(default=None, ge=1)
    """The older name of the same."""
    stream_options: ChatStreamOptions | None = None
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

    def request(self) -> tuple[ReasoningRequest, tuple[str, ...]]:
        turns, unread = read_turns(self.messages, "messages")
        budget = self.max_completion_tokens or self.max_tokens
        return self.asking(turns, budget, self.seed), unread


class ChatWriter(BodyWriter[ChatRequest]):
    """A run as chunks of a chat completion, or as one completion."""

    def __init__(self, asked: ChatRequest, ignored: tuple[str, ...]) -> None:
        super().__init__(asked, ignored)
        self._focus = BranchFocus()
        self._texts: dict[str, str] = {}
        self._id = f"chatcmpl-{uuid.uuid4().hex}"

    @property
    def waiting(self) -> bool:
        """See `BodyWriter.waiting`."""
        return self._focus.waiting

    def head(self) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[bytes]:
        if not self._asked.stream:
            for branch, text in texts_by_branch(events).items():
                self._texts[branch] = self._texts.get(branch, "") + text
        elif self._asked.x_reason.interleave:
            for branch, text in texts_by_branch(events).items():
                yield self._thought(LabelledText(branch, text, False))
        else:
            yield from map(self._thought, self._focus.feed(events, now))

    def end(self, result: ReasoningResult, dropped: int) -> Iterator[bytes]:
        yield from map(self._thought, self._focus.flush())
        said = {"refusal": result.no_answer} if result.text is None else {"content": result.text}
        yield self._chunk(said)
        details = result.details(dropped, self._ignored)
        yield self._chunk({}, finish=_finish_reason(result), x_reason=details)
        options = self._asked.stream_options
        if options is not None and options.include_usage:
            yield sse(self._object("chat.completion.chunk", [], usage=_usage(result)))
        yield sse("[DONE]")

    def failed(self, problem: Refusal) -> Iterator[bytes]:
        yield sse(error_body(problem))

    def whole(self, result: ReasoningResult) -> dict[str, Any]:
        thoughts = "\n\n".join(f"[{branch}] {text}" for branch, text in self._texts.items())
        message = {
            "role": "assistant",
            "content": result.text or "",
            "refusal": result.no_answer if result.text is None else None,
            "reasoning": thoughts,
            "reasoning_content": thoughts,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish_reason(result),
        }
        return self._object(
            "chat.completion",
            [choice],
            usage=_usage(result),
            x_reason=result.details(ignored=self._ignored),
        )

    def _thought(self, thought: LabelledText) -> bytes:
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
        shared = {"id": self._id, "created": self._created, "model": self._asked.model}
        return {**shared, "object": kind, "choices": choices, **more}


def _finish_reason(result: ReasoningResult) -> str:
    return "stop" if result.finished else "length"


def _usage(result: ReasoningResult) -> dict[str, Any]:
    """Tokens of every branch; all that are written are thoughts, from which the answer is read."""
    return {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "total_tokens": result.work_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": result.completion_tokens},
    }


def model_object(variant: ModelVariant) -> dict[str, Any]:
    """One entry of ``/v1/models``."""
    return {
        "id": variant.id,
        "object": "model",
        "created": variant.created,
        "owned_by": "reason",
        "name": variant.title,
        "description": variant.description,
    }
