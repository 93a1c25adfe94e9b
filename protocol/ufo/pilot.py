"""Who steers a UFO³ device: it only calls tools, the reasoning is the server's."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.errors import RemoteFailure
from protocol.wire.messages import Offer


class Hands(Protocol):
    """A device as whoever steers it sees it."""

    @property
    def id(self) -> str:
        """Its name at the hub."""
        ...

    @property
    def tools(self) -> tuple[Offer, ...]:
        """What it told that it can call."""
        ...

    async def call(self, tool: str, parameters: dict[str, Any]) -> Any:
        """Call a tool on the device.

        Raises:
            RemoteFailure: the tool failed, or did not answer in time.
        """
        ...


class Pilot(Protocol):
    """Carries out requests in words by calling a device's tools."""

    async def steer(self, request: str, hands: Hands) -> Any:
        """What the request comes to, as JSON values.

        Raises:
            RemoteFailure: it can't be done.
        """
        ...


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tool_name: str
    parameters: dict[str, Any] = {}


class _Calls(BaseModel):
    model_config = ConfigDict(extra="forbid")

    commands: list[_Call]


class Listed:
    """A pilot without a model: it does what is listed, as ``{"commands": [{"tool_name": …}]}``."""

    async def steer(self, request: str, hands: Hands) -> list[Any]:
        """See `Pilot.steer`."""
        try:
            calls = _Calls.model_validate_json(request).commands
        except ValidationError as error:
            raise RemoteFailure(
                "bad-arguments",
                "",
                'no model steers devices here, so a request must be {"commands": [{"tool_name": '
                '"...", "parameters": {}}]}; give the hub a model with --pilot for requests in '
                "words",
            ) from error
        return [await hands.call(call.tool_name, call.parameters) for call in calls]
