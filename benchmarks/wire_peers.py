"""Calls of others that `wire.py` compares with, and how a call is measured."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

CALLS, TASKS, IN_FLIGHT = 400, 6_000, 512


async def round_trips(call: Callable[[int], Awaitable[Any]], count: int) -> list[float]:
    times = []
    for number in range(count):
        began = time.perf_counter()
        await call(number)
        times.append(time.perf_counter() - began)
    return times


async def throughput(call: Callable[[int], Awaitable[Any]], count: int) -> float:
    """Calls a second, so many under way at once."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(caller())
    return count / (time.perf_counter() - began)


def quantiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": round(1e3 * ordered[len(ordered) // 2], 3),
        "p99_ms": round(1e3 * ordered[int(len(ordered) * 0.99)], 3),
    }


Measured = tuple[list[float], float]


async def ray_actor(prefix: str) -> Measured:
    import ray

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=40, num_cpus=2)

    @ray.remote
    class Echo:
        async def echo(self, number: int) -> int:
            return number

    actor = Echo.remote()
    await round_trips(actor.echo.remote, 100)
    times = await round_trips(actor.echo.remote, CALLS)
    rate = await throughput(actor.echo.remote, TASKS)
    ray.kill(actor)
    return times, rate


async def a2a(prefix: str) -> Measured:
    """A blocking message to an agent of a2a-sdk's own parts, by its JSON-RPC binding."""
    import httpx
    import serving

    with serving.process(serving.__file__, "bare") as url:
        async with httpx.AsyncClient(timeout=60) as client:

            async def call(number: int) -> None:
                message = {
                    "role": "ROLE_USER",
                    "parts": [{"text": str(number)}],
                    "messageId": uuid.uuid4().hex,
                }
                body = {
                    "jsonrpc": "2.0",
                    "id": number,
                    "method": "SendMessage",
                    "params": {"message": message},
                }
                answer = await client.post(f"{url}/rpc", json=body, headers=serving.VERSION)
                assert "TASK_STATE_COMPLETED" in answer.text

            await round_trips(call, 50)
            times = await round_trips(call, CALLS // 2)
            return times, await throughput(call, 1_000)
