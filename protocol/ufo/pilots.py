"""Pilots, which steer UFO³ devices: a device only calls tools, and the server reasons."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.errors import RemoteFailure
from protocol.wire.messages import Offer


class SteeredDevice(Protocol):
    """A device as its pilot sees it."""

    @property
    def id(self) -> str:
        """Its name at the hub."""
        ...

    @property
    def tools(self) -> tuple[Offer, ...]:
        """The tools that it told of."""
        ...

    async def call(self, tool: str, parameters: dict[str, Any]) -> Any:
        """Call a tool on the device.

        Raises:
            RemoteFailure: the tool failed, or did not answer in time.
        """
        ...


class Pilot(Protocol):
    """Carries out requests in words by calling a device's tools."""

    async def steer(self, request: str, device: SteeredDevice) -> Any:
        """Carry out a request; returns its result as JSON values.

        Raises:
            RemoteFailure: it can't be done.
        """
        ...


class _ListedCommand(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tool_name: str
    parameters: dict[str, Any] = {}


class _CommandList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    commands: list[_ListedCommand]


class CommandListPilot:
    """A pilot without a model; a request lists commands: ``{"commands": [{"tool_name": …}]}``."""

    async def steer(self, request: str, device: SteeredDevice) -> list[Any]:
        """See `Pilot.steer`."""
        try:
            calls = _CommandList.model_validate_json(request).commands
        except ValidationError as error:
            raise RemoteFailure(
                "bad-arguments",
                "",
                'no model steers devices here, so a request must be {"commands": [{"tool_name": '
                '"...", "parameters": {}}]}; give the hub a model with --pilot for requests in '
                "words",
            ) from error
        return [await device.call(call.tool_name, call.parameters) for call in calls]
