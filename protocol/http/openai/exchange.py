"""One request that runs a question: admitted, streamed or whole, and cancelled with its client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import anyio
import anyio.lowlevel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from protocol.http.admission import Gate
from protocol.http.errors import Refusal, refusal, response
from protocol.http.keys import MOST_BODY, too_large
from protocol.http.metrics import Metrics
from protocol.http.openai.stream import PATIENCE_S, Buffer
from protocol.http.service import Answer, BranchEvent, Question, Service

BODY_S = 5.0
SILENCE_S = 15.0
"""After so long a comment is sent, so that nobody between takes the connection for dead."""
STALLED_S = 30.0
"""A client that reads nothing for so long is taken for gone."""


class Writer(Protocol):
    """How a run becomes a body: pieces of a stream, or one object."""

    @property
    def waiting(self) -> bool:
        """Whether it holds text back that it may give later without news."""
        ...

    def head(self) -> Iterable[bytes]: ...

    def feed(self, events: Iterable[BranchEvent], now: float) -> Iterable[bytes]: ...

    def end(self, answer: Answer, dropped: int) -> Iterable[bytes]: ...

    def failed(self, problem: Refusal) -> Iterable[bytes]: ...

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The whole body, after everything was fed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What all requests of one application share."""

    service: Service
    gate: Gate
    metrics: Metrics
    timeout: float

    def check(self, question: Question) -> Question:
        """The question within the server's time limit, if it can be answered.

        Raises:
            ReasonError: by its leaf, why it can't.
        """
        limit = min(question.timeout or self.timeout, self.timeout)
        question = replace(question, timeout=limit)
        self.service.check(question)
        return question


class Run:
    """A question that is being answered."""

    def __init__(self) -> None:
        self.buffer = Buffer()
        self._end: Answer | Exception | None = None

    @property
    def answer(self) -> Answer:
        """The answer of a run that has ended; raises what ended it otherwise."""
        assert self._end is not None
        if isinstance(self._end, Exception):
            raise self._end
        return self._end

    async def work(self, service: Service, question: Question) -> None:
        """Answer, and keep what came of it."""
        try:
            self._end = await service.answer(question, self.buffer.put)
        except Exception as error:
            self._end = error
        finally:
            self.buffer.close()


@asynccontextmanager
async def running(service: Service, question: Question) -> AsyncIterator[Run]:
    """Answer a question beside a block, which reads what happens; leaving it waits for the end."""
    run = Run()
    async with anyio.create_task_group() as group:
        group.start_soon(run.work, service, question)
        yield run


class Exchange(Response):
    """A response that runs its question while the client is there."""

    def __init__(
        self, desk: Desk, question: Question, writer: Writer, *, stream: bool, endpoint: str
    ) -> None:
        self.desk = desk
        self.question = question
        self.writer = writer
        self.stream = stream
        self.endpoint = endpoint
        self._started = False
        self._ended = False
        self._scope = anyio.CancelScope()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._scope.cancel()

        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await self._respond(scope, receive, send)
                self._ended = True
                group.cancel_scope.cancel()
        if not self._ended:
            self.desk.metrics.disconnected.labels(self.endpoint).inc()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.desk.metrics.request(self.endpoint) as outcome:
            try:
                async with self.desk.gate.enter():
                    with self.desk.metrics.run(self.question.variant) as account:
                        answer = await (self._streamed(send) if self.stream else self._answered())
                        account(answer)
                if not self.stream:
                    await JSONResponse(self.writer.whole(answer))(scope, receive, send)
            except Exception as error:
                problem = refusal(error)
                outcome(problem.status)
                if self._started:
                    await self._send(send, self.writer.failed(problem), more=False)
                else:
                    await response(problem)(scope, receive, send)

    async def _answered(self) -> Answer:
        buffer = Buffer()
        answer = await self.desk.service.answer(self.question, buffer.put)
        buffer.close()
        while events := await buffer.take(0):
            list(self.writer.feed(events, 0.0))
        return answer

    async def _streamed(self, send: Send) -> Answer:
        async with running(self.desk.service, self.question) as run:
            wait = SILENCE_S
            while (events := await run.buffer.take(wait)) is not None:
                if not self._started:  # what fails before the first event still has a status
                    await self._start(send)
                if events or self.writer.waiting:
                    await self._send(send, self.writer.feed(events, time.monotonic()))
                else:
                    await self._send(send, [b": working\n\n"])
                wait = PATIENCE_S if self.writer.waiting else SILENCE_S
        answer = run.answer
        if not self._started:
            await self._start(send)
        await self._send(send, self.writer.end(answer, run.buffer.dropped), more=False)
        return answer

    async def _start(self, send: Send) -> None:
        self._started = True
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # nginx would hold the stream back
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(send, self.writer.head())

    async def _send(self, send: Send, pieces: Iterable[bytes], *, more: bool = True) -> None:
        body = b"".join(pieces)
        if body or not more:
            with anyio.move_on_after(STALLED_S) as limit:
                await send({"type": "http.response.body", "body": body, "more_body": more})
            if limit.cancelled_caught:
                self._scope.cancel()
                await anyio.lowlevel.checkpoint()


def too_slow() -> Refusal:
    return Refusal(408, "body_too_slow", f"the body did not come within {BODY_S:g} s; try again")


async def read_body(request: Request) -> bytes:
    """The body of a request for JSON, within limits of size and time.

    Raises:
        Refusal: it is of another type, too large, or too slow.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(
            415, "unsupported_media_type", "send the body as 'Content-Type: application/json'"
        )
    body = bytearray()
    with anyio.move_on_after(BODY_S) as limit:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BODY:
                raise too_large()
    if limit.cancelled_caught:
        raise too_slow()
    return bytes(body)
