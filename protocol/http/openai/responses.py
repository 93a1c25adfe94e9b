"""OpenAI's responses over a `Service`: one reasoning item per branch, then one message."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from protocol.http.errors import Refusal
from protocol.http.openai.common_fields import (
    UNSUPPORTED,
    CommonRequest,
    EmptyList,
    No,
    Nothing,
    StrictModel,
    TextFormat,
    TurnFields,
    read_turns,
)
from protocol.http.openai.run_response import BodyWriter, sse
from protocol.http.runs import texts_by_branch
from protocol.http.service import (
    BranchClosed,
    BranchEvent,
    ReasoningRequest,
    ReasoningResult,
)


class MessageItem(TurnFields):
    """A turn of the conversation."""

    type: Literal["message"] = "message"


class ReasoningItem(BaseModel):
    """A thought of an earlier response; it is not read."""

    type: Literal["reasoning"]


def _kind(item: object) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return "as-reasoning" if kind == "reasoning" else "as-message"


def _shape(value: object) -> str:
    return "as-text" if isinstance(value, str) else "as-items"


Item = Annotated[
    Annotated[MessageItem, Tag("as-message")] | Annotated[ReasoningItem, Tag("as-reasoning")],
    Discriminator(_kind),
]
Items = Annotated[list[Item], Field(min_length=1, max_length=10_000)]


class TextConfig(StrictModel):
    format: TextFormat | None = None
    verbosity: None = None


class ReasoningConfig(StrictModel):
    effort: None = None
    summary: None = None
    generate_summary: None = None


class ResponseStreamOptions(StrictModel):
    include_obfuscation: No = None


class ResponseRequest(CommonRequest):
    """The body of ``POST /v1/responses``."""

    input: Annotated[
        Annotated[str, Tag("as-text")] | Annotated[Items, Tag("as-items")], Discriminator(_shape)
    ]
    """The question, or items of which the last is the user's; branches see only that one."""
    instructions: str | None = None
    """They are not read, and are named under ``x_reason.ignored``."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """The most that all branches together may write, hidden tokens included."""
    stream_options: ResponseStreamOptions | None = None
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

    def request(self) -> tuple[ReasoningRequest, tuple[str, ...]]:
        items = (
            [MessageItem(role="user", content=self.input)]
            if isinstance(self.input, str)
            else [item if isinstance(item, MessageItem) else None for item in self.input]
        )
        turns, unread = read_turns(items, "input")
        ignored = ("instructions",) if self.instructions else ()
        return self.asking(turns, self.max_output_tokens), ignored + unread


class _BranchItem:
    """The reasoning item of one branch, as far as it is written."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = f"rs_{uuid.uuid4().hex}"
        self.where = {"item_id": self.id, "output_index": index, "content_index": 0}
        self.text = ""
        self.open = True

    def item(self, status: str) -> dict[str, Any]:
        part = [_thought(self.text)] if self.text else []
        return {
            "id": self.id,
            "type": "reasoning",
            "summary": [],
            "content": part,
            "status": status,
        }


class ResponseWriter(BodyWriter[ResponseRequest]):
    """A run as events of a response, or as one response."""

    def __init__(self, asked: ResponseRequest, ignored: tuple[str, ...]) -> None:
        super().__init__(asked, ignored)
        self._id = f"resp_{uuid.uuid4().hex}"
        self._branches: dict[str, _BranchItem] = {}
        self._items: list[dict[str, Any]] = []
        self._number = -1

    def head(self) -> Iterator[bytes]:
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self._response("in_progress"))

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[bytes]:
        held = list(events)
        for name, text in texts_by_branch(held).items():
            yield from self._thought(name, text)
        for event in held:
            if isinstance(event, BranchClosed) and event.branch in self._branches:
                done = "completed" if event.state == "succeeded" else "incomplete"
                yield from self._close(event.branch, done)

    def end(self, result: ReasoningResult, dropped: int) -> Iterator[bytes]:
        yield from self._close_all()
        yield from self._message(result)
        response = self._finished(result, dropped)
        yield self._event(f"response.{response['status']}", response=response)

    def failed(self, problem: Refusal) -> Iterator[bytes]:
        yield from self._close_all()
        error = {"code": "server_error", "message": str(problem)}
        yield self._event("response.failed", response=self._response("failed", error=error))

    def whole(self, result: ReasoningResult) -> dict[str, Any]:
        for _ in (*self._close_all(), *self._message(result)):
            pass
        return self._finished(result, 0)

    def _thought(self, name: str, text: str) -> Iterator[bytes]:
        branch = self._branches.get(name)
        if branch is None:
            branch = self._branches[name] = _BranchItem(len(self._items))
            item = branch.item("in_progress")
            self._items.append(item)
            yield self._item("added", branch.index, item, x_reason={"branch": name})
            yield self._event("response.content_part.added", **branch.where, part=_thought(""))
        branch.text += text
        yield self._event(
            "response.reasoning_text.delta",
            **branch.where,
            delta=text,
            x_reason={"branch": name},
        )

    def _close(self, name: str, status: str) -> Iterator[bytes]:
        branch = self._branches[name]
        branch.open = False
        item = {**branch.item(status), "x_reason": {"branch": name}}
        self._items[branch.index] = item
        yield self._event("response.reasoning_text.done", **branch.where, text=branch.text)
        part = _thought(branch.text)
        yield self._event("response.content_part.done", **branch.where, part=part)
        yield self._item("done", branch.index, item)

    def _close_all(self) -> Iterator[bytes]:
        for name, branch in self._branches.items():
            if branch.open:
                yield from self._close(name, "incomplete")

    def _message(self, result: ReasoningResult) -> Iterator[bytes]:
        index, id = len(self._items), f"msg_{uuid.uuid4().hex}"
        where = {"item_id": id, "output_index": index, "content_index": 0}
        message = {"id": id, "type": "message", "role": "assistant", "content": []}
        yield self._item("added", index, {**message, "status": "in_progress"})
        text = result.no_answer if result.text is None else result.text
        kind, field = ("refusal", "refusal") if result.text is None else ("output_text", "text")
        more: dict[str, Any] = {} if result.text is None else {"logprobs": []}
        empty = {"type": kind, field: "", **({"annotations": []} if more else {}), **more}
        yield self._event("response.content_part.added", **where, part=empty)
        yield self._event(f"response.{kind}.delta", **where, delta=text, **more)
        yield self._event(f"response.{kind}.done", **where, **{field: text}, **more)
        part = {**empty, field: text}
        yield self._event("response.content_part.done", **where, part=part)
        item = {**message, "content": [part], "status": "completed"}
        self._items.append(item)
        yield self._item("done", index, item)

    def _finished(self, result: ReasoningResult, dropped: int) -> dict[str, Any]:
        finished = result.finished
        return self._response(
            "completed" if finished else "incomplete",
            completed_at=int(time.time()) if finished else None,
            incomplete_details=None if finished else {"reason": "max_output_tokens"},
            usage={
                "input_tokens": result.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": result.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": result.completion_tokens},
                "total_tokens": result.work_tokens,
            },
            x_reason=result.details(dropped, self._ignored),
        )

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        asked = self._asked
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": asked.model,
            "output": list(self._items),
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
            **more,
        }

    def _item(self, what: str, index: int, item: dict[str, Any], **more: Any) -> bytes:
        kind = f"response.output_item.{what}"
        return self._event(kind, output_index=index, item=item, **more)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return sse({"type": kind, "sequence_number": self._number, **fields}, kind)


def _thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}
