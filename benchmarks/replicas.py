"""A vote over several servers of which one is slow, or is killed; and where second turns go.

    python benchmarks/replicas.py benchmarks/results/replicas.json
    python benchmarks/replicas.py FILE --servers URL URL ...     # second turns on real ones, beside

The servers are scripted processes that write one token each ``PACE`` seconds, whatever else they
write; so times are of what is asked where, not of this machine.  ``ratio`` is against the time on
the two servers that nothing is wrong with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2

from reasoning import Context, Reasoner, Segment, Solution
from reasoning.models.server import ServerSource
from reasoning.values.sampling import Sampling

PACE, TOKENS = 0.2, 40
QUESTIONS, EACH = 12, 2
SLOWER = 10
THREADS, FEW = 100, 12


# ---- a scripted server ---------------------------------------------------------------------------


class ScriptedEngine:
    """Writes so many words to each request, ``pace`` seconds apart; the first names the answer."""

    def __init__(self, name: str, pace: float) -> None:
        self.name, self.pace = name, pace
        self.count = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                length = [line for line in lines if line.lower().startswith("content-length")]
                body = await reader.readexactly(int(length[0].partition(":")[2])) if length else b""
                await self._answer(lines[0].split()[1], json.loads(body or b"{}"), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        in_text = path.endswith("/v1/completions")
        if path.endswith("/models"):
            page = {"data": [{"id": "m", "max_model_len": 8192}]}
            writer.write(_page(page))
        elif path == "/health" or (in_text and not isinstance(body["prompt"], str)):
            writer.write(_page({}, "200 OK" if path == "/health" else "400 Bad Request"))
        else:
            self.count += 1
            first = f"{self.name}n{self.count} " if in_text else "So "
            words = [first, *["think "] * (TOKENS - 3), "\\boxed{42", "}"]
            words = words[: body.get("max_tokens", TOKENS)]
            await (self._stream if body.get("stream") else self._whole)(in_text, words, writer)
        await writer.drain()

    async def _whole(self, in_text: bool, words: list[str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.pace * len(words))
        text = "".join(words)
        part = {"text": text} if in_text else {"message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 9, "completion_tokens": len(words)}
        choice = {"index": 0, **part, "finish_reason": "stop"}
        writer.write(_page({"choices": [choice], "usage": usage}))

    async def _stream(self, in_text: bool, words: list[str], writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for word in [*words, None]:
            said = {"text": word or ""} if in_text else {"delta": {"content": word} if word else {}}
            reason = None if word else "stop"
            writer.write(_event({"choices": [{"index": 0, **said, "finish_reason": reason}]}))
            await writer.drain()
            await asyncio.sleep(self.pace if word else 0)
        usage = {"prompt_tokens": 9, "completion_tokens": len(words)}
        writer.write(_event({"choices": [], "usage": usage}) + _event("[DONE]") + b"0\r\n\r\n")


def _page(value: Any, status: str = "200 OK") -> bytes:
    data = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}"
    return head.encode() + b"\r\n\r\n" + data


def _event(value: Any) -> bytes:
    data = f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(port: int, pace: float) -> None:
    """Serve until the process is ended."""
    engine = ScriptedEngine(f"e{port}", pace)
    server = await asyncio.start_server(engine.meet, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


@contextmanager
def servers(*paces: float) -> Iterator[list[tuple[str, subprocess.Popen[bytes]]]]:
    """Scripted servers of these paces: their addresses and processes."""
    found = []
    try:
        for pace in paces:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            command = [sys.executable, __file__, "serve", str(port), str(pace)]
            found.append((f"http://127.0.0.1:{port}/v1", subprocess.Popen(command)))
        for url, _ in found:
            _wait_for(url)
        yield found
    finally:
        for _, process in found:
            process.kill()
            process.wait()


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            httpx2.get(f"{url}/models", timeout=5, trust_env=False)
        except httpx2.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)


# ---- what is measured ----------------------------------------------------------------------------


class Votes:
    """What became of a round of questions that were asked at once."""

    def __init__(self, solutions: list[Solution], seconds: float) -> None:
        self.solutions = solutions
        self.seconds = seconds

    def row(self, what: str, usual: float) -> dict[str, Any]:
        """A row of the results."""
        threads = [thread for one in self.solutions for thread in one.threads]
        return {
            "what": what,
            "seconds": round(self.seconds, 1),
            "ratio": round(self.seconds / usual, 2),
            "votes": sum(sum(one.votes.values()) for one in self.solutions),
            "lost": sum(thread.lost is not None for thread in threads),
            "written": sum(one.usage.completion_tokens for one in self.solutions),
            "thrown_away": sum(one.usage.discarded_tokens for one in self.solutions),
        }


async def votes(
    urls: list[str],
    *,
    times: int = 1,
    meanwhile: Callable[[], None] = lambda: None,
    **settings: Any,
) -> list[Votes]:
    """Rounds of questions, one after the other, with one reasoner."""
    found = []
    model = await ServerSource(base_urls=tuple(urls), mode="chat", **settings).connect()
    async with Reasoner(model) as reasoner:
        for _ in range(times):
            began = time.monotonic()
            solutions: list[Solution] = []

            async def ask(number: int, into: list[Solution]) -> None:
                question = f"What is 6*7? ({number})"
                into.append(await reasoner.solve(question, policy=f"sc:n={EACH}"))

            meanwhile()
            async with anyio.create_task_group() as group:
                for number in range(QUESTIONS):
                    group.start_soon(ask, number, solutions)
            found.append(Votes(solutions, time.monotonic() - began))
    return found


async def slow_and_killed() -> list[dict[str, Any]]:
    """One of three is ten times slower; one of three is killed."""
    with servers(PACE, PACE) as two:
        (first,) = await votes([url for url, _ in two])
    usual = first.seconds
    rows = [first.row("two servers", usual)]
    for whole in (False, True):
        form = "whole answers" if whole else "streams"
        for hedge in (False, True):
            with servers(PACE, PACE, SLOWER * PACE) as three:
                urls = [url for url, _ in three]
                times = 1 if hedge else 2
                met, *known = await votes(urls, times=times, hedge=hedge, stream=not whole)
            what = f"and a third, 10x slower, unknown; {form}" + ", hedged" * hedge
            rows.append(met.row(what, usual))
            rows += [one.row(f"the same, known by now; {form}", usual) for one in known]
    for what, number in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP)):
        with servers(PACE, PACE, PACE) as three:
            process = three[2][1]
            timer = threading.Timer(PACE * TOKENS / 2, os.kill, (process.pid, number))
            urls = [url for url, _ in three]
            (found,) = await votes(urls, meanwhile=timer.start, token_timeout=5.0)
            rows.append(found.row(f"and a third, {what} half way", usual))
    return rows


async def second_turns(urls: list[str], threads: int) -> dict[str, Any]:
    """How many second turns of as many threads go where the first was written."""
    model = await ServerSource(base_urls=tuple(urls), mode="text").connect()
    where: dict[Segment, list[str]] = {}
    async with model.backend as backend:
        choose = backend.replicas.choose

        def noted(own: Segment, prompt: bytes = b"") -> Any:
            found = choose(own, prompt)
            where.setdefault(own, []).append(found.url)
            return found

        backend.replicas.choose = noted
        prompts = [
            Context.given(model.dialect.encode(f"Question {n // 5}. ")) for n in range(threads)
        ]
        first = [Segment(one, []) for one in prompts]

        async def write(own: Segment) -> None:
            generation = backend.open(own, Sampling(temperature=1.0, seed=1, max_new_tokens=8))
            async for token in generation.tokens():
                own.tokens.append(token.token)
            generation.close()

        async def write_all(turn: list[Segment]) -> None:
            async with anyio.create_task_group() as group:
                for own in turn:
                    group.start_soon(write, own)
                    await anyio.sleep(PACE / 20)

        await write_all(first)
        more = model.dialect.encode(" Go on: ")
        pairs = zip(prompts, first, strict=True)
        again = [Segment(one.after(own), list(more)) for one, own in pairs]
        await write_all(again[::-1])
    back = sum(where[a][-1] == where[b][-1] for a, b in zip(first, again, strict=True))
    return {
        "servers": len(urls),
        "threads": threads,
        "back": back,
        "share": round(back / threads, 3),
    }


async def measured(real: list[str]) -> dict[str, Any]:
    """All of it, or second turns on real servers alone."""
    if real:
        return {"real": await second_turns(real, FEW)}
    with servers(*[PACE / 4] * 3) as three:
        turns = await second_turns([url for url, _ in three], THREADS)
    told = {"samples": QUESTIONS * EACH, "tokens": TOKENS, "pace_s": PACE, "turns": turns}
    return told | {"votes": await slow_and_killed()}


def main(path: Path, real: list[str]) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    results |= anyio.run(measured, real)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2]), float(sys.argv[3])))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("results", type=Path)
        parser.add_argument("--servers", nargs="*", default=[], metavar="URL")
        asked = parser.parse_args()
        main(asked.results, asked.servers)
