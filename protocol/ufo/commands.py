"""What is asked of a UFO³ device, and waits for its answer."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import ValidationError

from protocol.errors import RemoteFailure
from protocol.ufo.frames import (
    ClientFrame,
    Command,
    CommandResult,
    ServerFrame,
    ToolInfo,
    ToolType,
    tool_infos,
)
from protocol.ufo.line import Line

MOST_TOOLS = 500


@dataclass(kw_only=True)
class _Awaited:
    """Somebody waits for what the device answers."""

    task: str
    command: bool
    arrived: anyio.Event = field(default_factory=anyio.Event)
    frame: ClientFrame | None = None


class Commands:
    """Sends commands to a device, and hands their results to whoever waits.

    Attributes:
        tools: What the device told that it can call, by name.
    """

    def __init__(self, device: str, line: Line, agent: str | None, *, seconds: float) -> None:
        self.tools: dict[str, ToolInfo] = {}
        self._device = device
        self._line = line
        self._agent = agent
        self._seconds = seconds
        self._awaited: dict[str, _Awaited] = {}

    async def discover(self, seconds: float, *, but: tuple[str, ...]) -> None:
        """Fill `tools`; the tool that lists is known under each kind of which there is one."""
        kinds: tuple[ToolType, ...] = ("action", "data_collection")
        for kind in kinds:
            try:
                result = await self._command("list_tools", {}, kind, "", seconds)
                found = tool_infos.validate_python(result)
            except (RemoteFailure, ValidationError):
                continue
            for tool in found[:MOST_TOOLS]:
                if tool.tool_name not in but:
                    self.tools.setdefault(tool.tool_name, tool)
            return

    async def call(self, tool: str, parameters: Any, task: str) -> Any:
        """Have the device call one tool for a task.

        Raises:
            RemoteFailure: it failed, or did not answer in time.
        """
        if not isinstance(parameters, dict):
            raise RemoteFailure("bad-arguments", "", f"{tool}: parameters must be an object")
        known = self.tools.get(tool)
        kind: ToolType = "action" if known is None else known.tool_type
        return await self._command(tool, parameters, kind, task, self._seconds)

    async def ask(
        self, key: str, frame: ServerFrame, task: str, seconds: float
    ) -> ClientFrame | None:
        """Send a frame and wait for its answer; None if there is none in time."""
        slot = _Awaited(task=task, command=frame.type == "command")
        self._awaited[key] = slot
        self._line.say(frame)
        with anyio.move_on_after(seconds):
            await slot.arrived.wait()
        self._awaited.pop(key, None)
        return slot.frame

    def answer(self, key: str, frame: ClientFrame) -> bool:
        """Take an answer; False if nobody waits for it, any more or at all."""
        slot = self._awaited.get(key)
        if slot is None or slot.frame is not None:
            return False
        slot.frame = frame
        slot.arrived.set()
        return True

    def forget(self, task: str) -> bool:
        """Wait no longer for a task; whether the device was at a command of it."""
        left = {key: slot for key, slot in self._awaited.items() if slot.task == task}
        for key in left:
            del self._awaited[key]
        return any(slot.command for slot in left.values())

    async def _command(
        self, tool: str, parameters: dict[str, Any], kind: ToolType, task: str, seconds: float
    ) -> Any:
        key, call = str(uuid.uuid4()), str(uuid.uuid4())
        action = Command(tool_name=tool, parameters=parameters, tool_type=kind, call_id=call)
        frame = ServerFrame(
            type="command",
            status="continue",
            actions=[action],
            session_id=task or "tools",
            response_id=key,
            agent_name=self._agent,
        )
        answer = await self.ask(key, frame, task, seconds)
        if answer is None:
            raise RemoteFailure(
                "failed", "", f"device {self._device} did not answer {tool} in {seconds:g} s"
            )
        return _value(tool, call, answer.action_results or [])


def schema(found: dict[str, Any] | None) -> str:
    """A JSON schema as text."""
    return json.dumps(found or {})


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
