"""A small OpenAI-compatible server over the embedded engine, and a proxy that does it harm."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from anyio.abc import ByteStream, SocketAttribute

from reasoning import Context, Segment
from reasoning.backends.embedded import EmbeddedBackend
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model
from reasoning.values.sampling import Sampling

Scope, Receive, Send = Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]


@dataclass
class Completions:
    """``/v1/completions`` with token ids, as vLLM serves it, for a shipped model.

    Attributes:
        refuse: Fields of requests that are answered with 400.
        bare: Whether it knows neither token ids nor log-probabilities, as most servers.
        generated: Tokens generated, whether anybody read them or not.
        aborted: Requests whose client went away before the end; gone tells of the first.
        prompts: What it was asked, in the order of asking.
    """

    backend: EmbeddedBackend
    model: LoadedModel
    refuse: tuple[str, ...] = ("priority", "structured_outputs")
    bare: bool = False
    pace_s: float = 0.0
    generated: int = 0
    aborted: int = 0
    gone: anyio.Event = field(default_factory=anyio.Event)
    prompts: list[Any] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        match scope["path"]:
            case "/v1/models":
                entry = {"id": self.model.name, "owned_by": "reason", "max_model_len": 1024}
                await reply(send, 200, {"object": "list", "data": [entry]})
            case "/v1/completions":
                await self._complete(json.loads(await read(receive)), receive, send)
            case path:
                await reply(send, 404, {"error": {"message": f"no {path}", "code": 404}})

    async def _complete(self, body: dict[str, Any], receive: Receive, send: Send) -> None:
        refused = [name for name in self.refuse if body.get(name)]
        prompt = body["prompt"]
        if refused or (self.bare and not isinstance(prompt, str)):
            await reply(send, 400, {"error": {"message": f"{refused} are not served"}})
            return
        self.prompts.append(prompt)
        ids = self.model.dialect.encode(prompt) if isinstance(prompt, str) else prompt
        if body.get("echo") and not self.bare:
            await reply(send, 200, await self._echoed(ids))
            return
        stream = bool(body.get("stream"))
        if stream:
            await start(send, "text/event-stream")
        chunks: list[dict[str, Any]] = []
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, receive, group.cancel_scope)
            async for chunk in self._chunks(ids, body):
                if stream:
                    await event(send, chunk)
                else:
                    chunks.append(chunk)
            group.cancel_scope.cancel()
        count = {"prompt_tokens": len(ids), "completion_tokens": self._count}
        if not stream:
            await reply(send, 200, merged(chunks) | {"usage": count})
        elif chunks or self._ended:
            await event(send, {"choices": [], "usage": count})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _echoed(self, ids: list[int]) -> dict[str, Any]:
        """The prompt with its log-probabilities; one token more is only claimed."""
        likely = await self.backend.score(Segment(Context.given(ids[:1]), ids[1:]))
        decoder, starts, text = self.model.dialect.decoder(), list[int](), ""
        for token in ids:
            starts.append(len(text))
            text += decoder.feed(token)
        logprobs = {"token_logprobs": [None, *likely, -0.5], "text_offset": [*starts, len(text)]}
        count = {"prompt_tokens": len(ids), "completion_tokens": 1}
        return {"choices": [{"text": text, "logprobs": logprobs}], "usage": count}

    _count = 0
    _ended = True

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.aborted += 1
        self.gone.set()
        scope.cancel()

    async def _chunks(self, ids: list[int], body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        sampling = Sampling(temperature=body.get("temperature", 1.0), seed=body.get("seed") or 0)
        generation = self.backend.open(
            Segment(Context.given(ids)),
            sampling,
            stop=body.get("stop_token_ids") or (),
            limit=len(ids) + body["max_tokens"],
        )
        decoder = self.model.dialect.decoder()
        try:
            async for token in generation.tokens():
                self.generated += 1
                await anyio.sleep(self.pace_s)
                yield self._chunk(body, token, decoder.feed(token.token))
        finally:
            generation.close()

    def _chunk(self, body: dict[str, Any], token: Any, text: str) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": token.reason}
        if body.get("return_token_ids") and not self.bare:
            choice["token_ids"] = [token.token]
        if body.get("logprobs") is not None and not self.bare:
            choice["logprobs"] = {"token_logprobs": [token.logprob], "top_logprobs": None}
        return {"object": "text_completion", "choices": [choice]}


def merged(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The chunks of a stream as one answer."""
    choices = [chunk["choices"][0] for chunk in chunks]
    whole = dict(choices[-1]) | {"text": "".join(one["text"] for one in choices)}
    if "token_ids" in whole:
        whole["token_ids"] = [id for one in choices for id in one["token_ids"]]
    return {"object": "text_completion", "choices": [whole]}


async def read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def reply(send: Send, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def start(send: Send, kind: str) -> None:
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def event(send: Send, chunk: dict[str, Any]) -> None:
    body = f"data: {json.dumps(chunk)}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})


@asynccontextmanager
async def served(app: Any, **settings: Any) -> AsyncIterator[int]:
    """An ASGI application on a free port of this machine, while the block runs."""
    config = uvicorn.Config(
        app, port=0, log_level="error", lifespan="off", timeout_keep_alive=60, **settings
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        with anyio.CancelScope(shield=True):  # its sockets are closed in a failed test too
            await server.serve()

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        while not server.started:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True


class Proxy:
    """A TCP proxy that forwards to a server, and does harm to answers once it is told to.

    Attributes:
        fault: What to do with an answer of which ``after`` bytes have passed: ``die`` closes
            every connection and stops listening, ``truncate`` closes the connection, ``stall``
            forwards no more, ``garbage`` adds nonsense to the stream; ``500`` and ``429`` answer
            requests instead of the server.
        times: How many more answers are harmed; None for all.
        skip: So many answers pass unharmed first.
        harmed, requests, most_open: Answers that were harmed, requests that came, and the most
            connections that were open at once.
    """

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.port = 0
        self.fault: str | None = None
        self.after = 0
        self.times: int | None = None
        self.skip = 0
        self.harmed = 0
        self.open = 0
        self.most_open = 0
        self.requests = 0
        self._scope = anyio.CancelScope()

    def harm(self, fault: str, *, times: int | None = None, skip: int = 0) -> None:
        """From now on, do this to answers, some way into them."""
        self.fault, self.times, self.skip = fault, times, skip
        self.after = 0 if fault in STATUS or skip else 2000

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address, while the block runs."""
        async with anyio.create_task_group() as group:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            self.port = listener.extra(SocketAttribute.local_port)

            async def listen() -> None:
                try:
                    with self._scope:
                        await listener.serve(self._connected)
                finally:
                    with anyio.CancelScope(shield=True):
                        await listener.aclose()

            group.start_soon(listen)
            yield f"http://127.0.0.1:{self.port}/v1"
            group.cancel_scope.cancel()

    def _strikes(self, passed: int) -> bool:
        if self.fault is None or self.skip > 0 or passed < self.after or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        self.harmed += 1
        return True

    async def _connected(self, client: ByteStream) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._forward(client)
        finally:
            self.open -= 1

    async def _forward(self, client: ByteStream) -> None:
        async with client:
            try:
                upstream = await anyio.connect_tcp("127.0.0.1", self.upstream)
                async with upstream, anyio.create_task_group() as group:
                    group.start_soon(self._answers, upstream, client, group.cancel_scope)
                    async for data in client:
                        if data.startswith((b"POST", b"GET")):
                            self.requests += 1
                            self.skip -= 1
                        if self.fault in STATUS and self._strikes(0):
                            await client.send(STATUS[self.fault])
                            continue
                        await upstream.send(data)
                    group.cancel_scope.cancel()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                pass

    async def _answers(
        self, upstream: ByteStream, client: ByteStream, scope: anyio.CancelScope
    ) -> None:
        passed = 0
        async for data in upstream:
            if self.fault not in STATUS and self._strikes(passed):
                await self._harm(client, scope)
                return
            passed += len(data)
            try:
                await client.send(data)
            except (anyio.BrokenResourceError, OSError):
                break
        scope.cancel()

    async def _harm(self, client: ByteStream, scope: anyio.CancelScope) -> None:
        match self.fault:
            case "stall":
                await anyio.sleep_forever()
            case "garbage":
                line = b'data: {"choices": [{"ind\n\n'
                await client.send(b"%x\r\n%s\r\n" % (len(line), line))
                await anyio.sleep_forever()
            case "die":
                self._scope.cancel()
        scope.cancel()


def _answer(status: bytes, more: bytes) -> bytes:
    body = b'{"error": {"message": "too much"}}'
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
    return head % (status, more, len(body)) + body


STATUS = {
    "500": _answer(b"500 Internal Server Error", b""),
    "429": _answer(b"429 Too Many Requests", b"retry-after: 0\r\n"),
}


async def serve_shipped() -> None:
    """Serve the shipped model from this process, and say on stdout where."""
    model = load_model()
    async with model.backend as engine, served(Completions(engine, model)) as port:
        sys.stdout.write(f"http://127.0.0.1:{port}/v1\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(serve_shipped)
