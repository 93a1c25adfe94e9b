"""Simulated servers as OpenAI-compatible ones behind HTTP, without sockets.

The client library and its HTTP client are the real ones; only the last call, that would open a
connection, is answered here.  What a server answers follows from question and seed, so that it does
not matter who is asked, or when.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest import mock

import httpcore2
import httpx2

from .servers import ServedRequest, Server, ServerDied

CHARACTERS = 4
"""Of a token, in given and in written text."""
ALONE = 10
"""So many tokens are streamed one by one."""
DRIVER = "x-driver"
"""The header in which a process says which one it is."""
TEXT = "".join(f"{number * 7919 % 9973:>3x} "[:4] for number in range(65536))
"""What all answers are cut out of."""


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What servers write.

    Attributes:
        tokens: The mean length of an answer; lengths are lognormal.
        spread: The standard deviation of their logarithm.
        most: The longest.
        right: The mean share of right answers; questions differ (a beta distribution of weight 2).
    """

    tokens: float = 400
    spread: float = 0.6
    most: int = 4000
    right: float = 0.6

    def answer(self, question: str, seed: int, said: int) -> tuple[int, str]:
        """How many tokens are written behind ``said`` ones, and the answer at their end."""
        about = random.Random(question)
        share = about.betavariate(2 * self.right, 2 * (1 - self.right))
        draw = random.Random(f"{seed}/{question}")
        length = self.tokens * draw.lognormvariate(-(self.spread**2) / 2, self.spread)
        tokens = max(4, min(self.most, round(length)) - said)
        wrong = int(draw.paretovariate(1.0))
        return tokens, "0" if draw.random() < share else str(min(wrong, 99))


class Driver:
    """The processor of a process that asks: one thing after the other.

    Attributes:
        busy: Seconds that it has worked.
    """

    def __init__(self) -> None:
        self.busy = 0.0
        self._free = 0.0

    async def work(self, seconds: float) -> None:
        """Wait until it has done this, behind all that it had to do before."""
        if seconds:
            now = asyncio.get_running_loop().time()
            self._free = max(now, self._free) + seconds
            self.busy += seconds
            await asyncio.sleep(self._free - now)


@dataclass(kw_only=True)
class Network:
    """Servers by their hosts' names, and what it costs to talk to them.

    Attributes:
        useful: Tokens of answers that came to their ends.
        delay_s: Of anything on its way, one way.
        request_s: Of the processor of whoever asks, for each request.
        token_s: The same, for each token that is streamed.
        interval: The most tokens that are streamed at once.  The first few come one by one, then as
            many as there were before, so that a pace is seen; each costs as if it came alone.
    """

    servers: Mapping[str, Server]
    writing: Writing = field(default_factory=Writing)
    delay_s: float = 0.005
    request_s: float = 0.0
    token_s: float = 0.0
    interval: int = 100
    useful: int = 0
    drivers: dict[str, Driver] = field(default_factory=dict)

    def stops(self, tokens: int) -> list[int]:
        """Behind which tokens of an answer a piece of it is sent."""
        stops = [*range(min(ALONE, tokens))]
        while stops[-1] < tokens:
            stops.append(min(tokens, stops[-1] + max(1, min(stops[-1], self.interval))))
        return stops

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Whoever opens a connection by HTTP meets these servers, and nobody else."""
        answer = self.answer

        async def handle(_: object, request: httpx2.Request) -> httpx2.Response:
            return await answer(request)

        unused = httpcore2.default_ssl_context()  # to read the authorities takes long
        with (
            mock.patch.object(httpx2.AsyncHTTPTransport, "handle_async_request", handle),
            mock.patch.object(httpcore2, "default_ssl_context", return_value=unused),
        ):
            yield

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        """A server's answer to a request.

        Raises:
            httpx2.ConnectError: the server is dead.
            httpx2.RemoteProtocolError: it died meanwhile.
        """
        server = self.servers[request.url.host]
        driver = self.drivers.setdefault(request.headers.get(DRIVER, ""), Driver())
        await driver.work(self.request_s)
        await asyncio.sleep(self.delay_s)
        if not server.up:
            raise httpx2.ConnectError("connection refused")
        if request.method == "GET":
            if server.stands:
                await asyncio.sleep(math.inf)
            return _json(request, {"object": "list", "data": [{"id": "simulated"}]})
        exchange = Exchange(self, driver, server, json.loads(await request.aread()))
        try:
            await exchange.admit()
            if exchange.streams:
                headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
                return httpx2.Response(200, headers=headers, stream=exchange, request=request)
            return _json(request, await exchange.whole())
        except ServerDied as error:
            raise httpx2.RemoteProtocolError("server disconnected") from error
        except BaseException:
            exchange.leave()
            raise


def _json(request: httpx2.Request, body: Mapping[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json=body, request=request)


class Exchange(httpx2.AsyncByteStream):
    """One request for an answer and the answer."""

    def __init__(
        self, network: Network, driver: Driver, server: Server, body: Mapping[str, Any]
    ) -> None:
        self._network = network
        self._driver = driver
        self._server = server
        messages = body["messages"]
        self.streams = bool(body.get("stream"))
        begun = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
        asked = "".join(f"{one['role']}\n{one['content']}\n" for one in messages) + "assistant\n"
        self._prompt = asked + begun
        self._said = len(begun) // CHARACTERS
        seed = body.get("seed") or 0
        self._tokens, self._answer = network.writing.answer(asked, seed, self._said)
        most = body.get("max_completion_tokens") or body.get("max_tokens") or self._tokens
        self._finish = "stop" if self._tokens <= most else "length"
        self._tokens = min(self._tokens, most)
        self._start = seed % (len(TEXT) // CHARACTERS // 2)
        self._shown = ""
        self._request: ServedRequest | None = None

    async def admit(self) -> None:
        """Wait for a lane of the server."""
        self._request = await self._server.admit(self._prompt, self._count(self._prompt))
        self._request.end_behind(self._tokens, self._text(0, self._tokens))

    def leave(self) -> None:
        """Give the lane back."""
        if self._request is not None:
            self._request.leave(self._shown)

    async def aclose(self) -> None:
        self.leave()

    async def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": await self._piece(0, self._tokens)}
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        return {"object": "chat.completion", "choices": [choice], "usage": self._usage}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for start, end in pairwise(self._network.stops(self._tokens)):
                piece = await self._piece(start, end)
                await self._driver.work(self._network.token_s * (end - start))
                last = end == self._tokens
                choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
                yield _event(
                    {"choices": [choice | ({"finish_reason": self._finish} if last else {})]}
                )
            yield _event({"choices": [], "usage": self._usage}) + b"data: [DONE]\n\n"
        except ServerDied as error:
            raise httpx2.RemoteProtocolError("peer closed connection") from error
        finally:
            self.leave()

    async def _piece(self, start: int, end: int) -> str:
        """What stands between two tokens, once it is written and has come."""
        assert self._request is not None
        await self._request.written(end)
        piece = self._text(start, end)
        self._shown += piece
        await asyncio.sleep(self._network.delay_s)
        if end == self._tokens:
            self._network.useful += end
        return piece

    def _text(self, start: int, end: int) -> str:
        first = self._start + self._said
        text = TEXT[CHARACTERS * (first + start) : CHARACTERS * (first + end)]
        if end < self._tokens or self._finish == "length":
            return text
        boxed = f"\\boxed{{{self._answer}}}"
        return text[: max(0, len(text) - len(boxed))] + boxed

    @property
    def _usage(self) -> dict[str, Any]:
        """Without a count of what was written: the client would make a token of each of them."""
        assert self._request is not None
        return {
            "prompt_tokens": self._count(self._prompt),
            "prompt_tokens_details": {"cached_tokens": self._request.cached},
        }

    def _count(self, text: str) -> int:
        return -(-len(text) // CHARACTERS)


def _event(body: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()
