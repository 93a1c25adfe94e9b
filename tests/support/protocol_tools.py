"""What the tests of the protocol share: functions to be called remotely, hubs, workers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import anyio
import anyio.lowlevel
from websockets.asyncio.client import connect

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


class RawSession:
    """A session with a hub that says whatever it is told to.

    Attributes:
        welcome: What the hub said first.
    """

    def __init__(self, hub: Hub, token: str, role: str = "worker", **hello: Any) -> None:
        self._url, self._token = hub.url, token
        offer = {"name": "t", "parameters": "{}", "result": "{}"}
        profile = {"profile": {"slots": 8, "tools": [offer]}} if role == "worker" else {}
        self._hello = {"type": "hello", "role": role} | profile | hello
        self._sent = self._got = 0
        self._heard: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._token}"}
        self.socket = await connect(self._url, additional_headers=headers, proxy=None)
        await self.socket.send(json.dumps(self._hello))
        self.welcome = json.loads(await self.socket.recv())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.socket.close()

    async def say(self, *messages: dict[str, Any]) -> None:
        """Send a frame."""
        frame = {"type": "frame", "ack": self._got, "seq": self._sent + 1, "body": messages}
        self._sent += len(messages)
        await self.socket.send(json.dumps(frame))

    async def answer(self, task: dict[str, Any]) -> None:
        """End a task with the value 1."""
        result = {"type": "result", "id": task["id"], "fence": task["fence"], "value": "1"}
        await self.say(result)

    async def hear(self, seconds: float = 5) -> dict[str, Any]:
        """The next numbered message, or what refuses the connection."""
        with anyio.fail_after(seconds):
            while not self._heard:
                frame = json.loads(await self.socket.recv())
                if frame["type"] == "refused":
                    return dict(frame)
                self._heard += frame.get("body", [])
                self._got += len(frame.get("body", []))
        return self._heard.pop(0)


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
