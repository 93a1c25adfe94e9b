"""Anthropic's messages over a `Service`, through the same seam as OpenAI's interfaces."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from protocol.http.contract.conversation import ConversationTurn, FunctionCall
from protocol.http.contract.options import ToolOffer
from protocol.http.contract.results import ReasoningResult
from protocol.http.errors import Refusal
from protocol.http.openai.common_fields import CommonRequest, StrictModel, known_tool
from protocol.http.openai.messages import asked
from protocol.http.openai.run_response import BodyWriter, Interface, sse
from protocol.http.openai.thoughts import Narrator
from protocol.http.service import BranchEvent, ReasoningRequest


class ContentBlock(BaseModel):
    """A part of a message, of any kind."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(min_length=1, max_length=64)

    def get(self, name: str) -> Any:
        return (self.model_extra or {}).get(name)


def _shape(content: object) -> str:
    return "as-text" if isinstance(content, str) else "as-blocks"


Blocks = Annotated[
    Annotated[str, Tag("as-text")] | Annotated[list[ContentBlock], Tag("as-blocks")],
    Discriminator(_shape),
]


class MessageFields(BaseModel):
    """One message; an assistant's thoughts and calls, and tools' answers, are blocks of it."""

    role: Literal["user", "assistant", "system"]
    content: Blocks

    def turns(self, place: str) -> Iterator[ConversationTurn]:
        """The turns that it is: each answer of a tool is one of its own."""
        if isinstance(self.content, str):
            yield ConversationTurn(self.role, self.content, place=place)
            return
        rest = []
        for block in self.content:
            if block.type == "tool_result":
                id = str(block.get("tool_use_id"))
                yield ConversationTurn("tool", _text(block.get("content")), call_id=id, place=place)
            else:
                rest.append(block)
        if rest:
            yield self._turn(rest, place)

    def _turn(self, blocks: list[ContentBlock], place: str) -> ConversationTurn:
        calls = tuple(
            FunctionCall(
                name=str(one.get("name")), arguments=json.dumps(one.get("input")), id=one.get("id")
            )
            for one in blocks
            if one.type == "tool_use"
        )
        known = ("text", "tool_use", "thinking", "redacted_thinking")
        others = any(one.type not in known for one in blocks)
        return ConversationTurn(
            self.role,
            "".join(str(one.get("text")) for one in blocks if one.type == "text"),
            parts=tuple(map(_as_chat, blocks)) if others else (),
            thoughts="".join(str(one.get("thinking")) for one in blocks if one.type == "thinking"),
            calls=calls,
            place=place,
        )


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(one.get("text", "")) for one in content if isinstance(one, dict))
    return content if isinstance(content, str) else ""


def _as_chat(block: ContentBlock) -> dict[str, Any]:
    source = block.get("source")
    if block.type == "image" and isinstance(source, dict):
        data = f"data:{source.get('media_type')};base64,{source.get('data')}"
        return {"type": "image_url", "image_url": {"url": source.get("url", data)}}
    return block.model_dump()


class AnthropicTool(BaseModel):
    """A tool that branches may want called."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    input_schema: dict[str, Any]

    def as_chat(self) -> dict[str, Any]:
        told = {"name": self.name, "parameters": self.input_schema}
        about = {"description": self.description} if self.description else {}
        return {"type": "function", "function": {**told, **about}}


class AnthropicChoice(StrictModel):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class AnthropicRequest(CommonRequest):
    """The body of ``POST /v1/messages``."""

    messages: list[MessageFields] = Field(min_length=1, max_length=10_000)
    system: Blocks | None = None
    max_tokens: int = Field(ge=1)
    """The most that one branch may write, thoughts included."""
    stop_sequences: list[str] | None = None
    tools: list[AnthropicTool] | None = Field(default=None, max_length=512)
    tool_choice: AnthropicChoice | None = None
    thinking: dict[str, Any] | None = None
    """Whether a model thinks is its template's matter; this is not read."""

    def request(self) -> tuple[ReasoningRequest, tuple[str, ...]]:
        system = self.system
        told = system if isinstance(system, str) else _text([b.model_dump() for b in system or ()])
        turns = [ConversationTurn("system", told, place="system")] if told else []
        for number, message in enumerate(self.messages):
            turns += message.turns(f"messages[{number}]")
        request = self.model_copy(update={"stop": self.stop_sequences}).asking(
            asked(turns, "messages"), offer=self._offer(), max_tokens=self.max_tokens
        )
        return request, ("thinking",) if self.thinking else ()

    def _offer(self) -> ToolOffer | None:
        choice = self.tool_choice or AnthropicChoice(type="auto")
        if not self.tools:
            return None
        named = {"type": "function", "function": {"name": choice.name or ""}}
        words = {"auto": "auto", "any": "required", "none": "none"}
        tools = tuple(tool.as_chat() for tool in self.tools)
        parallel = False if choice.disable_parallel_tool_use else None
        chosen = words.get(choice.type, named)
        return known_tool(ToolOffer(tools=tools, choice=chosen, parallel=parallel))


class AnthropicWriter(BodyWriter[AnthropicRequest]):
    """A run as events of a message, or as one message."""

    def __init__(self, asked: AnthropicRequest, ignored: tuple[str, ...]) -> None:
        super().__init__(asked, ignored)
        extra = asked.x_reason
        self._narrator = Narrator(extra.thoughts, interleave=extra.interleave)
        self._id = f"msg_{uuid.uuid4().hex}"
        self._blocks: list[dict[str, Any]] = []
        self._open: str | None = None

    @property
    def waiting(self) -> bool:
        return self._narrator.waiting

    def head(self) -> Iterator[bytes]:
        usage = {"input_tokens": 0, "output_tokens": 0}
        message = self._message(usage, stop_reason=None)
        yield sse({"type": "message_start", "message": message}, "message_start")

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[bytes]:
        for piece in self._narrator.feed(events, now):
            yield from self._add(piece.branch, piece.text, piece.label)

    def end(self, result: ReasoningResult, dropped: int) -> Iterator[bytes]:
        for piece in self._narrator.end(result):
            yield from self._add(piece.branch, piece.text, piece.label)
        yield from self._close()
        for call in result.best.calls:
            yield from self._call(call)
        details = {"x_reason": result.details(dropped, self._ignored)}
        delta = {"stop_reason": _stop_reason(result), "stop_sequence": None}
        told = {"type": "message_delta", "delta": delta, "usage": _usage(result), **details}
        yield sse(told, "message_delta")
        yield sse({"type": "message_stop"}, "message_stop")

    def failed(self, problem: Refusal) -> Iterator[bytes]:
        error = {"type": "api_error", "message": str(problem)}
        yield sse({"type": "error", "error": error}, "error")

    def whole(self, result: ReasoningResult) -> dict[str, Any]:
        for _ in self.end(result, 0):
            pass
        message = self._message(_usage(result), stop_reason=_stop_reason(result))
        return {**message, "x_reason": result.details(ignored=self._ignored)}

    def _add(self, branch: str | None, text: str, label: bool) -> Iterator[bytes]:
        kind, field = ("text", "text") if branch is None else ("thinking", "thinking")
        if self._open != kind:
            yield from self._close()
            more = {} if branch is None else {"signature": ""}
            yield from self._begin(kind, {field: "", **more})
        block = self._blocks[-1]
        if label:
            text = ("\n\n" if block[field] else "") + f"[{branch}] {text.lstrip()}"
        block[field] += text
        yield self._delta({"type": f"{kind}_delta", field: text})

    def _call(self, call: FunctionCall) -> Iterator[bytes]:
        yield from self._begin("tool_use", {"id": call.id, "name": call.name, "input": {}})
        try:
            self._blocks[-1]["input"] = json.loads(call.arguments or "{}")
        except ValueError:
            self._blocks[-1]["input"] = {"arguments": call.arguments}
        yield self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        yield from self._close()

    def _begin(self, kind: str, fields: dict[str, Any]) -> Iterator[bytes]:
        self._open = kind
        block = {"type": kind, **fields}
        self._blocks.append(dict(block))
        told = {"type": "content_block_start", "index": len(self._blocks) - 1}
        yield sse({**told, "content_block": block}, "content_block_start")

    def _delta(self, delta: dict[str, Any]) -> bytes:
        index = len(self._blocks) - 1
        told = {"type": "content_block_delta", "index": index, "delta": delta}
        return sse(told, "content_block_delta")

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            self._open = None
            told = {"type": "content_block_stop", "index": len(self._blocks) - 1}
            yield sse(told, "content_block_stop")

    def _message(self, usage: dict[str, Any], *, stop_reason: str | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._asked.model,
            "content": self._blocks,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }


def _stop_reason(result: ReasoningResult) -> str:
    if result.best.cut or not result.finished:
        return "max_tokens"
    return "tool_use" if result.best.calls else "end_turn"


def _usage(result: ReasoningResult) -> dict[str, Any]:
    return {
        "input_tokens": result.billed_tokens - result.cached_tokens,
        "cache_read_input_tokens": result.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": result.completion_tokens,
    }


class AnthropicInterface(Interface[AnthropicRequest]):
    """``/v1/messages``."""

    name = "messages"
    kind = AnthropicRequest

    def writer(
        self, asked: AnthropicRequest, ignored: tuple[str, ...], caller: str
    ) -> AnthropicWriter:
        return AnthropicWriter(asked, ignored)
