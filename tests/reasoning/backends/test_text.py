"""A user's own backend over text: what it writes is what the threads have, however they end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import anyio
import httpx
import pytest

from reasoning.backends.base import Generation
from reasoning.backends.text import TextBackend
from reasoning.errors import BackendLost
from reasoning.problems import FreeForm
from reasoning.run.run import Run
from reasoning.strategies import Hogwild, SelfConsistency
from reasoning.values.context import Segment
from reasoning.values.sampling import Sampling
from tests.support.reading import reading

pytestmark = pytest.mark.anyio


class Toy(BaseHTTPRequestHandler):
    """An API of nobody's: a chat as JSON in, lines of text out."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        last = asked["chat"][-1]["content"]
        self.send_response(200)
        self.end_headers()
        for line in ("Twice ", f"{last.split()[0]} ", f"is \\boxed{{{asked['seed'] % 2}}}."):
            self.wfile.write(f"{line}\n".encode())

    def log_message(self, *_: object) -> None: ...


@contextmanager
def toy_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Toy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class ToyBackend(TextBackend):
    """What a user writes for it."""

    def __init__(self, url: str) -> None:
        super().__init__(context=400)
        self.url = url

    async def start(self) -> None:
        self.client = httpx.AsyncClient(trust_env=False)

    async def stop(self) -> None:
        await self.client.aclose()

    async def write(
        self, messages: list[dict[str, str]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        body = {"chat": messages, "seed": sampling.seed}
        async with self.client.stream("POST", self.url, json=body) as answer:
            async for line in answer.aiter_lines():
                yield line


class Scripted(TextBackend):
    """Writes the next of some answers; a number waits, an error is raised."""

    def __init__(self, *answers: list[Any]) -> None:
        super().__init__(context=64)
        self.answers = list(answers)
        self.asked: list[list[dict[str, str]]] = []
        self.cleaned = 0
        self.left = anyio.Event()

    async def write(
        self, messages: list[dict[str, str]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        self.asked.append(messages)
        try:
            for one in self.answers.pop(0):
                if isinstance(one, Exception):
                    raise one
                if isinstance(one, str):
                    yield one
                else:
                    await anyio.sleep(one)
        finally:
            self.cleaned += 1
            self.left.set()


def opened(backend: TextBackend) -> tuple[Generation, Segment]:
    segment = Segment(backend.dialect.prompt(FreeForm(question="Why?")))
    return backend.open(segment, Sampling()), segment


async def text(backend: TextBackend) -> tuple[str, str | None]:
    generation, segment = opened(backend)
    reason: str | None = None
    async for token in reading(generation, segment):
        reason = token.reason
    generation.close()
    decoder = backend.dialect.decoder()
    return "".join(map(decoder.feed, segment.tokens)), reason


async def test_a_strategy_runs_on_an_api_of_ones_own() -> None:
    with toy_server() as url:
        async with ToyBackend(url) as backend:
            run = Run(
                problem=FreeForm(question="21 and what?"),
                backend=backend,
                dialect=backend.dialect,
                max_tokens=backend.context,
                temperature=1.0,
            )
            tally = await SelfConsistency(n=5).solve(run)
    assert {thread.text.partition(" is")[0] for thread in run.threads.values()} == {"Twice 21"}
    assert sum(tally.votes.values()) == 5
    assert set(tally.votes) <= {"0", "1"}


async def test_workers_that_share_their_text_run_on_text_alone() -> None:
    answers = [["One more.\n", "\nNever read"]] * 4
    async with Scripted(*answers, ["So \\boxed{7}"], ["Another one."]) as backend:
        backend.context = 4000
        run = Run(
            problem=FreeForm(question="Why?"),
            backend=backend,
            dialect=backend.dialect,
            max_tokens=4000,
        )
        assert (await Hogwild(n=2).solve(run)).winner == "7"
    assert run.emulated == {"step-wise"}
    shared = backend.asked[4][-1]
    assert shared["role"] == "assistant"
    assert shared["content"].startswith("Ada: One more.\n\nBen: One more.\n\n")
    assert not any("Never read" in chat[-1]["content"] for chat in backend.asked)


async def test_an_answer_that_ends_says_stop_and_a_long_one_length() -> None:
    async with Scripted(["a", "", "b"], ["x "] * 100) as backend:
        assert await text(backend) == ("ab", "stop")
        long, reason = await text(backend)
        assert reason == "length"
        asked = sum(len(one["content"]) for one in backend.asked[-1])
        assert len(long) // 2 == 64 - -(-asked // 4)
    assert backend.cleaned == 2


@pytest.mark.parametrize("waits", [True, False])
async def test_closing_a_thread_cancels_its_writer(waits: bool) -> None:
    async with Scripted(["a", 60.0] if waits else ["a"] * 9) as backend:
        generation, _ = opened(backend)
        stream = generation.tokens()
        await anext(stream)
        generation.close()
        with anyio.fail_after(5):
            await backend.left.wait()
        assert backend.open_threads == 0
        with pytest.raises(BackendLost):
            await anext(stream)


async def test_leaving_the_backend_cancels_every_writer() -> None:
    async with Scripted(["a", 60.0], ["b", 60.0]) as backend:
        for _ in range(2):
            generation, _ = opened(backend)
            await anext(generation.tokens())
    assert backend.cleaned == 2


async def test_a_lost_request_keeps_what_was_written_and_a_bug_is_raised() -> None:
    lost, bug = BackendLost("the API answered 500; try again later"), KeyError("choices")
    async with Scripted(["a", lost], [bug]) as backend:
        generation, segment = opened(backend)
        with pytest.raises(BackendLost, match="answered 500"):
            [token async for token in reading(generation, segment)]
        assert len(segment) == 1
        with pytest.raises(KeyError):
            await text(backend)
