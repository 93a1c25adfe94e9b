"""A tiny OpenAI-compatible chat server, whose model follows a few rules."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatHandler(BaseHTTPRequestHandler):
    """A tiny OpenAI-compatible chat server whose model follows a few rules of its own."""

    respond: Callable[[dict[str, Any]], str | None]

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"data": [{"id": "tiny"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/chat/completions"):
            self.send_error(404)
            return
        text = self.respond(body)
        if text is None:
            self.send_error(400)
            return
        if not body.get("stream"):
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            self._send("application/json", json.dumps({"choices": [choice]}))
            return
        pieces = [text[i : i + 20] for i in range(0, len(text), 20)]
        chunks = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
        chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        self._send("text/event-stream", "".join([*events, "data: [DONE]\n\n"]))

    def _send(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _reply(prompt: str) -> str:
    if "You carry out a request on one device" in prompt:
        if 'returned "HI"' in prompt:
            return '{"done": true, "result": "it shouted HI"}'
        return '{"thought": "shout", "tool": "shout", "parameters": {"text": "hi"}}'
    if "t2: add" in prompt and "with 10" in prompt:
        return '{"answer": "10"}'
    if "none yet" not in prompt:
        return "{}"
    if "refused" not in prompt:
        return '<think>try</think>{"edits": [{"op": "add", "id": "t1", "tool": "fly"}]}'
    first = {"op": "add", "id": "t1", "tool": "add", "arguments": {"a": 3, "b": 4}}
    second = {"op": "add", "id": "t2", "tool": "add", "arguments": {"a": {"$task": "t1"}, "b": 3}}
    return f"```json\n{json.dumps({'thought': 'sum up', 'edits': [first, second]})}\n```"


@contextmanager
def chat_server(
    answer: Callable[[str], str] = _reply,
    respond: Callable[[dict[str, Any]], str | None] | None = None,
    kind: type[ChatHandler] = ChatHandler,
) -> Iterator[str]:
    """Its address; by default it looks at nothing but the last message."""
    found = respond or (lambda body: answer(body["messages"][-1]["content"]))
    handler = type("Handler", (kind,), {"respond": staticmethod(found)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
