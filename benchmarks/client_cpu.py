"""What a token costs this machine's processor when a server elsewhere writes it.

    python benchmarks/client_cpu.py --json benchmarks/results/client-cpu.json

A scripted server in a process of its own answers chat requests, 32 at once, with 500 tokens each:
an event a token, in turn over all open answers, or a whole answer where no stream is asked for.
Arms, each in a process of its own, in turns: our backend by whole answers (``stream=false``),
streaming with nobody listening, streaming with a listener for every text; OpenAI's official client,
streaming; and bare asyncio, which splits lines and parses JSON.  ``us_per_token`` is the client's
processor time, which a busy machine changes little; ``tokens_per_s`` depends on it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any

AT_ONCE, TOKENS = 32, 500
QUESTION = "How many words is this?"
HEAD = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n"
STREAM = HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


# ---- the server ----------------------------------------------------------------------------------


def words(most: int) -> list[str]:
    return [*(f"w{i * i % 997} " for i in range(most - 1)), "\\boxed{4}"]


def framed(event: object) -> bytes:
    data = event if isinstance(event, bytes) else f"data: {json.dumps(event)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk"}
    return {**head, "created": 1764300000, "model": "m", "choices": [choice]}


def answer(body: dict[str, Any]) -> bytes | list[bytes]:
    """A whole answer, or what is sent of a stream one after the other."""
    bound = body.get("max_completion_tokens") or body.get("max_tokens") or TOKENS
    said = words(min(bound, TOKENS))
    written = len(said) + 1  # with the one that ends it
    count = {"prompt_tokens": 10, "completion_tokens": written, "total_tokens": 10 + written}
    if body.get("stream"):
        events = [framed(chunk({"content": one})) for one in said]
        ends = [
            chunk({}, "stop"),
            {**chunk({}), "choices": [], "usage": count},
            b"data: [DONE]\n\n",
        ]
        return [STREAM, *events, b"".join(map(framed, ends)) + b"0\r\n\r\n"]
    message = {"role": "assistant", "content": "".join(said)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return whole({"id": "c", "object": "chat.completion", "choices": [choice], "usage": count})


def whole(found: object) -> bytes:
    data = json.dumps(found).encode()
    return HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data


async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            sizes = [int(one[15:]) for one in lines if one.startswith(b"content-length:")]
            body = json.loads(await reader.readexactly(sizes[0])) if sizes else None
            models = {"object": "list", "data": [{"id": "m", "max_model_len": 8192}]}
            pieces = whole(models) if body is None else answer(body)
            for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)  # then the others write theirs
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve() -> None:
    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# ---- the clients ---------------------------------------------------------------------------------

Round = Callable[[], Awaitable[int]]
"""Asks once; returns how many tokens came."""


def ours(url: str, *, stream: bool, listens: bool = False) -> Callable[[], Awaitable[Round]]:
    async def start() -> Round:
        from reasoning import Reasoner
        from reasoning.models.server import ServerSource

        model = await ServerSource(base_urls=(url,), stream=stream).connect()
        reasoner = await Reasoner(model).__aenter__()
        heard: list[object] = []
        more: Any = {"listener": heard.append} if listens else {}

        async def once() -> int:
            solution = await reasoner.solve(QUESTION, policy=f"sc:n={AT_ONCE}", **more)
            assert solution.votes == {"4": AT_ONCE}
            assert bool(heard) == listens
            heard.clear()
            return solution.usage.completion_tokens

        return once

    return start


def official(url: str) -> Callable[[], Awaitable[Round]]:
    async def start() -> Round:
        import openai

        client = openai.AsyncOpenAI(base_url=url, api_key="none")

        async def ask() -> int:
            messages: Any = [{"role": "user", "content": QUESTION}]
            create = client.chat.completions.create
            stream = await create(model="m", messages=messages, stream=True, max_tokens=TOKENS)
            return len(
                [one async for one in stream if one.choices and one.choices[0].delta.content]
            )

        async def once() -> int:
            return sum(await asyncio.gather(*(ask() for _ in range(AT_ONCE))))

        return once

    return start


def bare(url: str) -> Callable[[], Awaitable[Round]]:
    port = int(url.rpartition(":")[2].partition("/")[0])
    body = json.dumps({"stream": True, "max_tokens": TOKENS}).encode()
    request = b"POST /v1 HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def start() -> Round:
        async def ask() -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            said = 0
            while (line := await reader.readline()) != b"data: [DONE]\n":
                if line.startswith(b"data: "):
                    choices = json.loads(line[6:])["choices"]
                    said += bool(choices and choices[0]["delta"])
            writer.close()
            return said

        async def once() -> int:
            return sum(await asyncio.gather(*(ask() for _ in range(AT_ONCE))))

        return once

    return start


ARMS: dict[str, Callable[[str], Callable[[], Awaitable[Round]]]] = {
    "whole answers": lambda url: ours(url, stream=False),
    "streaming": lambda url: ours(url, stream=True),
    "streaming, with a listener": lambda url: ours(url, stream=True, listens=True),
    "official client": official,
    "bare asyncio": bare,
}


async def measure(arm: str, url: str) -> dict[str, float]:
    once = await ARMS[arm](url)()
    await once()
    began, busy = time.perf_counter(), time.process_time()
    tokens = await once()
    busy, took = time.process_time() - busy, time.perf_counter() - began
    assert tokens in (AT_ONCE * TOKENS, AT_ONCE * (TOKENS + 1)), tokens
    return {"us_per_token": 1e6 * busy / tokens, "tokens_per_s": tokens / took}


def apart(arm: str, url: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--arm", arm, "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.exit(f"{arm} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--arm", choices=[*ARMS, "serve"], help="measure one in this process")
    parser.add_argument("--url", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    if options.arm:
        done = asyncio.run(serve() if options.arm == "serve" else measure(options.arm, options.url))
        print(json.dumps(done))
        return
    command = [sys.executable, __file__, "--arm", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        try:
            rounds = [{arm: apart(arm, url) for arm in ARMS} for _ in range(options.rounds)]
        finally:
            server.terminate()
    rows = []
    for arm in ARMS:
        found = {
            key: round(statistics.median(one[arm][key] for one in rounds), 1)
            for key in ("us_per_token", "tokens_per_s")
        }
        rows.append({"arm": arm, **found})
        print(*(f"{key}={value}" for key, value in rows[-1].items()))
    report = {
        "schema": "reason.benchmark.client-cpu/1",
        "at_once": AT_ONCE,
        "tokens": TOKENS,
        "rounds": options.rounds,
        "cpus": os.cpu_count(),
        "load": [round(one, 1) for one in os.getloadavg()],
        "versions": {one: metadata.version(one) for one in ("openai", "httpx", "anyio")},
        "results": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
