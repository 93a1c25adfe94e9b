"""What `reason serve` costs and gains as a proxy in front of a server.

    python benchmarks/proxy.py overhead [--base-url URL]     # writes results/proxy.json
    python benchmarks/proxy.py soak                          # writes results/proxy_soak.json
    python benchmarks/proxy.py width --kept FOLDER           # writes results/proxy_width.json

`overhead`: one sample by the proxy, and the same request to the server directly, both through
OpenAI's official client, turn by turn: tokens a second with 32 requests at once, time to the first
token with one at a time, and the proxy's processor time for each token.  Behind stands a server
that writes at a fixed pace, or a real one.

`soak`: a thousand requests of mixed kinds, 50 at a time, of which a fifth leaves in the middle;
then what the proxy still holds: tasks, threads, sockets, memory, and requests behind.

`width`: eight samples with and without a policy that stops early, for word problems whose samples
`word_problems.py` has kept in a FOLDER; behind, these are written again at a fixed pace.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import openai

RESULTS = Path(__file__).parent / "results"
AT_ONCE, TOKENS, PACE_S, ROUNDS, SINGLES = 32, 128, 0.05, 4, 60
REQUESTS, SOAK_AT_ONCE = 1000, 50
WIDTH, POLICIES = 8, ("sc:n=8", "async:k=8", "esc:w=4,n=8")
HELLO: Any = [{"role": "user", "content": "Tell me about trees."}]


# ---- the server behind ---------------------------------------------------------------------------


class Paced:
    """A chat server that writes a token each so many seconds, on one loop and by hand.

    It is cheap, so that what is measured is what stands before it.
    """

    def __init__(self, kept: dict[str, list[list[str]]] | None = None) -> None:
        self.open = 0
        self._kept = kept or {}
        self._asked: dict[str, int] = {}

    def _words(self, body: dict[str, Any]) -> list[str]:
        """The pieces of an answer: a kept sample's, in turn, or any."""
        question = body["messages"][-1]["content"]
        samples = self._kept.get(question)
        if samples:
            turn = self._asked[question] = self._asked.get(question, -1) + 1
            return samples[turn % len(samples)]
        count = min(body.get("max_tokens") or TOKENS, TOKENS)
        return [f"word{number} " for number in range(count)]

    async def connection(self, reader: Any, writer: Any) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", head, re.I)
                body = await reader.readexactly(int(found[1])) if found else b"{}"
                await self._answer(head.split(b" ")[1], json.loads(body), writer)
        writer.close()

    async def _answer(self, path: bytes, body: dict[str, Any], writer: Any) -> None:
        if path.endswith(b"/open"):
            await self._whole({"open": self.open}, writer)
        elif path.endswith(b"/models"):
            await self._whole({"data": [{"id": "paced", "max_model_len": 8192}]}, writer)
        elif not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "One."}}
            choice["finish_reason"] = "stop"
            await self._whole({"choices": [choice], "usage": {"prompt_tokens": 5}}, writer)
        else:
            self.open += 1
            try:
                await self._stream(body, writer)
            finally:
                self.open -= 1

    async def _whole(self, body: dict[str, Any], writer: Any) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}"
        writer.write(f"{head}\r\n\r\n".encode() + data)
        await writer.drain()

    async def _stream(self, body: dict[str, Any], writer: Any) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        words = self._words(body)
        for word in words:
            self._event(self._delta({"content": word}), writer)
            await writer.drain()
            if writer.transport.is_closing():
                raise ConnectionResetError
            await asyncio.sleep(PACE_S)
        self._event(self._delta({}, "stop"), writer)
        count = len(words) + 1
        usage = {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}
        self._event({"choices": [], "usage": usage}, writer)
        for data in (b"data: [DONE]\n\n", b""):
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        about = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "paced"}
        return {**about, "choices": [choice]}

    def _event(self, event: dict[str, Any], writer: Any) -> None:
        data = f"data: {json.dumps(event)}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def kept_samples(folder: Path) -> dict[str, dict[str, Any]]:
    """The questions of a folder, each with its right answer and its samples."""
    rows = [
        json.loads(line)
        for file in sorted(folder.glob("samples-*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return {row["question"]: row for row in rows if len(row["traces"]) == WIDTH}


def pieces(trace: dict[str, Any]) -> list[str]:
    """A sample's text in as many pieces as it has tokens."""
    text, count = trace["text"], max(1, trace["tokens"] - 1)
    cuts = [len(text) * number // count for number in range(count + 1)]
    return [text[a:b] for a, b in itertools.pairwise(cuts) if a < b]


async def paced(kept: Path | None) -> None:
    samples = kept_samples(kept) if kept else {}
    known = {question: [*map(pieces, row["traces"])] for question, row in samples.items()}
    listener = Paced(known).connection
    server = await asyncio.start_server(listener, "127.0.0.1", 0, limit=1 << 22)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


# ---- processes -----------------------------------------------------------------------------------


class Process:
    """A server in another process.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, started: subprocess.Popen[str]) -> None:
        self._started = started
        assert started.stdout is not None
        line = started.stdout.readline()
        self.url = line[line.index("http") :].strip()

    @property
    def cpu_s(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self._started.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def held(self) -> dict[str, int]:
        """What it holds: resident memory in kB, threads, open sockets."""
        status = Path(f"/proc/{self._started.pid}/status").read_text()
        numbers = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.M))
        links = Path(f"/proc/{self._started.pid}/fd").iterdir()
        sockets = sum(os.readlink(link).startswith("socket:") for link in links)
        return {
            "rss_kb": int(numbers["VmRSS"]),
            "threads": int(numbers["Threads"]),
            "sockets": sockets,
        }


@contextmanager
def process(*command: str) -> Iterator[Process]:
    """A server while the block runs."""
    started = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Process(started)
    finally:
        started.terminate()
        started.communicate()


# ---- overhead ------------------------------------------------------------------------------------


def client(url: str) -> openai.AsyncOpenAI:
    base = url if url.endswith("/v1") else f"{url}/v1"
    return openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0, timeout=600)


async def ask(asking: openai.AsyncOpenAI, model: str) -> tuple[float, int]:
    """Seconds to the first token of one answer, and how many came."""
    started, first, count = time.perf_counter(), 0.0, 0
    stream = await asking.chat.completions.create(
        model=model, messages=HELLO, stream=True, max_tokens=TOKENS, temperature=0
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.perf_counter() - started
            count += len(chunk.choices[0].delta.content.split()) or 1
    return first, count


async def burst(url: str, model: str) -> float:
    """Tokens a second of many requests at once."""
    async with client(url) as asking:
        started = time.perf_counter()
        found = await asyncio.gather(*(ask(asking, model) for _ in range(AT_ONCE)))
        return sum(count for _, count in found) / (time.perf_counter() - started)


async def compare(direct: str, proxy: Process, model: str) -> dict[str, Any]:
    async with client(direct) as one, client(proxy.url) as other:
        both: tuple[list[float], list[float]] = ([], [])
        for _ in range(SINGLES):
            both[0].append(await ask_first(one, model))
            both[1].append(await ask_first(other, model))
    rates: tuple[list[float], list[float]] = ([], [])
    used = 0.0
    for _ in range(ROUNDS):
        rates[0].append(await burst(direct, model))
        before = proxy.cpu_s
        rates[1].append(await burst(proxy.url, model))
        used += proxy.cpu_s - before
    ratios = [theirs / ours for ours, theirs in zip(*rates, strict=True)]
    return {
        "first_token_ms": {
            "direct_p50": round(1000 * statistics.median(both[0]), 2),
            "proxy_p50": round(1000 * statistics.median(both[1]), 2),
            "added_p50": round(1000 * (statistics.median(both[1]) - statistics.median(both[0])), 2),
        },
        "tokens_per_s": {
            "direct": round(statistics.median(rates[0]), 1),
            "proxy": round(statistics.median(rates[1]), 1),
            "ratio": round(statistics.median(ratios), 3),
        },
        "proxy_cpu_ms_per_token": round(1000 * used / (ROUNDS * AT_ONCE * TOKENS), 3),
    }


async def ask_first(asking: openai.AsyncOpenAI, model: str) -> float:
    """Seconds from sending a request to its first token."""
    started = time.perf_counter()
    stream = await asking.chat.completions.create(
        model=model, messages=HELLO, stream=True, max_tokens=2, temperature=0
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    first = time.perf_counter() - started
    await stream.close()
    return first


def overhead(base_url: str | None) -> dict[str, Any]:
    with process(__file__, "paced") as behind:
        direct = base_url or behind.url
        model = httpx.get(f"{direct.removesuffix('/v1')}/v1/models").json()["data"][0]["id"]
        serve = ("-m", "reasoning", "serve", "--port", "0", "--base-url", direct)
        with process(*serve) as proxy:
            found = asyncio.run(compare(direct, proxy, model))
    return {
        "schema": "reason.bench.proxy/1",
        "behind": "a real server" if base_url else f"a token each {1000 * PACE_S:.0f} ms",
        "at_once": AT_ONCE,
        "tokens": TOKENS,
        "rounds": ROUNDS,
        **found,
    }


# ---- soak ----------------------------------------------------------------------------------------


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
KINDS: tuple[dict[str, Any], ...] = (
    {"model": "paced"},
    {"model": "paced/self-consistency:n=4"},
    {"model": "paced", "stream": True},
    {"model": "paced/self-consistency:n=4", "stream": True},
    {"model": "paced", "stream": True, "tools": [TOOL]},
    {"model": "paced", "n": 2},
    {"model": "nobody"},
    {"model": "paced", "temperature": 9},
)


async def soak_one(http: httpx.AsyncClient, rng: random.Random) -> str:
    """One request of some kind; what came of it."""
    kind = rng.choice(KINDS)
    body = {"max_tokens": rng.choice((4, 16, 40)), **kind}
    leaves = rng.random() < 0.2
    with suppress(httpx.HTTPError, TimeoutError):
        if rng.random() < 0.2:
            told = {**body, "input": HELLO, "max_output_tokens": body.pop("max_tokens")}
            told = {k: v for k, v in told.items() if k not in ("n", "tools", "max_tokens")}
            path = "/v1/responses"
        else:
            told, path = {**body, "messages": HELLO}, "/v1/chat/completions"
        async with asyncio.timeout(0.3 if leaves else 120):
            answer = await http.post(path, json=told)
            return str(answer.status_code)
    return "left" if leaves else "failed"


async def until_idle(http: httpx.AsyncClient, behind: Process) -> float:
    """Wait until the server behind writes nothing; the seconds that it took."""
    started = time.monotonic()
    while (await http.get(f"{behind.url}/open")).json()["open"]:  # noqa: ASYNC110  another process
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def soak_all(proxy: Process, behind: Process) -> dict[str, Any]:
    rng, outcomes = random.Random(3), dict[str, int]()
    slots = asyncio.Semaphore(SOAK_AT_ONCE)

    async def one() -> None:
        async with slots:
            outcome = await soak_one(http, rng)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    limits = httpx.Limits(max_connections=200)
    held = []
    async with httpx.AsyncClient(base_url=proxy.url, timeout=120, limits=limits) as http:
        for _ in range(5):  # the first fifth warms up
            await asyncio.gather(*(one() for _ in range(REQUESTS // 5)))
            idle = await until_idle(http, behind)
            held.append({**proxy.held, "behind_idle_s": round(idle, 2)})
        text = (await http.get("/metrics")).text
    await asyncio.sleep(1)
    gauges = dict(re.findall(r"^reason_(runs|runs_waiting|branches_admitted) (\S+)$", text, re.M))
    return {
        "outcomes": dict(sorted(outcomes.items())),
        "after_each_fifth": held,
        "memory_growth": round(held[-1]["rss_kb"] / held[0]["rss_kb"] - 1, 4),
        "sockets_at_the_end": proxy.held["sockets"],
        "gauges": {name: float(value) for name, value in gauges.items()},
        "stopped_behind_s": await leaving(proxy, behind),
    }


async def leaving(proxy: Process, behind: Process) -> list[float]:
    """How long the server behind goes on for clients that left, in seconds."""
    found = []
    async with httpx.AsyncClient(base_url=proxy.url, timeout=60) as http:
        for _ in range(10):
            body = {"model": "paced/self-consistency:n=8", "messages": HELLO, "stream": True}
            async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for _ in answer.aiter_bytes():
                    if (await http.get(f"{behind.url}/open")).json()["open"] == 8:
                        break
            found.append(round(await until_idle(http, behind), 3))
    return sorted(found)


def soak() -> dict[str, Any]:
    with process(__file__, "paced") as behind:
        serve = ("-m", "reasoning", "serve", "--port", "0", "--base-url", behind.url)
        with process(*serve) as proxy:
            found = asyncio.run(soak_all(proxy, behind))
    return {
        "schema": "reason.bench.proxy-soak/1",
        "requests": REQUESTS,
        "at_once": SOAK_AT_ONCE,
        **found,
    }


# ---- width ---------------------------------------------------------------------------------------


async def ask_width(asking: openai.AsyncOpenAI, question: str, policy: str) -> dict[str, float]:
    """Time to the first token of the answer, and tokens, of one question."""
    started, first, usage, extra = time.perf_counter(), None, None, {}
    stream = await asking.chat.completions.create(
        model=f"paced/self-consistency:policy={policy}",
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"x_reason": {"thoughts": "none"}},
    )
    async for chunk in stream:
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - started
        usage = chunk.usage or usage
        extra = (chunk.model_extra or {}).get("x_reason") or extra
    return {
        "first_s": first if first is not None else float("nan"),
        "tokens": usage.completion_tokens if usage else 0,
        "stopped": float(extra.get("saved_tokens", 0) > 0),
    }


async def widths(url: str, questions: list[str]) -> dict[str, Any]:
    found: dict[str, list[dict[str, float]]] = {policy: [] for policy in POLICIES}
    slots = asyncio.Semaphore(4)

    async def one(question: str) -> None:
        async with slots:
            for policy in POLICIES:
                found[policy].append(await ask_width(asking, question, policy))

    async with client(url) as asking:
        await asyncio.gather(*map(one, questions))
    return {
        policy: {
            "first_content_s_p50": round(statistics.median(row["first_s"] for row in rows), 3),
            "tokens_mean": round(statistics.fmean(row["tokens"] for row in rows), 1),
            "stopped_early": round(statistics.fmean(row["stopped"] for row in rows), 3),
        }
        for policy, rows in found.items()
    }


def width(kept: Path, most: int) -> dict[str, Any]:
    questions = list(kept_samples(kept))[:most]
    with process(__file__, "paced", "--kept", str(kept)) as behind:
        serve = ("-m", "reasoning", "serve", "--port", "0", "--base-url", behind.url)
        with process(*serve) as proxy:
            found = asyncio.run(widths(proxy.url, questions))
    return {
        "schema": "reason.bench.proxy-width/1",
        "questions": len(questions),
        "pace_ms": 1000 * PACE_S,
        "policies": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["overhead", "soak", "width", "paced"])
    parser.add_argument("--base-url")
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--out")
    given = parser.parse_args()
    if given.what == "paced":
        asyncio.run(paced(given.kept))
        return
    load = os.getloadavg()[0]
    kinds = {
        "overhead": lambda: overhead(given.base_url),
        "soak": soak,
        "width": lambda: width(given.kept, given.questions),
    }
    report = kinds[given.what]()
    report |= {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_at_start": round(load, 2),
    }
    name = "proxy.json" if given.what == "overhead" else f"proxy_{given.what}.json"
    file = Path(given.out) if given.out else RESULTS / name
    file.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
