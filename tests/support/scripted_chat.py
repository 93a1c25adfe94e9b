"""A chat server that answers as it is told, on a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from tests.support.completions_server import Receive, Scope, Send, read, served, start

Refusal = tuple[int, str] | tuple[int, str, dict[str, str]]
BOXED = "so it is \\boxed{42}"
WHOLE = "One is \\boxed{1}."
"""What is answered as a whole, probes included."""


@dataclass(kw_only=True)
class Script:
    """One streamed answer.

    Attributes:
        chunks: Its text, event by event.
        finish: The reason at its end; None for none.
        unfinished: The reason beside all other events.
        delay_s: Between the role and the first text.
        pause_s: Behind the last text, before the rest.
        raw: Bytes instead of all events.
        ends: Whether the stream comes to its end; otherwise it stays open.
        done: Whether ``[DONE]`` is its last event.
        usage: Sent behind the reason; None for none.
    """

    chunks: Sequence[str] = (BOXED,)
    finish: str | None = "stop"
    unfinished: str | None = None
    delay_s: float = 0.0
    pause_s: float = 0.0
    raw: bytes | None = None
    ends: bool = True
    done: bool = True
    usage: dict[str, Any] | None = field(default_factory=lambda: {"completion_tokens": 2})

    def events(self) -> list[bytes]:
        """The events behind the role."""
        if self.raw is not None:
            return [self.raw]
        rest: list[Any] = [_chunk({"content": one}, self.unfinished) for one in self.chunks]
        rest += [] if self.finish is None else [_chunk({}, self.finish)]
        rest += [] if self.usage is None else [{"choices": [], "usage": self.usage}]
        lines = [json.dumps(one) for one in rest] + ["[DONE]"] * self.done
        return [f"data: {line}\n\n".encode() for line in lines]


def _chunk(delta: dict[str, str], reason: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


@dataclass(kw_only=True)
class ScriptedChat:
    """``/v1/chat/completions``; the n-th streamed request gets ``answers[n % len]``.

    Attributes:
        refuse: Says why a request is refused: status, words, perhaps headers.
        continues: Whether it goes on with an answer that was begun, or else ignores that it was.
        silent: Whether questions are never answered, while the list of models is.
        streamed: The bodies of streamed requests that were not refused, in order.
        probes: How many other requests came.
        most_streams: The most streams that were open at once.
    """

    answers: Sequence[Script | Refusal] = (Script(),)
    refuse: Callable[[dict[str, Any]], Refusal | None] = lambda body: None
    models: Sequence[dict[str, Any]] = ({"id": "m"},)
    continues: bool = False
    silent: bool = False
    streamed: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    sessions: list[str] = field(default_factory=list)
    probes: int = 0
    most_streams: int = 0
    _open: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.keys |= {
            value.decode() for name, value in scope["headers"] if name == b"authorization"
        }
        self.sessions += [
            value.decode() for name, value in scope["headers"] if name == b"x-session-id"
        ]
        if scope["path"] == "/v1/models":
            self.probes += 1
            await _reply(send, 200, {"object": "list", "data": list(self.models)})
        elif scope["path"] != "/v1/chat/completions":
            self.probes += 1
            await _reply(send, 404, {"error": {"message": f"no {scope['path']}"}})
        else:
            await self._chat(json.loads(await read(receive)), receive, send)

    async def _chat(self, body: dict[str, Any], receive: Receive, send: Send) -> None:
        if self.silent:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        refusal = self.refuse(body)
        if refusal is None and body.get("stream"):
            answer = self.next_answer(body)
            if isinstance(answer, Script):
                await self._stream(answer, send)
                return
            refusal = answer
        if refusal is not None:
            status, words, *headers = refusal
            await _reply(send, status, {"error": {"message": words}}, *headers)
            return
        self.probes += 1
        choice = {"message": {"role": "assistant", "content": WHOLE}, "finish_reason": "stop"}
        opened = self.continues and body.get("continue_final_message")
        usage = {"prompt_tokens": 4 if opened else 5, "completion_tokens": 7}
        await _reply(send, 200, {"choices": [choice], "usage": usage})

    def next_answer(self, body: dict[str, Any]) -> Script | Refusal:
        """What a streamed request gets, which is remembered."""
        self.streamed.append(body)
        return self.answers[(len(self.streamed) - 1) % len(self.answers)]

    async def _stream(self, script: Script, send: Send) -> None:
        self._open += 1
        self.most_streams = max(self.most_streams, self._open)
        try:
            await self._send_events(script, send)
        finally:
            self._open -= 1

    async def _send_events(self, script: Script, send: Send) -> None:
        await start(send, "text/event-stream")
        role = f"data: {json.dumps(_chunk({'role': 'assistant'}, script.unfinished))}\n\n"
        events = [role.encode(), *script.events()]
        last = len(script.chunks)
        for place, data in enumerate(events):
            await send({"type": "http.response.body", "body": data, "more_body": True})
            await anyio.sleep(script.delay_s if place == 0 else script.pause_s * (place == last))
        if script.ends:
            await send({"type": "http.response.body", "body": b""})
        else:
            await anyio.sleep_forever()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address, while the block runs."""
        async with served(self) as port:
            yield f"http://127.0.0.1:{port}/v1"


async def _reply(
    send: Send, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    head = [(b"content-type", b"application/json"), *more]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
