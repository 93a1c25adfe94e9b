"""What can go wrong between hub and workers; below `ReasonError`, each with a code of the wire."""

from __future__ import annotations

from typing import Any, ClassVar

from orchestrator.errors import ReasonError
from protocol.wire.messages import Code


class ProtocolError(ReasonError):
    """The root of the protocol's errors.

    Attributes:
        wire_code: The code that names it on the wire.
    """

    wire_code: ClassVar[Code] = "internal"


class HubUnreachable(ProtocolError, ConnectionError):
    """Raised when a hub can't be reached or goes away for good."""


class ConnectionRefused(ProtocolError, ConnectionRefusedError):
    """Raised when the other side says no; connecting again would not help.

    Attributes:
        reason: The code that came over the wire.
    """

    def __init__(self, reason: Code, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class BadMessage(ProtocolError, ValueError):
    """Raised for a frame that does not fit the specification."""

    wire_code = "bad-message"


class Congested(ProtocolError):
    """Raised when a bounded queue is full."""

    wire_code = "congested"


class NoWorker(ProtocolError, LookupError):
    """Raised when no worker that could run a task came in time."""

    wire_code = "no-worker"


class WorkerLost(ProtocolError, ConnectionError):
    """Raised when a task's workers were lost more often than the task allows."""

    wire_code = "worker-lost"


class RemoteFailure(ProtocolError, RuntimeError):
    """Raised when a task failed on its worker.

    Attributes:
        reason: The code that came over the wire, ``failed`` if the function raised.
        kind: The name of what the function raised.
    """

    wire_code = "failed"

    def __init__(self, reason: Code, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}" if kind else message)
        self.reason = reason
        self.kind = kind


class RemoteTimeout(RemoteFailure, TimeoutError):
    """Raised when a task took longer than its deadline allows."""


class AgentLost(ProtocolError, ConnectionError):
    """Raised when an A2A agent can't be reached, or fails at a question."""


class AgentRefused(ProtocolError):
    """Raised when an A2A agent does not take a question, or asks back."""

    http_status = 422


def first(error: BaseException) -> Any:
    """The first error inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
