"""OpenAI's responses over a `Service`: one reasoning item per branch, then what was said."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from protocol.http.contract.conversation import ConversationTurn, FunctionCall
from protocol.http.contract.results import ReasoningResult
from protocol.http.errors import Refusal
from protocol.http.openai.response_items import ResponseRequest
from protocol.http.openai.run_response import BodyWriter, Interface, sse
from protocol.http.openai.stored import ResponseStore, StoredResponse
from protocol.http.openai.thoughts import Narrator
from protocol.http.service import BranchClosed, BranchEvent, ReasoningRequest


class _TextItem:
    """An item that is written piece by piece: a branch's thoughts, or the message."""

    def __init__(self, index: int, prefix: str) -> None:
        self.index = index
        self.id = f"{prefix}_{uuid.uuid4().hex}"
        self.where = {"item_id": self.id, "output_index": index, "content_index": 0}
        self.text = ""
        self.open = True

    def thoughts(self, status: str) -> dict[str, Any]:
        part = [_thought(self.text)] if self.text else []
        about = {"id": self.id, "type": "reasoning", "summary": []}
        return {**about, "content": part, "status": status}

    def message(self, status: str) -> dict[str, Any]:
        part = [_said(self.text)] if status != "in_progress" else []
        about = {"id": self.id, "type": "message", "role": "assistant"}
        return {**about, "content": part, "status": status}


class ResponseWriter(BodyWriter[ResponseRequest]):
    """A run as events of a response, or as one response.

    ``keep`` is called with a response that has ended, by its id.
    """

    def __init__(
        self,
        asked: ResponseRequest,
        ignored: tuple[str, ...],
        keep: Callable[[str, dict[str, Any], ReasoningResult], None],
    ) -> None:
        super().__init__(asked, ignored)
        self._keep = keep
        self._narrator = Narrator(asked.x_reason.thoughts, interleave=True)
        self._id = f"resp_{uuid.uuid4().hex}"
        self._branches: dict[str, _TextItem] = {}
        self._message: _TextItem | None = None
        self._items: list[dict[str, Any]] = []
        self._number = -1

    def head(self) -> Iterator[bytes]:
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=self._response("in_progress"))

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterator[bytes]:
        held = list(events)
        for piece in self._narrator.feed(held, now):
            yield from self._piece(piece.branch, piece.text)
        for event in held:
            if isinstance(event, BranchClosed) and event.branch in self._branches:
                done = "completed" if event.state == "succeeded" else "incomplete"
                yield from self._close(event.branch, done)

    def end(self, result: ReasoningResult, dropped: int) -> Iterator[bytes]:
        for piece in self._narrator.end(result):
            yield from self._piece(piece.branch, piece.text)
        yield from self._close_all()
        if self._message is None and not result.best.calls:
            yield from self._say("")
        yield from self._close_message("completed" if result.finished else "incomplete")
        for call in result.best.calls:
            yield from self._call(call)
        response = self._finished(result, dropped)
        self._keep(self._id, response, result)
        yield self._event(f"response.{response['status']}", response=response)

    def failed(self, problem: Refusal) -> Iterator[bytes]:
        yield from self._close_all()
        yield from self._close_message("incomplete")
        error = {"code": "server_error", "message": str(problem)}
        yield self._event("response.failed", response=self._response("failed", error=error))

    def whole(self, result: ReasoningResult) -> dict[str, Any]:
        for _ in self.end(result, 0):
            pass
        return self._finished(result, 0)

    def _piece(self, branch: str | None, text: str) -> Iterator[bytes]:
        if branch is None:
            yield from self._say(text)
        else:
            yield from self._think(branch, text)

    def _think(self, name: str, text: str) -> Iterator[bytes]:
        branch = self._branches.get(name)
        if branch is not None and not branch.open:
            return
        if branch is None:
            branch = self._branches[name] = _TextItem(len(self._items), "rs")
            item = branch.thoughts("in_progress")
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
        if not branch.open:
            return
        branch.open = False
        item = {**branch.thoughts(status), "x_reason": {"branch": name}}
        self._items[branch.index] = item
        yield self._event("response.reasoning_text.done", **branch.where, text=branch.text)
        part = _thought(branch.text)
        yield self._event("response.content_part.done", **branch.where, part=part)
        yield self._item("done", branch.index, item)

    def _close_all(self) -> Iterator[bytes]:
        for name in self._branches:
            yield from self._close(name, "incomplete")

    def _say(self, text: str) -> Iterator[bytes]:
        message = self._message
        if message is None:
            message = self._message = _TextItem(len(self._items), "msg")
            item = message.message("in_progress")
            self._items.append(item)
            yield self._item("added", message.index, item)
            yield self._event("response.content_part.added", **message.where, part=_said(""))
        message.text += text
        if text:
            kind = "response.output_text.delta"
            yield self._event(kind, **message.where, delta=text, logprobs=[])

    def _close_message(self, status: str) -> Iterator[bytes]:
        message = self._message
        if message is None:
            return
        item = self._items[message.index] = message.message(status)
        kind = "response.output_text.done"
        yield self._event(kind, **message.where, text=message.text, logprobs=[])
        yield self._event("response.content_part.done", **message.where, part=_said(message.text))
        yield self._item("done", message.index, item)

    def _call(self, call: FunctionCall) -> Iterator[bytes]:
        index, id = len(self._items), f"fc_{uuid.uuid4().hex}"
        about = {"id": id, "type": "function_call", "call_id": call.id, "name": call.name}
        begun = {**about, "arguments": "", "status": "in_progress"}
        yield self._item("added", index, begun)
        where = {"item_id": id, "output_index": index}
        kind = "response.function_call_arguments"
        yield self._event(f"{kind}.delta", **where, delta=call.arguments)
        yield self._event(f"{kind}.done", **where, name=call.name, arguments=call.arguments)
        item = {**about, "arguments": call.arguments, "status": "completed"}
        self._items.append(item)
        yield self._item("done", index, item)

    def _finished(self, result: ReasoningResult, dropped: int) -> dict[str, Any]:
        finished = result.finished and not result.best.cut
        return self._response(
            "completed" if finished else "incomplete",
            completed_at=int(time.time()) if finished else None,
            incomplete_details=None if finished else {"reason": "max_output_tokens"},
            usage={
                "input_tokens": result.billed_tokens,
                "input_tokens_details": {
                    "cached_tokens": result.cached_tokens,
                    "cache_write_tokens": 0,
                },
                "output_tokens": result.completion_tokens,
                "output_tokens_details": {
                    "reasoning_tokens": max(0, result.completion_tokens - result.best.tokens)
                },
                "total_tokens": result.billed_tokens + result.completion_tokens,
            },
            x_reason=result.details(dropped, self._ignored),
        )

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        asked = self._asked
        format = asked.text and asked.text.format
        choice = asked.tool_choice or "auto"
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
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": asked.previous_response_id,
            "store": asked.store is not False,
            "temperature": asked.temperature,
            "text": {"format": format.model_dump(by_alias=True) if format else {"type": "text"}},
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "tools": [tool.model_dump() for tool in asked.tools or ()],
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
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


def _said(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class ResponseInterface(Interface[ResponseRequest]):
    """``/v1/responses``, with the responses that are kept."""

    name = "responses"
    kind = ResponseRequest

    def __init__(self) -> None:
        self.store = ResponseStore()

    def read(self, asked: ResponseRequest, caller: str) -> tuple[ReasoningRequest, tuple[str, ...]]:
        return asked.going_on(self._history(asked, caller)), asked.unread

    def writer(
        self, asked: ResponseRequest, ignored: tuple[str, ...], caller: str
    ) -> ResponseWriter:
        history = self._history(asked, caller)

        def keep(id: str, body: dict[str, Any], result: ReasoningResult) -> None:
            best = result.best
            said = ConversationTurn(
                "assistant", best.text, thoughts=best.thoughts, calls=best.calls, place=id
            )
            turns = (*history, *asked.turns, said)
            if asked.store is not False:
                self.store.keep(id, StoredResponse(owner=caller, body=body, turns=turns))

        return ResponseWriter(asked, ignored, keep)

    def _history(self, asked: ResponseRequest, caller: str) -> tuple[ConversationTurn, ...]:
        id = asked.previous_response_id
        return () if id is None else self.store.find(id, caller, "previous_response_id").turns
