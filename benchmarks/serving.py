"""What `reason serve` adds: to a solved problem, to a streamed chunk, to an A2A round trip.

    python benchmarks/serving.py        # writes results/serving.json

Each arm runs beside its baseline, turn by turn, over loopback sockets and between two processes:

- a problem by HTTP, and the same problem by `Reasoner.solve` in the process of the server's model;
- a chunk's way from the branch that wrote it to the client, and through a bare Starlette stream;
- a blocking A2A message that is answered at once, and the same at an agent of a2a-sdk's own parts.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, Part, Task, TaskState, TaskStatus
from a2a.utils.errors import UnsupportedOperationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from protocol.http import (
    BranchText,
    ChosenAnswer,
    EngineLoad,
    ModelVariant,
    ReasoningRequest,
    ReasoningResult,
    RunPlan,
    ServerSettings,
)
from protocol.http.server import HttpServer, address, bind
from protocol.http.service import BranchListener

RESULTS = Path(__file__).parent / "results" / "serving.json"
PROBLEMS, CONTEXT, CHUNKS, ROUNDS = 60, 256, 1000, 300
EVERY_S = 0.005
VERSION = {"A2A-Version": "1.0"}


class Clock:
    """A service whose branches write the time, so that a reader knows how long it took."""

    variants = (ModelVariant(id="clock", title="clock", description="Tells the time."),)
    load = EngineLoad(threads=0, leaked=0)

    def check(self, request: ReasoningRequest) -> RunPlan:
        return RunPlan(model="clock", strategy="clock")

    async def answer(
        self, request: ReasoningRequest, listen: BranchListener, *, width: int | None = None
    ) -> ReasoningResult:
        for _ in range(0 if request.question == "now" else CHUNKS):
            await anyio.sleep(EVERY_S)
            listen(BranchText(branch="1", text=f" {time.monotonic_ns()}"))
        return ReasoningResult(
            answers=(ChosenAnswer(text="done", answer="done"),),
            status="finished",
            cut=False,
            verified=None,
            confidence=1.0,
            strategy="clock",
            branches=1,
            prompt_tokens=0,
            completion_tokens=0,
            span_tokens=0,
            wall_s=0.0,
        )


class Echo(AgentExecutor):
    """The least that an agent of a2a-sdk can do."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task, where = str(context.task_id), str(context.context_id)
        status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(Task(id=task, context_id=where, status=status))
        updater = TaskUpdater(event_queue, task, where)
        await updater.start_work()
        await updater.add_artifact([Part(text="done")])
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise UnsupportedOperationError("it has ended before anybody could cancel it")


def bare() -> Starlette:
    """The baselines: a plain stream of server-sent events, and a2a-sdk's own handler."""

    async def stream(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(CHUNKS):
                await anyio.sleep(EVERY_S)
                yield b'data: {"delta": {"reasoning": " %d"}}\n\n' % time.monotonic_ns()

        return StreamingResponse(chunks(), media_type="text/event-stream")

    card = AgentCard(name="echo", description="echo", version="1")
    card.capabilities.CopyFrom(AgentCapabilities(streaming=True))
    handler = DefaultRequestHandler(Echo(), InMemoryTaskStore(), card)
    return Starlette(routes=[Route("/bare", stream), *create_jsonrpc_routes(handler, "/rpc")])


def serve(kind: str) -> None:
    """The other process."""
    listener = bind("127.0.0.1", 0)
    print(address(listener), flush=True)
    if kind == "bare":
        config = uvicorn.Config(bare(), log_level="error", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])
        return
    settings = ServerSettings(a2a=True, drain=0)
    anyio.run(HttpServer(Clock(), settings, listener, signals=True).run_until_stopped)


@contextmanager
def process(*command: str) -> Iterator[str]:
    """A server in another process, and its URL."""
    started = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert started.stdout is not None
    try:
        line = started.stdout.readline()
        yield line[line.index("http") :].strip()
    finally:
        started.terminate()
        started.communicate()


def spread(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds."""
    ordered = sorted(values)
    return {
        "p50_ms": round(1000 * statistics.median(ordered), 3),
        "p95_ms": round(1000 * ordered[int(0.95 * (len(ordered) - 1))], 3),
    }


def delays(client: httpx.Client, method: str, url: str, **more: Any) -> list[float]:
    """For each chunk of a stream, the seconds since it was written."""
    found: list[float] = []
    with client.stream(method, url, **more) as response:
        for line in response.iter_lines():
            now = time.monotonic_ns()
            if '"reasoning": "' in line:
                text = line.partition('"reasoning": "')[2].partition('"')[0]
                found.append((now - int(text.split()[-1])) / 1e9)
    return found


def chunks() -> dict[str, Any]:
    body = {"model": "clock", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    with (
        process(__file__, "clock") as url,
        process(__file__, "bare") as other,
        httpx.Client(timeout=120) as client,
    ):
        ours: list[float] = []
        plain: list[float] = []
        for _ in range(3):
            ours += delays(client, "POST", f"{url}/v1/chat/completions", json=body)
            plain += delays(client, "GET", f"{other}/bare")
    added = statistics.median(ours) - statistics.median(plain)
    return {
        "chunks": len(ours),
        "reason_serve": spread(ours),
        "bare_starlette": spread(plain),
        "added_p50_ms": round(1000 * added, 3),
    }


def round_trips() -> dict[str, Any]:
    def ask(client: httpx.Client, url: str) -> float:
        message = {
            "role": "ROLE_USER",
            "parts": [{"text": "now"}],
            "messageId": uuid.uuid4().hex,
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
        started = time.perf_counter()
        answer = client.post(url, json=body, headers=VERSION).json()
        took = time.perf_counter() - started
        assert answer["result"]["task"]["status"]["state"] == "TASK_STATE_COMPLETED", answer
        return took

    with (
        process(__file__, "clock") as url,
        process(__file__, "bare") as other,
        httpx.Client(timeout=60) as client,
    ):
        pairs = [(ask(client, f"{url}/a2a"), ask(client, f"{other}/rpc")) for _ in range(ROUNDS)]
    ours, theirs = map(list, zip(*pairs[20:], strict=True))
    ratio = statistics.median(theirs) / statistics.median(ours)
    return {
        "rounds": len(ours),
        "reason_serve": spread(ours),
        "a2a_sdk": spread(theirs),
        "sdk_over_ours": round(ratio, 2),
    }


def problems() -> dict[str, Any]:
    from reasoning import load_model
    from reasoning.evaluation import draw_problems
    from reasoning.solver import Reasoner

    questions = [
        problem.question for problem in draw_problems("countdown", PROBLEMS, numbers=4, seed=3)
    ]

    async def main(url: str) -> tuple[list[float], list[float], list[float]]:
        direct: list[float] = []
        whole: list[float] = []
        streamed: list[float] = []
        async with httpx.AsyncClient(timeout=120) as client, Reasoner(load_model()) as reasoner:
            for question in questions:
                started = time.perf_counter()
                await reasoner.solve(question, strategy="single", max_tokens=CONTEXT)
                direct.append(time.perf_counter() - started)
                for stream, kept in ((False, whole), (True, streamed)):
                    body = {
                        "model": "reason-5m/single",
                        "stream": stream,
                        "messages": [{"role": "user", "content": question}],
                        "x_reason": {"context": CONTEXT},
                    }
                    started = time.perf_counter()
                    answer = await client.post(f"{url}/v1/chat/completions", json=body)
                    kept.append(time.perf_counter() - started)
                    answer.raise_for_status()
        return direct, whole, streamed

    with process("-m", "reasoning", "serve", "--port", "0") as url:
        direct, whole, streamed = anyio.run(main, url)
    pairs = zip(whole, direct, strict=True)
    more = zip(streamed, direct, strict=True)
    return {
        "problems": len(direct),
        "in_process": spread(direct),
        "by_http": spread(whole),
        "by_http_streamed": spread(streamed),
        "added_p50_ms": round(1000 * statistics.median(a - b for a, b in pairs), 3),
        "added_streamed_p50_ms": round(1000 * statistics.median(a - b for a, b in more), 3),
    }


def main() -> None:
    load = os.getloadavg()[0]
    report = {
        "schema": "reason.bench.serving/1",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_at_start": round(load, 2),
        "chunk": chunks(),
        "a2a_round_trip": round_trips(),
        "problem": problems(),
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1])
    else:
        main()
