"""A UFO³ device client as a worker: tool calls become commands, requests become sessions."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pydantic_core
from anyio.abc import TaskGroup
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import RemoteFailure
from protocol.ufo.commands import Commands, schema
from protocol.ufo.connection import Line
from protocol.ufo.frames import MOST_REQUEST, ClientFrame, ServerFrame, ended, failed, ok
from protocol.ufo.pilot import Pilot
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Down,
    Offer,
    Payload,
    Profile,
    Result,
    TaskFailure,
    TaskMessage,
)

REQUEST = "request"
"""The tool that takes a request in words; every device has it."""

BEGIN_S = 30.0
"""How long a device may take to answer a task with its own."""

AGENTS: dict[str, tuple[str, ...]] = {
    "windows": ("HostAgent", "AppAgent"),
    "linux": ("LinuxAgent",),
    "mobile": ("MobileAgent",),
}
"""Whose tools are loaded on a device, by its platform: names of UFO³'s ``mcp.yaml``."""


class Asked(BaseModel):
    """The arguments of the tool ``request``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: str = Field(min_length=1, max_length=MOST_REQUEST)
    task_name: str = Field(default="", max_length=300)


REQUEST_OFFER = Offer(
    name=REQUEST,
    description="Carry out a request in words.",
    parameters=json.dumps(Asked.model_json_schema()),
    result="{}",
)


class Device:
    """A registered device: a `protocol.WorkerTransport` for the hub, `Hands` for a pilot.

    AIP has no frame that stops a command.  A cancelled task gets no further command and a
    ``task_end``; a command that the device was at counts as leaked, its late result is ignored.

    Attributes:
        info: What it told of its system.
        receive: Where its results go, once it has a seat.
        begin: Called with the id, name and text of a task that the device itself starts.
    """

    inline = True

    def __init__(
        self, id: str, line: Line, registered: ClientFrame, pilot: Pilot, *, command_s: float
    ) -> None:
        metadata = registered.metadata or {}
        info = metadata.get("system_info")
        self.id = id
        self.client_id = registered.client_id
        self.info: dict[str, Any] = info if isinstance(info, dict) else {}
        platform = str(metadata.get("platform") or self.info.get("platform") or "windows")
        self.platform = platform if platform in AGENTS else "other"
        self.receive: Callable[[Result | Cancelled], None] = lambda _: None
        self.begin: Callable[[str, Asked], None] = lambda _id, _asked: None
        self._line = line
        self._pilot = pilot
        self._agents: tuple[str | None, ...] = AGENTS.get(self.platform, (None,))
        self._commands = Commands(id, line, self._agents, seconds=command_s)
        self._begun: dict[str, str] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._group: TaskGroup | None = None

    # ---- what it can do ------------------------------------------------------------------------

    @property
    def tools(self) -> tuple[Offer, ...]:
        """See `Hands.tools`."""
        return tuple(
            Offer(
                name=tool.tool_name,
                description=tool.description or "",
                parameters=schema(tool.input_schema),
                result=schema(tool.output_schema),
            )
            for tool in self._commands.tools.values()
        )

    @property
    def profile(self) -> Profile:
        """What it can do; one task at a time, as its client does."""
        features = self.info.get("supported_features")
        words = features if isinstance(features, list) else []
        tags = {word[:200] for word in words if isinstance(word, str) and word}
        return Profile(
            platform=self.platform, tags=frozenset(tags), tools=(REQUEST_OFFER, *self.tools)
        )

    async def discover(self, seconds: float) -> None:
        """Ask for its tools; a client that does not tell them in time has only ``request``."""
        await self._commands.discover(seconds, but=(REQUEST, "list_tools"))

    # ---- from the hub --------------------------------------------------------------------------

    def work(self, group: TaskGroup) -> None:
        """Use ``group`` for its tasks from now on."""
        self._group = group

    def leave(self) -> None:
        """End its connection."""
        self._line.close()

    async def alive(self, seconds: float) -> bool:
        """Whether its connection is more than half open."""
        return await self._line.answers(seconds)

    def send(self, message: Down) -> None:
        """See `protocol.WorkerTransport.send`."""
        if isinstance(message, TaskMessage):
            assert self._group is not None
            self._group.start_soon(self._run, message)
        elif isinstance(message, Cancel) and message.id in self._scopes:
            self._scopes[message.id].cancel()

    def provide(self, payload: Payload, data: bytes) -> None:
        """See `protocol.WorkerTransport.provide`; never called."""

    async def _run(self, task: TaskMessage) -> None:
        session = self._begun.pop(task.id, "")
        with anyio.CancelScope() as scope:
            self._scopes[task.id] = scope
            try:
                result = await self._perform(task, session)
            finally:
                self._scopes.pop(task.id, None)
                leaked = self._commands.forget(task.id)
        if scope.cancelled_caught:
            self._over(session or task.id, error="cancelled")
            self.receive(Cancelled(id=task.id, fence=task.fence, leaked=leaked))
        else:
            self.receive(result)

    async def _perform(self, task: TaskMessage, session: str) -> Result:
        try:
            arguments = pydantic_core.from_json(task.arguments)  # type: ignore[arg-type]
            if task.name == REQUEST:
                value = await self._steer(task, Asked.model_validate(arguments), session)
            else:
                value = await self._commands.call(task.name, arguments, task.id)
            text = pydantic_core.to_json(value).decode()
            return Result(id=task.id, fence=task.fence, value=text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            failure = TaskFailure(code="bad-arguments", message=f"{place}: {first['msg']}")
        except RemoteFailure as error:
            failure = TaskFailure(code=error.reason, kind=error.kind, message=str(error))
        return Result(id=task.id, fence=task.fence, failure=failure)

    async def _steer(self, task: TaskMessage, asked: Asked, session: str) -> Any:
        """A request: the device is given the task, asks for it in turn, and is sent commands."""
        name = asked.task_name or task.id
        if not session:
            session = await self._begin(task, asked, name)
        try:
            value = await self._pilot.steer(asked.request, _Bound(self, task.id))
        except RemoteFailure as error:
            self._over(session, error=str(error))
            raise
        self._over(session, result=value)
        return value

    async def _begin(self, task: TaskMessage, asked: Asked, name: str) -> str:
        frame = ServerFrame(
            type="task",
            status="continue",
            user_request=asked.request,
            task_name=name,
            session_id=task.id,
            agent_name=self._agents[0],
        )
        echo = await self._commands.ask(f"task {name}", frame, task.id, BEGIN_S)
        if echo is None:
            raise RemoteFailure("failed", "", f"device {self.id} did not begin; see its log")
        return echo.session_id or task.id

    def _over(self, session: str, *, result: Any = None, error: str | None = None) -> None:
        self._line.say(ended(session, result=result, error=error))

    # ---- from the device -----------------------------------------------------------------------

    def hear(self, frame: ClientFrame) -> None:
        """Take a frame."""
        match frame.type:
            case "heartbeat":
                self._line.say(ok())
            case "command_results":
                self._commands.answer(frame.prev_response_id or "", frame)
            case "task":
                self._asked(frame)
            case "error" | "task_end" | "device_info_response":
                return
            case _:
                self._line.say(failed(f"a device can't send {frame.type}"))

    def _asked(self, frame: ClientFrame) -> None:
        """Its own task: the echo of one that it was given, or one that its user typed."""
        if not frame.request:
            self._line.say(failed("request: there is none; say what is to be done"))
            return
        given = self._commands.answer(f"task {frame.task_name}", frame)
        session = frame.session_id or given or str(uuid.uuid4())
        self._line.say(ok(session))
        if given is None:
            id = f"ufo/{self.id}/{uuid.uuid4()}"
            self._begun[id] = session
            self.begin(id, Asked(request=frame.request, task_name=frame.task_name or ""))


@dataclass(frozen=True)
class _Bound:
    """A device in the hands of one task."""

    device: Device
    task: str

    @property
    def id(self) -> str:
        return self.device.id

    @property
    def tools(self) -> tuple[Offer, ...]:
        return self.device.tools

    async def call(self, tool: str, parameters: dict[str, Any]) -> Any:
        return await self.device._commands.call(tool, parameters, self.task)
