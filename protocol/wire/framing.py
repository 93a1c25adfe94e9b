"""How messages are framed: the handshake, numbered frames, and beats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from protocol.wire.messages import (
    VERSION,
    Code,
    Count,
    Down,
    HeldTask,
    Id,
    Profile,
    Seconds,
    Up,
    WireModel,
)

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
    message: str
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

greeting: TypeAdapter[Hello] = TypeAdapter(Hello)
to_worker: TypeAdapter[Welcome | Refused | DownFrame | Beat] = TypeAdapter(ToWorker)
from_worker: TypeAdapter[Hello | Refused | UpFrame | Beat] = TypeAdapter(FromWorker)
from_client: TypeAdapter[Hello | Refused | DownFrame | Beat] = TypeAdapter(FromClient)
to_client: TypeAdapter[Welcome | Refused | UpFrame | Beat] = TypeAdapter(ToClient)
