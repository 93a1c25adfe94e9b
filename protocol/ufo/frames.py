"""The frames of UFO³'s Agent Interaction Protocol, AIP: JSON text, without numbers or versions.

The names and values are those of ``aip/messages.py`` of microsoft/UFO.  What others send is read
leniently, as other releases add fields; what is sent has every field, nulls included, as theirs.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from protocol.wire.framing import FrameReader

FrameType = Literal["task", "heartbeat", "task_end", "error", "device_info_response"]
"""Of frames that either side sends."""
Status = Literal["continue", "completed", "failed", "ok", "error"]
ToolType = Literal["action", "data_collection"]
Name = Annotated[str, Field(max_length=300)]

MOST_REQUEST = 100_000
"""Characters of a request."""


class _AipFrame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Command(_AipFrame):
    """One tool to be called on a device."""

    tool_name: str
    parameters: dict[str, Any] | None = None
    tool_type: ToolType
    call_id: str | None = None


class CommandResult(_AipFrame):
    """The result of a command."""

    status: Literal["success", "failure", "skipped", "none"]
    error: str | None = None
    result: Any = None
    namespace: str | None = None
    call_id: str | None = None


class ClientFrame(_AipFrame):
    """What a device or a Galaxy client sends; its connection says which of the two it is."""

    type: FrameType | Literal["register", "command_results", "device_info_request"]
    status: Status
    client_type: Literal["device", "constellation"] = "device"
    session_id: Name | None = None
    task_name: Name | None = None
    client_id: Name | None = None
    target_id: Name | None = None
    request: Annotated[str, Field(max_length=MOST_REQUEST)] | None = None
    action_results: list[CommandResult] | None = None
    timestamp: str | None = None
    request_id: Name | None = None
    prev_response_id: Name | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None


class ServerFrame(_AipFrame):
    """What a server sends."""

    type: FrameType | Literal["command"]
    status: Status
    user_request: str | None = None
    agent_name: str | None = None
    process_name: str | None = None
    root_name: str | None = None
    actions: list[Command] | None = None
    messages: list[str] | None = None
    error: str | None = None
    session_id: str | None = None
    task_name: str | None = None
    timestamp: str = Field(default_factory=lambda: datetime.now(UTC).isoformat())
    response_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    result: Any = None


class ToolInfo(_AipFrame):
    """A tool as a device's ``list_tools`` describes it."""

    tool_name: Annotated[str, Field(min_length=1, max_length=200)]
    tool_type: ToolType
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None


from_client: FrameReader[ClientFrame] = FrameReader(ClientFrame)
tool_infos: TypeAdapter[list[ToolInfo]] = TypeAdapter(list[ToolInfo])


def ok(session_id: str | None = None) -> ServerFrame:
    """Accepts a registration, a heartbeat or a task."""
    return ServerFrame(type="heartbeat", status="ok", session_id=session_id)


def failed(error: str) -> ServerFrame:
    """Refuses something, and says why."""
    return ServerFrame(type="error", status="error", error=error)


def ended(session: str, *, result: Any = None, error: str | None = None) -> ServerFrame:
    """Ends a task, with its result or with its error."""
    status: Status = "completed" if error is None else "failed"
    return ServerFrame(
        type="task_end", status=status, session_id=session, result=result, error=error
    )
