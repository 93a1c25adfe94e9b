"""A language model that steers a UFO³ device: requests in words, carried out by its tools."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InvalidValue, ReasonError
from orchestrator.journal.codec import why
from protocol import RemoteFailure
from protocol.ufo import SteeredDevice
from reasoning.planning.chat_client import Chat
from reasoning.planning.prompts import cut
from reasoning.planning.reply import json_object

MOST_STEPS = 20

RULES = """\
You carry out a request on one device by calling its tools, one at a time, and looking at what \
they return.

Reply with one JSON object and nothing else, either
{"thought": "why, in a sentence", "tool": "NAME", "parameters": {...}}
or, when the request is carried out or can't be,
{"thought": "why, in a sentence", "done": true, "result": "what it came to"}"""


class PilotMove(BaseModel):
    """One reply of a pilot: a tool to be called, or the end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thought: Annotated[str, Field(max_length=10_000)] = ""
    tool: str | None = None
    parameters: dict[str, Any] = {}
    done: bool = False
    result: Any = None

    @classmethod
    def parse(cls, text: str) -> PilotMove:
        """The move in a model's reply.

        Raises:
            InvalidValue: there is none.
        """
        try:
            move = cls.model_validate(json_object(text))
        except ValidationError as error:
            raise InvalidValue(f"the reply can't be used: {why(error)}; mend it") from error
        if not move.done and not move.tool:
            raise InvalidValue("the reply neither names a tool nor is done; do one of them")
        return move


_SCHEMA = json.dumps(PilotMove.model_json_schema())


class ModelPilot:
    """See `protocol.ufo.Pilot`; the device's tools are all that the model can reach."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def steer(self, request: str, device: SteeredDevice) -> Any:
        """See `protocol.ufo.Pilot.steer`.

        Raises:
            RemoteFailure: it did not come to an end, or the model failed.
        """
        done: list[str] = []
        for _ in range(MOST_STEPS):
            try:
                prompt = self._prompt(request, device, done)
                move = PilotMove.parse(await self._chat.reply(prompt, _SCHEMA))
            except InvalidValue as error:
                done.append(f"your reply was refused: {error}")
                continue
            except ReasonError as error:
                raise RemoteFailure("failed", type(error).__name__, str(error)) from error
            if move.done:
                return move.result
            done.append(await self._call(device, move))
        raise RemoteFailure("budget", "", f"the request was not done in {MOST_STEPS} steps")

    async def _call(self, device: SteeredDevice, move: PilotMove) -> str:
        assert move.tool is not None
        called = f"{move.tool} {json.dumps(move.parameters)}"
        if all(offer.name != move.tool for offer in device.tools):
            return f"{called} was refused: there is no such tool"
        try:
            result = await device.call(move.tool, move.parameters)
        except RemoteFailure as error:
            return f"{called} failed: {error}"
        return f"{called} returned {cut(json.dumps(result))}"

    def _prompt(self, request: str, device: SteeredDevice, done: list[str]) -> str:
        tools = [f"{o.name} {o.parameters}: {o.description}" for o in device.tools]
        parts = [RULES, "The tools:\n" + ("\n".join(tools) or "none"), f"The request:\n{request}"]
        if done:
            parts.append("So far:\n" + "\n".join(f"- {line}" for line in done))
        return "\n\n".join([*parts, "Your reply, as JSON:"])
