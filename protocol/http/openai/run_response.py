"""The response that runs its request: streamed or whole, and cancelled with its client."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from protocol.http.bodies import read_json
from protocol.http.contract.results import ReasoningResult
from protocol.http.control.telemetry import request_span
from protocol.http.errors import Refusal, error_response
from protocol.http.openai.common_fields import CommonRequest, parse
from protocol.http.openai.thoughts import PATIENCE_S
from protocol.http.runs import CheckedRequest, RequestRunner, RunningRequest
from protocol.http.service import BranchEvent, ReasoningRequest

SILENCE_S = 15.0
"""After so long a comment is sent, so that nobody between takes the connection for dead."""
STALLED_S = 30.0
"""A client that reads nothing for so long is taken for gone."""
GATHER_S = 0.05
"""How long events gather before they are put into a body that is sent whole."""

R = TypeVar("R", bound=CommonRequest)


class BodyWriter(ABC, Generic[R]):
    """How a run becomes a body: pieces of a stream, or one object."""

    def __init__(self, asked: R, ignored: tuple[str, ...]) -> None:
        self._asked = asked
        self._ignored = ignored
        self._created = int(time.time())

    @property
    def waiting(self) -> bool:
        """Whether it holds text back that it may give later without another event."""
        return False

    @abstractmethod
    def head(self) -> Iterable[bytes]:
        """What a stream begins with."""

    @abstractmethod
    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterable[bytes]:
        """Take events at the time ``now`` in seconds, and give what is to be sent of them."""

    @abstractmethod
    def end(self, result: ReasoningResult, dropped: int) -> Iterable[bytes]:
        """What a stream ends with; ``dropped`` characters of thoughts were not sent."""

    @abstractmethod
    def failed(self, problem: Refusal) -> Iterable[bytes]:
        """What a stream ends with that can't go on."""

    @abstractmethod
    def whole(self, result: ReasoningResult) -> dict[str, Any]:
        """The whole body, after everything was fed."""


def sse(data: dict[str, Any] | str, event: str | None = None) -> bytes:
    """One server-sent event."""
    body = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {event}\n" if event else "").encode() + f"data: {body}\n\n".encode()


class RunResponse(Response):
    """A response that runs its request while the client is there."""

    def __init__(
        self,
        runner: RequestRunner,
        request: CheckedRequest,
        writer: BodyWriter[Any],
        *,
        stream: bool,
        endpoint: str,
    ) -> None:
        self._runner = runner
        self._request = request
        self._writer = writer
        self._stream = stream
        self._endpoint = endpoint
        self._started = False
        self._ended = False
        self._scope = anyio.CancelScope()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._scope.cancel()

        with self._scope, request_span(scope["headers"], self._endpoint):
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await self._respond(scope, receive, send)
                self._ended = True
                group.cancel_scope.cancel()
        if not self._ended:
            self._runner.metrics.disconnected.labels(self._endpoint).inc()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._runner.counted(self._endpoint):
                async with self._runner.running(self._request) as run:
                    await (self._follow(run, send) if self._stream else self._collect(run))
                if not self._stream:
                    await JSONResponse(self._writer.whole(run.result))(scope, receive, send)
        except Refusal as problem:
            if self._started:
                await self._send(send, self._writer.failed(problem), more=False)
            else:
                await error_response(problem)(scope, receive, send)

    async def _collect(self, run: RunningRequest) -> None:
        async for events in run.events.batches(GATHER_S):
            for _ in self._writer.feed(events, 0.0):
                pass

    async def _follow(self, run: RunningRequest, send: Send) -> None:
        wait = SILENCE_S
        while (events := await run.events.take(wait)) is not None:
            if not self._started:  # what fails before the first event still has a status
                await self._start(send)
            if events or self._writer.waiting:
                await self._send(send, self._writer.feed(events, time.monotonic()))
            else:
                await self._send(send, [b": working\n\n"])
            wait = PATIENCE_S if self._writer.waiting else SILENCE_S
        result = run.result
        if not self._started:
            await self._start(send)
        await self._send(send, self._writer.end(result, run.events.dropped), more=False)

    async def _start(self, send: Send) -> None:
        self._started = True
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # nginx would hold the stream back
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(send, self._writer.head())

    async def _send(self, send: Send, pieces: Iterable[bytes], *, more: bool = True) -> None:
        body = b"".join(pieces)
        if body or not more:
            with anyio.move_on_after(STALLED_S) as limit:
                await send({"type": "http.response.body", "body": body, "more_body": more})
            if limit.cancelled_caught:
                self._scope.cancel()
                await anyio.lowlevel.checkpoint()


def caller_of(request: Request) -> str:
    """The name of the key that a request came with; empty where nobody is asked for one."""
    user = request.scope.get("user")
    return "" if user is None else str(user.display_name)


class Interface(ABC, Generic[R]):
    """One of the interfaces: how its bodies are read, and how runs are written.

    Attributes:
        name: For metrics.
        kind: What its bodies are.
    """

    name: str
    kind: type[R]

    def read(self, asked: R, caller: str) -> tuple[ReasoningRequest, tuple[str, ...]]:
        """What the service is asked, and the names of what is not read.

        Raises:
            Refusal: the body asks for what can't be.
        """
        return asked.request()

    @abstractmethod
    def writer(self, asked: R, ignored: tuple[str, ...], caller: str) -> BodyWriter[R]:
        """What writes the run of a body."""


def endpoint(
    runner: RequestRunner, interface: Interface[Any]
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of one interface."""

    async def answer(request: Request) -> Response:
        caller = caller_of(request)
        asked = parse(interface.kind, await read_json(request))
        wanted, ignored = interface.read(asked, caller)
        return RunResponse(
            runner,
            runner.check(wanted, caller),
            interface.writer(asked, ignored, caller),
            stream=asked.stream is True,
            endpoint=interface.name,
        )

    return answer
