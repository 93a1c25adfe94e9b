"""Devices with a few tools, and a planner that replies as a list says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from protocol import Hub, Registry
from tests.support.protocol_tools import working

tools = Registry()


@tools.tool
def read(path: str) -> str:
    """Read a file."""
    return f"text of {path}"


@tools.tool
def count(texts: list[str]) -> int:
    """Count characters."""
    return sum(map(len, texts))


@tools.tool
async def wait(seconds: float) -> str:
    """Wait."""
    await anyio.sleep(seconds)
    return "waited"


@tools.tool
def break_down() -> str:
    """Always fails."""
    raise OSError("disk is full")


Reply = str | dict[str, Any] | Callable[[str], Any]


class Script:
    """A planner that says what stands in a list, and keeps what it was told."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []

    async def reply(self, prompt: str, schema: str) -> str:
        self.prompts.append(prompt)
        await anyio.lowlevel.checkpoint()
        reply = self.replies.pop(0) if self.replies else {}
        said = reply(prompt) if callable(reply) else reply
        return said if isinstance(said, str) else json.dumps(said)


def add(id: str, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"op": "add", "id": id, "tool": tool, "arguments": arguments or {}, **more}


@asynccontextmanager
async def fleet(**devices: dict[str, Any]) -> AsyncIterator[Hub]:
    async with Hub() as hub, anyio.create_task_group() as group:
        for name, options in (devices or {"box": {}}).items():

            async def work(
                name: str, options: dict[str, Any], task_status: Any = anyio.TASK_STATUS_IGNORED
            ) -> None:
                async with working(hub, name, registry=tools, **{"slots": 8, **options}):
                    task_status.started()
                    await anyio.sleep_forever()

            await group.start(work, name, options)
        yield hub
        group.cancel_scope.cancel()
