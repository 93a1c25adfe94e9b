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

from orchestrator.journal.codec import why
from protocol.errors import RemoteFailure
from protocol.hub.task_handles import TaskRequest
from protocol.ufo.commands import DeviceCommands
from protocol.ufo.connection import UfoConnection
from protocol.ufo.frames import MOST_REQUEST, ClientFrame, ServerFrame, ended, failed, ok
from protocol.ufo.pilots import Pilot
from protocol.ufo.secrets import DeviceSecrets, SecretStore
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Down,
    Offer,
    Payload,
    Profile,
    Result,
    TaskBudget,
    TaskFailure,
    TaskMessage,
    TaskNeeds,
)

REQUEST = "request"
"""The tool that takes a request in words; every device has it."""

PATIENCE_S = 10.0
"""How long a request waits for a device that has just left, or has not quite arrived."""

BEGIN_S = 30.0
"""How long a device may take to answer a task with its own."""

AGENTS: dict[str, tuple[str, ...]] = {
    "windows": ("HostAgent", "AppAgent"),
    "linux": ("LinuxAgent",),
    "mobile": ("MobileAgent",),
}
"""Whose tools are loaded on a device, by its platform: names of UFO³'s ``mcp.yaml``."""


class RequestArguments(BaseModel):
    """The arguments of the tool ``request``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: str = Field(min_length=1, max_length=MOST_REQUEST)
    task_name: str = Field(default="", max_length=300)


REQUEST_OFFER = Offer(
    name=REQUEST,
    description="Carry out a request in words.",
    parameters=json.dumps(RequestArguments.model_json_schema()),
    result="{}",
)


def request_to(worker: str, id: str, arguments: str) -> TaskRequest:
    """The task of carrying out a request on one worker."""
    return TaskRequest(
        id=id,
        kind="tool",
        name=REQUEST,
        arguments=arguments,
        needs=TaskNeeds(worker=worker),
        budget=TaskBudget(attempts=1),  # what a device has done is not done twice
        patience_s=PATIENCE_S,
    )


class UfoDevice:
    """A registered device, which the hub reaches as the `protocol.WorkerTransport` of a worker.

    AIP has no frame that stops a command.  A cancelled task gets no further command, and a
    ``task_end``; a command that the device was at counts as leaked, and its result is ignored.

    Attributes:
        info: What it told of its system.
        receive: Takes its results, once it is a worker of the hub.
        begin: Called with the id, name and text of a task that the device itself starts.
    """

    inline = True

    def __init__(
        self,
        id: str,
        connection: UfoConnection,
        registered: ClientFrame,
        pilot: Pilot,
        *,
        command_s: float,
        secrets: SecretStore,
    ) -> None:
        metadata = registered.metadata or {}
        info = metadata.get("system_info")
        self.id = id
        self.client_id = registered.client_id
        self.info: dict[str, Any] = info if isinstance(info, dict) else {}
        platform = str(metadata.get("platform") or self.info.get("platform") or "windows")
        self.platform = platform if platform in AGENTS else "other"
        self.receive: Callable[[Result | Cancelled], None] = lambda _: None
        self.begin: Callable[[str, RequestArguments], object] = lambda _id, _asked: None
        self._connection = connection
        self._pilot = pilot
        self._agents: tuple[str | None, ...] = AGENTS.get(self.platform, (None,))
        self._secrets = DeviceSecrets(secrets, id)
        self._commands = DeviceCommands(id, connection, self._agents, command_s, self._secrets)
        self._begun: dict[str, str] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._group: TaskGroup | None = None

    # ---- what it can do ------------------------------------------------------------------------

    @property
    def tools(self) -> tuple[Offer, ...]:
        """The tools that it told of."""
        return tuple(
            Offer(
                name=tool.tool_name,
                description=tool.description or "",
                parameters=json.dumps(self._secrets.hide(tool.input_schema or {})),
                result=json.dumps(tool.output_schema or {}),
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
        self._connection.close()

    async def alive(self, seconds: float) -> bool:
        """Whether its client answers a ping within ``seconds``."""
        return await self._connection.answers(seconds)

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
                value = await self._steer(task, RequestArguments.model_validate(arguments), session)
            else:
                value = await self._commands.call(task.name, arguments, task.id)
            text = pydantic_core.to_json(value).decode()
            json.dumps(pydantic_core.from_json(text), allow_nan=False)  # NaN is none
            return Result(id=task.id, fence=task.fence, value=text)
        except ValidationError as error:
            failure = TaskFailure(code="bad-arguments", message=why(error))
        except RemoteFailure as error:
            failure = TaskFailure(code=error.reason, kind=error.kind, message=str(error))
        except Exception as error:  # only this task has failed, not the device
            failure = TaskFailure(code="failed", kind=type(error).__name__, message=str(error))
        return Result(id=task.id, fence=task.fence, failure=failure)

    async def _steer(self, task: TaskMessage, asked: RequestArguments, session: str) -> Any:
        """Carry out a request: the device is given the task, echoes it, and is sent commands."""
        name = asked.task_name or task.id
        if not session:
            session = await self._begin(task, asked, name)
        try:
            value = await self._pilot.steer(
                asked.request, _TaskDevice(self.id, self.tools, self._commands, task.id)
            )
        except RemoteFailure as error:
            self._over(session, error=str(error))
            raise
        self._over(session, result=value)
        return value

    async def _begin(self, task: TaskMessage, asked: RequestArguments, name: str) -> str:
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
        self._connection.say(ended(session, result=result, error=error))

    # ---- from the device -----------------------------------------------------------------------

    def hear(self, frame: ClientFrame) -> None:
        """Take a frame."""
        match frame.type:
            case "heartbeat":
                self._connection.say(ok())
            case "command_results":
                self._commands.answer(frame.prev_response_id or "", frame)
            case "task":
                self._asked(frame)
            case "error" | "task_end" | "device_info_response":
                return
            case _:
                self._connection.say(failed(f"a device can't send {frame.type}"))

    def _asked(self, frame: ClientFrame) -> None:
        """Take a task: the echo of one that the device was given, or one that its user typed."""
        if not frame.request:
            self._connection.say(failed("request: there is none; say what is to be done"))
            return
        given = self._commands.answer(f"task {frame.task_name}", frame)
        session = frame.session_id or given or str(uuid.uuid4())
        self._connection.say(ok(session))
        if given is None:
            id = f"ufo/{self.id}/{uuid.uuid4()}"
            self._begun[id] = session
            self.begin(id, RequestArguments(request=frame.request, task_name=frame.task_name or ""))


@dataclass(frozen=True)
class _TaskDevice:
    """A `SteeredDevice` whose commands belong to one task."""

    id: str
    tools: tuple[Offer, ...]
    commands: DeviceCommands
    task: str

    async def call(self, tool: str, parameters: dict[str, Any]) -> Any:
        return await self.commands.call(tool, parameters, self.task)
