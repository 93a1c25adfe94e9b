"""OpenAI's responses over a `Service`: one reasoning item per branch, then one message."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Discriminator, Field, Tag
from starlette.requests import Request
from starlette.responses import Response

from protocol.http.errors import Refusal
from protocol.http.openai.chat import extension, no_answer
from protocol.http.openai.exchange import Desk, Exchange, read_body
from protocol.http.openai.fields import (
    UNSUPPORTED,
    EmptyList,
    Message,
    No,
    Nothing,
    Shared,
    Strict,
    TextFormat,
    last_question,
    parse,
)
from protocol.http.openai.stream import merged, sse
from protocol.http.service import Answer, BranchClosed, BranchEvent


class InputMessage(Message):
    """A turn of the conversation."""

    type: Literal["message"] = "message"


class InputReasoning(BaseModel):
    """A thought of an earlier response; it is not read."""

    type: Literal["reasoning"]
    role: ClassVar[str] = "reasoning"
    text: ClassVar[str] = ""


def _kind(item: object) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return "as-reasoning" if kind == "reasoning" else "as-message"


def _shape(value: object) -> str:
    return "as-text" if isinstance(value, str) else "as-items"


Item = Annotated[
    Annotated[InputMessage, Tag("as-message")] | Annotated[InputReasoning, Tag("as-reasoning")],
    Discriminator(_kind),
]
Items = Annotated[list[Item], Field(min_length=1, max_length=10_000)]


class TextConfig(Strict):
    format: TextFormat | None = None
    verbosity: None = None


class ReasoningConfig(Strict):
    effort: None = None
    summary: None = None
    generate_summary: None = None


class StreamOptions(Strict):
    include_obfuscation: No = None


class ResponseRequest(Shared):
    """The body of ``POST /v1/responses``."""

    input: Annotated[
        Annotated[str, Tag("as-text")] | Annotated[Items, Tag("as-items")], Discriminator(_shape)
    ]
    """The question, or items of which the last is the user's; branches see that one alone."""
    instructions: str | None = None
    """Is not read, and named under ``x_reason.ignored``."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """The most that all branches together may write, hidden tokens included."""
    stream_options: StreamOptions | None = None
    text: Annotated[TextConfig | None, UNSUPPORTED] = None
    reasoning: Annotated[ReasoningConfig | None, UNSUPPORTED] = None
    truncation: Annotated[Literal["disabled"] | None, UNSUPPORTED] = None
    include: EmptyList = None
    background: No = None
    background_options: Nothing = None
    context_management: EmptyList = None
    conversation: Nothing = None
    previous_response_id: Nothing = None
    prompt: Nothing = None
    max_tool_calls: Nothing = None
    image: Nothing = None
    access_programs: Nothing = None


class _Branch:
    """One branch's reasoning item, as far as it is."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = f"rs_{uuid.uuid4().hex}"
        self.text = ""
        self.open = True

    def item(self, status: str) -> dict[str, Any]:
        part = [{"type": "reasoning_text", "text": self.text}] if self.text else []
        return {
            "id": self.id,
            "type": "reasoning",
            "summary": [],
            "content": part,
            "status": status,
        }


class ResponseWriter:
    """A run as events of a response, or as one response."""

    waiting = False

    def __init__(self, request: ResponseRequest, ignored: tuple[str, ...]) -> None:
        self._request = request
        self._ignored = ignored
        self._id = f"resp_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._branches: dict[str, _Branch] = {}
        self._items: list[dict[str, Any]] = []
        self._number = -1

    def head(self) -> Iterator[bytes]:
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self._response("in_progress"))

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[bytes]:
        held = list(events)
        for name, text in merged(held).items():
            yield from self._thought(name, text)
        for event in held:
            if isinstance(event, BranchClosed) and event.branch in self._branches:
                done = "completed" if event.state == "succeeded" else "incomplete"
                yield from self._close(event.branch, done)

    def end(self, answer: Answer, dropped: int) -> Iterator[bytes]:
        yield from self._close_all("incomplete")
        yield from self._message(answer)
        response = self._finished(answer, dropped)
        yield self._event(f"response.{response['status']}", response=response)

    def failed(self, problem: Refusal) -> Iterator[bytes]:
        yield from self._close_all("incomplete")
        error = {"code": "server_error", "message": str(problem)}
        yield self._event("response.failed", response=self._response("failed", error=error))

    def whole(self, answer: Answer) -> dict[str, Any]:
        for _ in (*self._close_all("incomplete"), *self._message(answer)):
            pass
        return self._finished(answer, 0)

    def _thought(self, name: str, text: str) -> Iterator[bytes]:
        branch = self._branches.get(name)
        if branch is None:
            branch = self._branches[name] = _Branch(len(self._items))
            self._items.append(branch.item("in_progress"))
            yield self._event(
                "response.output_item.added",
                output_index=branch.index,
                item=branch.item("in_progress"),
                x_reason={"branch": name},
            )
            yield self._part("response.content_part.added", branch.index, branch.id, _thought(""))
        branch.text += text
        yield self._event(
            "response.reasoning_text.delta",
            item_id=branch.id,
            output_index=branch.index,
            content_index=0,
            delta=text,
            x_reason={"branch": name},
        )

    def _close(self, name: str, status: str) -> Iterator[bytes]:
        branch = self._branches[name]
        branch.open = False
        item = {**branch.item(status), "x_reason": {"branch": name}}
        self._items[branch.index] = item
        where = {"item_id": branch.id, "output_index": branch.index, "content_index": 0}
        yield self._event("response.reasoning_text.done", **where, text=branch.text)
        part = _thought(branch.text)
        yield self._part("response.content_part.done", branch.index, branch.id, part)
        yield self._event("response.output_item.done", output_index=branch.index, item=item)

    def _close_all(self, status: str) -> Iterator[bytes]:
        for name, branch in self._branches.items():
            if branch.open:
                yield from self._close(name, status)

    def _message(self, answer: Answer) -> Iterator[bytes]:
        index, id = len(self._items), f"msg_{uuid.uuid4().hex}"
        where = {"item_id": id, "output_index": index, "content_index": 0}
        more: dict[str, Any]
        message = {"id": id, "type": "message", "role": "assistant", "content": []}
        yield self._event(
            "response.output_item.added",
            output_index=index,
            item={**message, "status": "in_progress"},
        )
        if answer.text is None:
            words = no_answer(answer)
            part, empty = {"type": "refusal", "refusal": words}, {"type": "refusal", "refusal": ""}
            name, more = "response.refusal", {}
            done: dict[str, Any] = {"refusal": words}
        else:
            words = answer.text
            part, empty = _output(words), _output("")
            name, more = "response.output_text", {"logprobs": []}
            done = {"text": words, **more}
        yield self._part("response.content_part.added", index, id, empty)
        yield self._event(f"{name}.delta", **where, delta=words, **more)
        yield self._event(f"{name}.done", **where, **done)
        yield self._part("response.content_part.done", index, id, part)
        item = {**message, "content": [part], "status": "completed"}
        self._items.append(item)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _finished(self, answer: Answer, dropped: int) -> dict[str, Any]:
        finished = answer.status == "finished"
        return self._response(
            "completed" if finished else "incomplete",
            completed_at=int(time.time()) if finished else None,
            incomplete_details=None if finished else {"reason": "max_output_tokens"},
            usage={
                "input_tokens": answer.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": answer.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": answer.completion_tokens},
                "total_tokens": answer.work_tokens,
            },
            x_reason=extension(answer, dropped, self._ignored),
        )

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        request = self._request
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": request.model,
            "output": list(self._items),
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {},
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": request.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
            **more,
        }

    def _part(self, kind: str, index: int, id: str, part: dict[str, Any]) -> bytes:
        return self._event(kind, item_id=id, output_index=index, content_index=0, part=part)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return sse({"type": kind, "sequence_number": self._number, **fields}, kind)


def _thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}


def _output(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def responses(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of ``POST /v1/responses``."""

    async def endpoint(request: Request) -> Response:
        asked = parse(ResponseRequest, await read_body(request))
        text, ignored = _question(asked)
        question = desk.check(asked.question(text, asked.max_output_tokens))
        writer = ResponseWriter(asked, ignored)
        return Exchange(desk, question, writer, stream=asked.stream is True, endpoint="responses")

    return endpoint


def _question(asked: ResponseRequest) -> tuple[str, tuple[str, ...]]:
    """The last message's text, and the names of what is not read."""
    ignored = ("instructions",) if asked.instructions else ()
    if isinstance(asked.input, str):
        return asked.input, ignored
    text, earlier = last_question(asked.input, "input")
    return text, ignored + earlier
