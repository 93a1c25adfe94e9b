"""A chat server in a thread, whose model follows rules that stand in the question.

``SAY: one || two`` is answered by ``one``, the next time by ``two``, and so on; ``CALL: f {}``
calls a tool in the same way; ``SLOWLY`` takes a minute.  Tools that are offered are called with
values made for their parameters, a schema is filled in, and whatever else is asked is repeated
together with what the system says.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[str, list[dict[str, Any]]]


@dataclass(kw_only=True)
class RuleServer:
    """What a rule server was asked, and how it is doing.

    Attributes:
        url: Its address, with ``/v1``.
        bodies: The bodies of its streamed requests, in order.
        traces: The ``traceparent`` of each of them; empty where there was none.
        open: How many are being answered.
    """

    url: str = ""
    thoughts: str = ""
    pause_s: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    open: int = 0
    turns: Counter[str] = field(default_factory=Counter)
    prompts: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def last(self) -> dict[str, Any]:
        return self.bodies[-1]

    def choose(self, question: str, options: list[str]) -> str:
        """The option whose turn it is for this question."""
        with self.lock:
            turn = self.turns[question]
            self.turns[question] += 1
        return options[turn % len(options)].strip()

    def reply(self, body: dict[str, Any]) -> Reply:
        """The words and the calls of an answer."""
        messages = body["messages"]
        asked = [text_of(one) for one in messages if one["role"] == "user"]
        question = asked[-1] if asked else ""
        kind, _, rest = question.partition(": ")
        if kind == "SAY":
            return self.choose(question, rest.split("||")), []
        if kind == "CALL" and messages[-1]["role"] == "user":
            name, _, arguments = self.choose(question, rest.split("||")).partition(" ")
            return "", [called(name, arguments)]
        if messages[-1]["role"] == "tool":
            return f"It is {text_of(messages[-1])}.", []
        form = (body.get("response_format") or {}).get("json_schema")
        if form:
            return json.dumps(filled(form["schema"], form["schema"])), []
        tools = body.get("tools") or []
        if tools and body.get("tool_choice", "auto") != "none":
            function = tools[0]["function"]
            schema = function.get("parameters") or {}
            return "", [called(function["name"], json.dumps(filled(schema, schema)))]
        system = " ".join(
            text_of(one) for one in messages if one["role"] in ("system", "developer")
        )
        said = f"You said: {question}"
        return (f"{said} The system says: {system}" if system else said), []


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def called(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": 0, "id": f"call_{name}", "type": "function", "function": function}


def filled(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A value that fits a schema, of the kinds that programs make."""
    if "$ref" in schema:
        return filled(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return filled(schema["anyOf"][0], root)
    if "enum" in schema or "const" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    match schema.get("type"):
        case "object":
            return {
                name: filled(one, root) for name, one in (schema.get("properties") or {}).items()
            }
        case "array":
            return [filled(schema.get("items") or {}, root)]
        case "integer" | "number":
            return schema.get("minimum", 42)
        case "boolean":
            return True
    return "Paris"[: schema.get("maxLength", 5)]


class RuleHandler(BaseHTTPRequestHandler):
    """One connection of a rule server."""

    protocol_version = "HTTP/1.1"
    rules: RuleServer

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "rules", "max_model_len": 4096}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/chat/completions"):
            self._send({"error": {"message": f"no {self.path}"}}, 404)
            return
        text, calls = self.rules.reply(body)
        prompt = json.dumps(body["messages"])
        usage = self._usage(prompt, len(text.split()) + len(calls))
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "tool_calls": calls}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send({"model": body.get("model", "rules"), "choices": [choice], "usage": usage})
            return
        self.rules.bodies.append(body)
        self.rules.traces.append(self.headers.get("traceparent", ""))
        self.rules.open += 1
        try:
            self._stream(text, calls, usage, most=body.get("max_tokens"), slowly="SLOWLY" in prompt)
        except OSError:
            self.close_connection = True
        finally:
            self.rules.open -= 1

    def _usage(self, prompt: str, written: int) -> dict[str, Any]:
        given, thought = len(prompt.split()), len(self.rules.thoughts.split())
        cached = given if prompt in self.rules.prompts else 0
        self.rules.prompts.add(prompt)
        return {
            "prompt_tokens": given,
            "completion_tokens": written + thought + 1,  # with the one that ends it
            "total_tokens": given + written + thought + 1,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def _stream(
        self,
        text: str,
        calls: list[dict[str, Any]],
        usage: dict[str, Any],
        *,
        most: int | None,
        slowly: bool,
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deltas: Any = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning": f"{word} "} for word in self.rules.thoughts.split()]
        words = text.split(" ")
        said = [word + " " for word in words[:-1]] + words[-1:]
        deltas += [{"content": word} for word in said if word]
        deltas += [{"tool_calls": [call]} for call in calls]
        reason = "tool_calls" if calls else "stop"
        if most and most < len(deltas):  # the first is none, and the one that ends it is not there
            deltas, reason = deltas[: most + 1], "length"
            usage = usage | {"completion_tokens": most}
        if slowly:
            deltas = itertools.chain(deltas, ({"content": "on "} for _ in range(1200)))
        for delta in deltas:
            self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            time.sleep(0.05 if slowly else self.rules.pause_s)
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(event)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class RuleListener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave."""


@contextmanager
def rule_server(**settings: Any) -> Iterator[RuleServer]:
    """A rule server on a free port."""
    rules = RuleServer(**settings)
    handler = type("BoundHandler", (RuleHandler,), {"rules": rules})
    with RuleListener(("127.0.0.1", 0), handler) as listener:
        rules.url = f"http://127.0.0.1:{listener.server_port}/v1"
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        try:
            yield rules
        finally:
            listener.shutdown()
            thread.join()
