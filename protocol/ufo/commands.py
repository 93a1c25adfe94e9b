"""What is asked of a UFO³ device, and waits for its answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
from pydantic import ValidationError

from protocol.errors import RemoteFailure
from protocol.ufo.connection import Line
from protocol.ufo.frames import (
    ClientFrame,
    Command,
    CommandResult,
    ServerFrame,
    ToolInfo,
    ToolType,
    tool_infos,
)

MOST_TOOLS = 500

GRACE_S = 1.0
"""How long a first answer may be passed by the one to what was sent after it, before the client is
taken for one that works in order and has none."""


@dataclass(kw_only=True)
class _Awaited:
    """Somebody waits for what the device answers.

    Attributes:
        before: What was sent before it, and is to be answered before it.
        passed: Whether something sent later was answered first.
    """

    task: str
    command: bool
    before: _Awaited | None = None
    frame: ClientFrame | None = None
    passed: bool = False


class Commands:
    """Sends commands to a device, and hands their results to whoever waits.

    A device client that can't carry a command out (the tool is unknown, its server down) writes so
    into its own log and sends nothing.  So an empty command follows each: the client takes one
    frame after the other, and its answer to the empty one says that the one before came to nothing.

    Attributes:
        tools: What the device told that it can call, by name.
    """

    def __init__(
        self, device: str, line: Line, agents: tuple[str | None, ...], *, seconds: float
    ) -> None:
        """Prepare to command.

        Args:
            device: Its name, for messages.
            line: The connection to it.
            agents: Whose tools are loaded there: names of UFO³'s ``mcp.yaml``.
            seconds: How long a command may take.
        """
        self.tools: dict[str, ToolInfo] = {}
        self._device = device
        self._line = line
        self._agents = agents
        self._of: dict[str, str | None] = {}
        self._seconds = seconds
        self._awaited: dict[str, _Awaited] = {}
        self._news = anyio.Event()
        self._in_order: bool | None = None

    async def discover(self, seconds: float, *, but: tuple[str, ...]) -> None:
        """Fill `tools`, of two agents' tools of one name with the first's.

        Args:
            seconds: How long the device may take to answer anything.
            but: Names to leave out.
        """
        for agent in self._agents:
            for tool in await self._listed(agent, seconds):
                if tool.tool_name not in (*but, *self.tools) and len(self.tools) < MOST_TOOLS:
                    self.tools[tool.tool_name] = tool
                    self._of[tool.tool_name] = agent

    async def _listed(self, agent: str | None, seconds: float) -> list[ToolInfo]:
        """An agent's tools; the tool that lists is known under each kind of which there is one."""
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

        What is empty, zero or false comes back as None: their clients send it so.

        Raises:
            RemoteFailure: it failed, there is none of that name, or it did not answer in time.
        """
        if not isinstance(parameters, dict):
            raise RemoteFailure("bad-arguments", "", f"{tool}: parameters must be an object")
        known = self.tools.get(tool)
        if known is None and self.tools:
            names = ", ".join(sorted(self.tools))
            raise RemoteFailure(
                "failed", "", f"device {self._device} has no tool {tool!r}; it has {names}"
            )
        kind: ToolType = "action" if known is None else known.tool_type
        agent = self._of.get(tool, self._agents[0])
        return await self._command(tool, parameters, kind, agent, task, self._seconds)

    async def ask(
        self, key: str, frame: ServerFrame, task: str, seconds: float
    ) -> ClientFrame | None:
        """Send a frame and wait for its answer; None if there is none in time."""
        slot = self._awaited[key] = _Awaited(task=task, command=False)
        self._line.say(frame)
        await self._until(lambda: slot.frame is not None, seconds)
        self._awaited.pop(key, None)
        return slot.frame

    def answer(self, key: str, frame: ClientFrame) -> str | None:
        """Take an answer; the task for which it was awaited, None if it was not."""
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
        """Wait no longer for a task; whether the device was at a command of it."""
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
        raise RemoteFailure("failed", "", f"device {self._device} {what}{when}; see its log")

    def _send(
        self,
        actions: list[Command],
        agent: str | None,
        task: str,
        before: _Awaited | None = None,
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
        self._awaited[key] = _Awaited(task=task, command=bool(actions), before=before)
        self._line.say(frame)
        return key

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while not done():
                await self._news.wait()


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
