"""OpenAI's chat completions over a `Service`: thoughts as reasoning, the answer as content."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from protocol.http.contract.options import Effort, OutputForm, ToolOffer
from protocol.http.contract.results import ChosenAnswer, ReasoningResult
from protocol.http.errors import Refusal, error_body
from protocol.http.openai.common_fields import (
    UNSUPPORTED,
    CommonRequest,
    Count,
    EmptyList,
    FunctionChoice,
    NamedSchema,
    No,
    Nothing,
    ObjectForm,
    Seed,
    StrictModel,
    TextForm,
    known_tool,
)
from protocol.http.openai.messages import TurnFields, asked
from protocol.http.openai.run_response import BodyWriter, Interface, sse
from protocol.http.openai.thoughts import Narrator, Piece
from protocol.http.service import BranchEvent, ModelVariant, ReasoningRequest


class ChatStreamOptions(StrictModel):
    include_usage: bool | None = None
    include_obfuscation: No = None
    continuous_usage_stats: No = None


class ChatSchemaForm(StrictModel):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def form(self, field: str) -> OutputForm | None:
        return OutputForm(schema=self.json_schema.json_schema, field=field)


class OfferedFunction(StrictModel):
    """A function that branches may want called."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChatTool(StrictModel):
    type: Literal["function"]
    function: OfferedFunction


class ChatToolChoice(StrictModel):
    type: Literal["function"]
    function: FunctionChoice


class ChatRequest(CommonRequest):
    """The body of ``POST /v1/chat/completions``."""

    messages: list[TurnFields] = Field(min_length=1, max_length=10_000)
    """The whole conversation, which every branch sees."""
    seed: Seed = None
    """The same seed gives the same tokens."""
    max_completion_tokens: Count = None
    """The most that one branch may write, thoughts included."""
    max_tokens: Count = None
    """The older name of the same."""
    stream_options: ChatStreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=128)
    """How many distinct answers, the best first; there are fewer where branches agree."""
    response_format: (
        Annotated[TextForm | ObjectForm | ChatSchemaForm, Field(discriminator="type")] | None
    ) = None
    tools: list[ChatTool] | None = Field(default=None, max_length=512)
    tool_choice: Literal["none", "auto", "required"] | ChatToolChoice | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    reasoning_effort: Effort | None = None
    """How many branches, where neither the name nor x_reason says it."""
    modalities: Annotated[list[Literal["text"]] | None, UNSUPPORTED] = None
    logprobs: No = None
    store: bool | None = None
    """Chats are not stored, whatever it says."""
    verbosity: Annotated[Literal["medium"] | None, UNSUPPORTED] = None
    functions: EmptyList = None
    audio: Nothing = None
    function_call: Annotated[Literal["none", "auto"] | None, UNSUPPORTED] = None
    prediction: Nothing = None
    web_search_options: Nothing = None

    @property
    def seeded(self) -> int | None:
        return self.x_reason.seed if self.seed is None else self.seed

    def request(self) -> tuple[ReasoningRequest, tuple[str, ...]]:
        turns = (turn.turn(f"messages[{n}]") for n, turn in enumerate(self.messages))
        form = self.response_format
        request = self.asking(
            asked(turns, "messages"),
            form=None if form is None else form.form("response_format"),
            offer=self._offer(),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            answers=self.n or 1,
            logit_bias=self.logit_bias,
            effort=self.reasoning_effort,
        )
        return request, ("store",) if self.store else ()

    def _offer(self) -> ToolOffer | None:
        choice = self.tool_choice or "auto"
        offer = ToolOffer(
            tools=tuple(tool.model_dump(exclude_none=True) for tool in self.tools or ()),
            choice=choice if isinstance(choice, str) else choice.model_dump(),
            parallel=self.parallel_tool_calls,
        )
        return known_tool(offer) if offer.tools or choice not in ("auto", "none") else None


class ChatWriter(BodyWriter[ChatRequest]):
    """A run as chunks of a chat completion, or as one completion."""

    def __init__(self, asked: ChatRequest, ignored: tuple[str, ...]) -> None:
        super().__init__(asked, ignored)
        extra = asked.x_reason
        self._narrator = Narrator(extra.thoughts, interleave=extra.interleave)
        self._thinks = False
        self._id = f"chatcmpl-{uuid.uuid4().hex}"

    @property
    def waiting(self) -> bool:
        """See `BodyWriter.waiting`."""
        return self._narrator.waiting

    def head(self) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[bytes]:
        yield from map(self._told, self._narrator.feed(events, now))

    def end(self, result: ReasoningResult, dropped: int) -> Iterator[bytes]:
        yield from map(self._told, self._narrator.end(result))
        for index, answer in enumerate(result.answers):
            if index and answer.text:
                yield self._chunk({"role": "assistant", "content": answer.text}, index=index)
            yield from self._calls(answer, index)
            details = {"x_reason": result.details(dropped, self._ignored)} if index == 0 else {}
            yield self._chunk({}, index=index, finish=_finish_reason(answer, result), **details)
        options = self._asked.stream_options
        if options is not None and options.include_usage:
            yield sse(self._object("chat.completion.chunk", [], usage=_usage(result)))
        yield sse("[DONE]")

    def failed(self, problem: Refusal) -> Iterator[bytes]:
        yield sse(error_body(problem))

    def whole(self, result: ReasoningResult) -> dict[str, Any]:
        thoughts = self._narrator.thoughts(result)
        choices = []
        for index, answer in enumerate(result.answers):
            said = thoughts if index == 0 else answer.thoughts
            choices.append(_choice(answer, index, said, _finish_reason(answer, result)))
        return self._object(
            "chat.completion",
            choices,
            usage=_usage(result),
            x_reason=result.details(ignored=self._ignored),
        )

    def _told(self, piece: Piece) -> bytes:
        if piece.branch is None:
            return self._chunk({"content": piece.text})
        text = piece.text
        if piece.label:
            gap = "\n\n" if self._thinks else ""
            text = f"{gap}[{piece.branch}] {text.lstrip()}"
        self._thinks = True
        delta = {"reasoning": text, "reasoning_content": text}
        return self._chunk(delta, x_reason={"branch": piece.branch})

    def _calls(self, answer: ChosenAnswer, index: int) -> Iterator[bytes]:
        for number, call in enumerate(answer.calls):
            function = {"name": call.name, "arguments": ""}
            named = {"index": number, "id": call.id, "type": "function", "function": function}
            yield self._chunk({"tool_calls": [named]}, index=index)
            given = {"index": number, "function": {"arguments": call.arguments}}
            yield self._chunk({"tool_calls": [given]}, index=index)

    def _chunk(
        self, delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **more: Any
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse(self._object("chat.completion.chunk", [choice], **more))

    def _object(self, kind: str, choices: list[Any], **more: Any) -> dict[str, Any]:
        shared = {"id": self._id, "created": self._created, "model": self._asked.model}
        return {**shared, "object": kind, "choices": choices, **more}


class ChatInterface(Interface[ChatRequest]):
    """``/v1/chat/completions``."""

    name = "chat"
    kind = ChatRequest

    def writer(self, asked: ChatRequest, ignored: tuple[str, ...], caller: str) -> ChatWriter:
        return ChatWriter(asked, ignored)


def _choice(answer: ChosenAnswer, index: int, thoughts: str, finish: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text if answer.text or not answer.calls else None,
        "refusal": None,
        "reasoning": thoughts or None,
        "reasoning_content": thoughts or None,
    }
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}


def _finish_reason(answer: ChosenAnswer, result: ReasoningResult) -> str:
    if answer.cut or not result.finished:
        return "length"
    return "tool_calls" if answer.calls else "stop"


def _usage(result: ReasoningResult) -> dict[str, Any]:
    """Tokens of every branch; all but those of the answer are thoughts."""
    said = sum(answer.tokens for answer in result.answers)
    return {
        "prompt_tokens": result.billed_tokens,
        "completion_tokens": result.completion_tokens,
        "total_tokens": result.billed_tokens + result.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": result.cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": max(0, result.completion_tokens - said),
        },
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
