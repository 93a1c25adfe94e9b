"""What the tests of the protocol share: functions to be called remotely, hubs, workers."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel

from protocol import Hub, Registry, ThreadHost, Worker, WorkerSettings, progress
from protocol.hub.sessions import PeerSession

registry = Registry()


@dataclass(frozen=True)
class Point:
    x: int
    y: int


@registry.function
def double(number: int) -> int:
    return 2 * number


@registry.function
async def pause(seconds: float, then: str = "done") -> str:
    await anyio.sleep(seconds)
    return then


@registry.function
def block(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@registry.function
async def report(steps: int) -> int:
    for step in range(steps):
        progress(f"step {step}")
        await anyio.lowlevel.checkpoint()
    return steps


@registry.function
def fail(message: str) -> None:
    raise KeyError(message)


@registry.function
def move(point: Point, by: Point) -> Point:
    return Point(point.x + by.x, point.y + by.y)


@registry.function
def length(text: str) -> str:
    return text + text


@registry.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def session_of(hub: Hub, id: str) -> PeerSession:
    """A worker's session inside a hub, to do to it what networks do."""
    found = hub._handshake.sessions.of("worker", id)
    assert found is not None
    return found


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)


@asynccontextmanager
async def working(
    hub: Hub,
    name: str = "w",
    *,
    registry: Registry = registry,
    hosts: Iterable[ThreadHost] = (),
    **options: Any,
) -> AsyncIterator[Worker]:
    """A worker of the hub, connected, until the block is left."""
    known = {record.name for record in hub.tokens.list()}
    token = hub.tokens.rotate(name) if name in known else hub.tokens.create(name)
    settings = WorkerSettings(slowest_s=0.2, **options)
    worker = Worker(hub.url, token, registry, hosts=hosts, settings=settings)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await until(lambda: worker.id and worker.id in hub.workers)
        yield worker
        group.cancel_scope.cancel()
