"""Commands to a UFO³ device, and the wait for their answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import ValidationError

from protocol.errors import RemoteFailure
from protocol.ufo.connection import UfoConnection
from protocol.ufo.frames import (
    ClientFrame,
    Command,
    CommandResult,
    ServerFrame,
    ToolInfo,
    ToolType,
    tool_infos,
)
from protocol.ufo.secrets import DeviceSecrets

MOST_TOOLS = 500

GRACE_S = 1.0
"""How long the first answer may take after the answer to a later frame. Without it by then, the
client is known to work in order, and has no answer to the earlier frame."""


@dataclass(kw_only=True)
class _AwaitedAnswer:
    """An answer of the device that is waited for.

    Attributes:
        before: The answer that a client that works in order gives first.
        frame: The answer, once it has come.
        passed: Whether a later frame was answered first.
    """

    task: str
    command: bool
    before: _AwaitedAnswer | None = None
    frame: ClientFrame | None = None
    passed: bool = False


@dataclass(eq=False)
class DeviceCommands:
    """Sends commands to a device, and waits for their results.

    A device client that can't carry a command out (the tool is unknown, or its server is down)
    writes that into its own log and sends nothing.  So an empty command follows each command: the
    client takes one frame after the other, and its answer to the empty one shows that there will
    be none to the command before.

    Attributes:
        device: Its name, for messages.
        agents: Whose tools are loaded there: names of UFO³'s ``mcp.yaml``.
        seconds: How long a command may take.
        secrets: What is put into its calls, and taken out of what it says.
        tools: What the device told that it can call, by name.
    """

    device: str
    connection: UfoConnection
    agents: tuple[str | None, ...]
    seconds: float
    secrets: DeviceSecrets
    tools: dict[str, ToolInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._of: dict[str, str | None] = {}
        self._awaited: dict[str, _AwaitedAnswer] = {}
        self._news = anyio.Event()
        self._in_order: bool | None = None

    async def discover(self, seconds: float, *, but: tuple[str, ...]) -> None:
        """Fill `tools`; where two agents have tools of one name, the first agent's counts.

        Args:
            seconds: How long the device may take to answer anything.
            but: Names to leave out.
        """
        for agent in self.agents:
            for tool in await self._listed(agent, seconds):
                if tool.tool_name not in (*but, *self.tools) and len(self.tools) < MOST_TOOLS:
                    self.tools[tool.tool_name] = tool
                    self._of[tool.tool_name] = agent

    async def _listed(self, agent: str | None, seconds: float) -> list[ToolInfo]:
        """The tools of an agent; ``list_tools`` may be of either kind, so both are tried."""
        kinds: tuple[ToolType, ...] = ("action", "data_collection")
        for kind in kinds:
            try:
                result = await self._command("list_tools", {}, kind, agent, "", seconds)
                return tool_infos.validate_python(result or [])
            except (RemoteFailure, ValidationError):
                if self._in_order is None:
                    break  # it answers nothing at all
        return []

    async def call(self, tool: str, parameters: Any, task: str) -> Any:
        """Have the device call one tool for a task.

        Results that are empty, zero or false arrive as None: their clients send them so.

        Raises:
            RemoteFailure: it failed, there is none of that name, or it did not answer in time.
        """
        if not isinstance(parameters, dict):
            raise RemoteFailure("bad-arguments", "", f"{tool}: parameters must be an object")
        known = self.tools.get(tool)
        if known is None and self.tools:
            names = ", ".join(sorted(self.tools))
            why = f"device {self.device} has no tool {tool!r}; it has {names}"
            raise RemoteFailure("failed", "", why)
        kind: ToolType = "action" if known is None else known.tool_type
        agent = self._of.get(tool, self.agents[0])
        schema = {} if known is None else known.input_schema or {}
        filled = self.secrets.fill(tool, schema, parameters)
        try:
            value = await self._command(tool, filled, kind, agent, task, self.seconds)
        except RemoteFailure as error:
            said = self.secrets.redact(str(error))
            raise RemoteFailure(error.reason, "", said) from None
        return self.secrets.redact(value)

    async def ask(
        self, key: str, frame: ServerFrame, task: str, seconds: float
    ) -> ClientFrame | None:
        """Send a frame and wait for its answer; None if there is none in time."""
        slot = self._awaited[key] = _AwaitedAnswer(task=task, command=False)
        self.connection.say(frame)
        await self._until(lambda: slot.frame is not None, seconds)
        self._awaited.pop(key, None)
        return slot.frame

    def answer(self, key: str, frame: ClientFrame) -> str | None:
        """Take an answer; returns the task that waits for it, None if none does."""
        slot = self._awaited.get(key)
        if slot is None or slot.frame is not None:
            return None
        slot.frame = frame
        if slot.before is not None and slot.before.frame is None:
            slot.before.passed = True
        self._news.set()
        self._news = anyio.Event()
        return slot.task

    def forget(self, task: str) -> bool:
        """Wait no longer for a task; returns whether the device was at a command of it."""
        left = {key: slot for key, slot in self._awaited.items() if slot.task == task}
        for key in left:
            del self._awaited[key]
        return any(slot.command for slot in left.values())

    async def _command(
        self,
        tool: str,
        parameters: dict[str, Any],
        kind: ToolType,
        agent: str | None,
        task: str,
        seconds: float,
    ) -> Any:
        call = str(uuid.uuid4())
        action = Command(tool_name=tool, parameters=parameters, tool_type=kind, call_id=call)
        keys = [self._send([action], agent, task)]
        slot = self._awaited[keys[0]]
        if self._in_order is not False:
            keys.append(self._send([], agent, task, before=slot))
        await self._until(lambda: slot.frame is not None or slot.passed, seconds)
        if slot.passed and self._in_order is None:
            await self._until(lambda: slot.frame is not None, GRACE_S)
        for key in keys:
            self._awaited.pop(key, None)
        if slot.frame is not None or slot.passed:
            self._in_order = slot.frame is None or not slot.passed
        if slot.frame is not None:
            return _value(tool, call, slot.frame.action_results or [])
        what = f"could not carry out {tool}" if slot.passed else f"did not answer {tool}"
        when = "" if slot.passed else f" in {seconds:g} s"
        raise RemoteFailure("failed", "", f"device {self.device} {what}{when}; see its log")

    def _send(
        self,
        actions: list[Command],
        agent: str | None,
        task: str,
        before: _AwaitedAnswer | None = None,
    ) -> str:
        """Send a command, of none or one action, and await its answer under the returned key."""
        frame = ServerFrame(
            type="command",
            status="continue",
            actions=actions,
            session_id=task or "tools",
            agent_name=agent,
        )
        key = frame.response_id
        self._awaited[key] = _AwaitedAnswer(task=task, command=bool(actions), before=before)
        self.connection.say(frame)
        return key

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while not done():
                await self._news.wait()


def _value(tool: str, call: str, results: list[CommandResult]) -> Any:
    """The result of one command.

    Raises:
        RemoteFailure: it failed, or is missing.
    """
    for result in results:
        if result.call_id in (call, None):
            if result.status in ("success", "none"):
                return result.result
            raise RemoteFailure("failed", "", f"{tool}: {result.error or result.status}")
    raise RemoteFailure("failed", "", f"{tool}: the device sent no result for it")
