"""Clients that send the frames of UFO³'s, in its order and with its quirks, over a real socket.

Read from microsoft/UFO: ``aip/messages.py`` (fields and their order), ``aip/protocol/*.py``
(what is in which frame), ``ufo/client/websocket.py`` and ``ufo/client/computer.py`` (the device),
``galaxy/client/components/connection_manager.py``, ``heartbeat_manager.py`` and
``message_processor.py`` (Galaxy).  Nothing of it is copied.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import anyio
from pydantic import BaseModel
from websockets.asyncio.client import ClientConnection, connect

FIELDS = (
    *("type", "status", "client_type", "session_id", "task_name", "client_id", "target_id"),
    *("request", "action_results", "timestamp", "request_id", "prev_response_id", "error"),
    "metadata",
)
Status = Literal["continue", "completed", "failed", "ok", "error"]


class Action(BaseModel):
    tool_name: str
    parameters: dict[str, Any] | None
    tool_type: Literal["data_collection", "action"]
    call_id: str | None


class Said(BaseModel):
    """What their clients accept from a server; anything else they log and drop."""

    type: Literal["task", "heartbeat", "task_end", "command", "error", "device_info_response"]
    status: Status
    user_request: str | None
    agent_name: str | None
    process_name: str | None
    root_name: str | None
    actions: list[Action] | None
    messages: list[str] | None
    error: str | None
    session_id: str | None
    task_name: str | None
    timestamp: str | None
    response_id: str | None
    result: Any


def frame(kind: str, status: Status, **fields: Any) -> str:
    """A client's frame as ``model_dump_json`` writes it: every field, in order, nulls included."""
    whole = {"client_type": "device", "timestamp": datetime.now(UTC).isoformat(), **fields}
    whole |= {"type": kind, "status": status}
    return json.dumps({name: whole.get(name) for name in FIELDS}, separators=(",", ":"))


SYSTEM_INFO = {
    "device_id": "dev1",
    "platform": "linux",
    "os_version": "6.1",
    "cpu_count": 2,
    "memory_total_gb": 23.54,
    "hostname": "vm",
    "ip_address": "10.0.0.2",
    "supported_features": ["gui", "cli", "browser", "file_system", "office", "linux_apps"],
    "platform_type": "computer",
    "schema_version": "1.0",
    "custom_metadata": {},
}

Tool = Callable[[dict[str, Any]], Awaitable[Any]]


class Unrunnable(Exception):
    """A tool raises it where their client can't carry a command out: its server is down, say."""


class UfoDevice:
    """A device client: registers, asks for a task that it is given, answers commands one by one.

    Attributes:
        agents: The tools that it has loaded, by agent and name.
        eager: Whether it takes frames at once, as theirs does not.
        takes: The parameters of its tools.
        heard: All frames of the server, in order.
        tasks: Requests that it was given.
        ends: The ``task_end`` frames.
    """

    def __init__(
        self,
        socket: ClientConnection,
        name: str,
        tools: dict[str, Tool],
        *,
        platform: str = "linux",
        agents: dict[str, dict[str, Tool]] | None = None,
        eager: bool = False,
        takes: tuple[str, ...] = ("text",),
    ) -> None:
        self.socket = socket
        self.name = name
        self.platform = platform
        self.agents = {"LinuxAgent": tools} if agents is None else agents
        self.eager = eager
        self.takes = takes
        self.heard: list[Said] = []
        self.tasks: list[str] = []
        self.ends: list[Said] = []

    async def register(self) -> Said:
        now = datetime.now(UTC).isoformat()
        info = SYSTEM_INFO | {"platform": self.platform}
        metadata = {"system_info": info, "registration_time": now, "platform": self.platform}
        await self.socket.send(frame("register", "ok", client_id=self.name, metadata=metadata))
        return Said.model_validate_json(await self.socket.recv())

    async def listen(self) -> None:
        """Take frames; the next one is read when the last is dealt with."""
        async with anyio.create_task_group() as group:
            async for text in self.socket:
                said = Said.model_validate_json(text)
                self.heard.append(said)
                match said.type:
                    case "task":
                        assert said.user_request is not None
                        self.tasks.append(said.user_request)
                        await self.start_task(said.user_request, said.task_name)
                    case "command" if self.eager:
                        group.start_soon(self.execute, said)
                    case "command":
                        await self.execute(said)
                    case "task_end":
                        self.ends.append(said)

    async def start_task(self, request: str, task_name: str | None) -> None:
        """Its own ``task``; its session id is null, as it was reset just before."""
        await self.socket.send(
            frame(
                "task",
                "continue",
                client_id=self.name,
                task_name=task_name or str(uuid.uuid4()),
                request=request,
                request_id=str(uuid.uuid4()),
                metadata={"platform": "linux"},
            )
        )

    async def execute(self, said: Said) -> None:
        """As its router: what it can't carry out is an error in its log, and no answer at all."""
        try:
            results = [await self.result(said.agent_name, action) for action in said.actions or ()]
        except Unrunnable:
            return
        await self.socket.send(
            frame(
                "command_results",
                said.status,
                client_id=self.name,
                session_id=said.session_id,
                action_results=results,
                request_id=str(uuid.uuid4()),
                prev_response_id=said.response_id,
            )
        )

    async def result(self, agent: str | None, action: Action) -> dict[str, Any]:
        """What an action came to; what is false in Python, such as 0, is sent as null.

        Raises:
            Unrunnable: the agent or tool is unknown.
        """
        base = {"error": None, "result": None, "namespace": "linux", "call_id": action.call_id}
        tools = self.agents.get(agent or "")
        if tools is None or action.tool_type != "action":
            raise Unrunnable
        if action.tool_name == "list_tools":
            return {"status": "success", **base, "result": self.listed(tools) or None}
        if action.tool_name not in tools:
            raise Unrunnable
        try:
            found = await tools[action.tool_name](action.parameters or {})
        except ValueError as error:
            return {"status": "failure", **base, "error": str(error)}
        return {"status": "success", **base, "result": found or None}

    def listed(self, tools: dict[str, Tool]) -> list[dict[str, Any]]:
        takes = {name: {"type": "string"} for name in self.takes}
        return [
            {
                "tool_key": f"action::{name}",
                "tool_name": name,
                "title": None,
                "namespace": "linux",
                "tool_type": "action",
                "description": f"Does {name}.",
                "input_schema": {"type": "object", "properties": takes},
                "output_schema": {},
                "meta": {"_fastmcp": {"tags": []}},
                "annotations": None,
            }
            for name in tools
        ]

    async def heartbeat(self) -> None:
        await self.socket.send(frame("heartbeat", "ok", client_id=self.name))


@asynccontextmanager
async def device(
    url: str,
    token: str,
    name: str = "dev1",
    tools: dict[str, Tool] | None = None,
    **options: Any,
) -> AsyncIterator[UfoDevice]:
    """A registered device that listens until the block is left."""
    async with connect(f"{url}?token={token}", ping_interval=20, max_size=100 << 20) as socket:
        found = UfoDevice(socket, name, tools or {}, **options)
        answer = await found.register()
        assert (answer.type, answer.status) == ("heartbeat", "ok")
        async with anyio.create_task_group() as group:
            group.start_soon(found.listen)
            yield found
            group.cancel_scope.cancel()


class GalaxyClient:
    """A Galaxy client's connection to one device's server."""

    def __init__(self, socket: ClientConnection, target: str, task: str = "req1") -> None:
        self.socket = socket
        self.target = target
        self.task = task
        self.id = f"{task}@{target}"

    async def send(self, kind: str, status: Status, **fields: Any) -> None:
        known = {"client_type": "constellation", "client_id": self.id, "target_id": self.target}
        await self.socket.send(frame(kind, status, **{**known, **fields}))

    async def next(self, kind: str) -> Said:
        """The next frame of a kind; others are passed over, as their processor routes by kind."""
        with anyio.fail_after(10):
            while True:
                said = Said.model_validate_json(await self.socket.recv())
                if said.type == kind:
                    return said

    async def register(self) -> Said:
        capabilities = ["task_distribution", "session_management", "device_coordination"]
        metadata = {
            "type": "constellation_client",
            "task_name": self.task,
            "targeted_device_id": self.target,
            "capabilities": capabilities,
            "version": "2.0",
        }
        await self.send("register", "ok", metadata=metadata)
        with anyio.fail_after(10):
            return Said.model_validate_json(await self.socket.recv())

    async def heartbeat(self) -> Said:
        """By ``HeartbeatProtocol``, which leaves the role at its default, ``device``."""
        fields = {"client_id": self.id, "metadata": {"device_id": self.target}}
        await self.socket.send(frame("heartbeat", "ok", **fields))
        return await self.next("heartbeat")

    async def device_info(self) -> Said:
        id = f"device_info_{self.target}_{datetime.now(UTC).timestamp()}"
        await self.send("device_info_request", "ok", request_id=id)
        answer = await self.next("device_info_response")
        assert answer.response_id == id
        return answer

    async def start(self, request: str, task_id: str = "t1") -> str:
        session = f"{self.task}@{task_id}"
        name = f"galaxy/{self.task}/{task_id}"
        fields = {"session_id": session, "task_name": name, "request": request}
        await self.send("task", "continue", **fields)
        return session

    async def run(self, request: str, task_id: str = "t1") -> Said:
        """As ``send_task_to_device``: the result is found by its session id."""
        session = await self.start(request, task_id)
        while (end := await self.next("task_end")).session_id != session:
            pass
        return end


@asynccontextmanager
async def galaxy(url: str, token: str, target: str) -> AsyncIterator[GalaxyClient]:
    async with connect(f"{url}?token={token}", ping_interval=30, max_size=100 << 20) as socket:
        yield GalaxyClient(socket, target)
