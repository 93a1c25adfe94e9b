"""How messages are framed: the handshake, numbered frames, and beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from protocol.errors import BadMessage
from protocol.wire.checked import first_problem
from protocol.wire.messages import (
    VERSION,
    Code,
    Count,
    Down,
    HeldTask,
    Id,
    Profile,
    Seconds,
    Shown,
    Up,
    WireModel,
)

M = TypeVar("M")

# ---- handshake -----------------------------------------------------------------------------------


Role = Literal["worker", "client"]


class Hello(WireModel):
    """The first message of whoever connects, at most five seconds later."""

    type: Literal["hello"] = "hello"
    versions: tuple[int, ...] = (VERSION,)
    role: Role
    token: str | None = Field(default=None, repr=False, max_length=200)
    """Unless it was sent in the header ``Authorization: Bearer``."""
    instance: Annotated[str, Field(max_length=100, pattern=r"^[\w.-]*$")] = ""
    """Tells apart those who share a token; the id is then ``name/instance``."""
    profile: Profile | None = None
    session: str | None = Field(default=None, repr=False, max_length=200)
    """The secret of the session that it resumes."""
    ack: Count = 0
    """The last number received in that session."""
    epoch: Count = 0
    """The newest epoch of a hub that it has seen; an older hub must refuse itself."""
    holding: tuple[HeldTask, ...] = ()


class Welcome(WireModel):
    """The answer to a hello."""

    type: Literal["welcome"] = "welcome"
    version: int = VERSION
    id: Id
    """What the hub calls this side."""
    session: str = Field(repr=False)
    """A new secret with which to resume."""
    resumed: bool
    """If not, both sides count from 1 again."""
    ack: Count
    epoch: Count
    lease_s: Seconds
    """How long tasks stay with a worker of which nothing is heard."""
    beat_s: Seconds


class Refused(WireModel):
    """The last message of a connection, in either direction."""

    type: Literal["refused"] = "refused"
    code: Code
    message: Shown
    retry: bool = False
    """Whether connecting again may help."""


# ---- frames --------------------------------------------------------------------------------------


class DownFrame(WireModel):
    """Numbered messages: ``seq`` is the number of the first of them."""

    type: Literal["frame"] = "frame"
    ack: Count
    seq: Annotated[int, Field(ge=1)]
    body: tuple[Down, ...]


class UpFrame(WireModel):
    """See `DownFrame`."""

    type: Literal["frame"] = "frame"
    ack: Count
    seq: Annotated[int, Field(ge=1)]
    body: tuple[Up, ...]


class Beat(WireModel):
    """Says that the sender is alive, and what it has; a worker's renews its lease.

    A receiver that lacks something of what was ``sent`` asks with ``resend`` for all that is
    not acknowledged.
    """

    type: Literal["beat"] = "beat"
    ack: Count
    sent: Count
    resend: bool = False
    reply: bool = False
    """Whether the other side is to answer with a beat of its own."""


ToWorker = Annotated[Welcome | Refused | DownFrame | Beat, Field(discriminator="type")]
"""All that a worker can be sent."""

FromWorker = Annotated[Hello | Refused | UpFrame | Beat, Field(discriminator="type")]
"""All that a worker can send."""

FromClient = Annotated[Hello | Refused | DownFrame | Beat, Field(discriminator="type")]
ToClient = Annotated[Welcome | Refused | UpFrame | Beat, Field(discriminator="type")]


@dataclass(frozen=True)
class Unreadable:
    """A numbered message that does not fit the specification, and what can be told of it."""

    type: str
    id: str
    fence: int
    why: str


class FrameReader(Generic[M]):
    """Reads what one side can send."""

    def __init__(self, every: Any, body: Any = None) -> None:
        """Read messages of the type ``every``, with numbered ones of the type ``body``."""
        self._every: TypeAdapter[M] = TypeAdapter(every)
        self._body: TypeAdapter[Any] = TypeAdapter(body)

    def read(self, data: bytes) -> M:
        """A message; in a frame, numbered messages that do not fit come as `Unreadable`.

        Raises:
            BadMessage: it does not fit the specification.
        """
        try:
            return self._every.validate_json(data)
        except ValidationError as error:
            frame = self._frame(data)
            if frame is None:
                raise BadMessage(f"{first_problem(error)}; see docs/protocol.md") from error
            return frame

    def _frame(self, data: bytes) -> M | None:
        """The frame whose numbered messages are not all readable, if it is one."""
        try:
            given = from_json(data)
            body = given["body"]
            frame: Any = self._every.validate_json(to_json({**given, "body": ()}))
        except (ValueError, LookupError, TypeError):
            return None
        if not isinstance(body, list):
            return None
        read: M = frame.model_copy(update={"body": tuple(map(self._one, body))})
        return read

    def _one(self, given: Any) -> Any:
        try:
            return self._body.validate_json(to_json(given, inf_nan_mode="constants"))
        except ValidationError as error:
            return _unreadable(given, first_problem(error))


def _unreadable(given: Any, why: str) -> Unreadable:
    given = given if isinstance(given, dict) else {}
    kind, id, fence = given.get("type"), given.get("id"), given.get("fence", 0)
    readable = isinstance(id, str) and 0 < len(id) <= 600
    readable = readable and isinstance(fence, int) and 0 <= fence < 1 << 63
    return Unreadable(str(kind), id if readable else "", fence if readable else 0, why)


greeting: FrameReader[Hello] = FrameReader(Hello)
to_worker: FrameReader[Welcome | Refused | DownFrame | Beat] = FrameReader(ToWorker, Down)
from_worker: FrameReader[Hello | Refused | UpFrame | Beat] = FrameReader(FromWorker, Up)
from_client: FrameReader[Hello | Refused | DownFrame | Beat] = FrameReader(FromClient, Down)
to_client: FrameReader[Welcome | Refused | UpFrame | Beat] = FrameReader(ToClient, Up)
