"""The messages between hub, workers and clients; `docs/protocol.md` specifies them.

A connection begins with `Hello` and is answered by `Welcome` or `Refused`.  Then both sides send
`Frame`, which carries numbered messages, and `Beat`, which carries none.  A client is to the hub
what the hub is to a worker: it sends tasks and gets results.

Everything is JSON text.  Times are seconds from the receipt of the message, never of a clock that
both sides would have to share.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from protocol.wire.checked import PLAIN

VERSION = 1
"""The only version that there is so far."""

MAX_FRAME = 1 << 20
"""Bytes of a frame; one that is longer closes the connection."""

MAX_MESSAGE = MAX_FRAME - 1024
"""Bytes of one numbered message; a longer one is not sent, and fails its task."""

MAX_TEXT = 256 << 20
"""Characters of a JSON text, and bytes of a payload."""

MAX_SHOWN = 10_000
"""Characters of a text for people; what is longer is cut."""

PART = 192 << 10
"""Bytes of a payload's part, which base64 makes a third longer."""

INLINE = 64 << 10
"""A longer JSON text travels as a payload."""

Code = Literal[
    "bad-version",
    "bad-message",
    "bad-token",
    "forbidden",
    "late-hello",
    "replaced",
    "stale-hub",
    "congested",
    "draining",
    "unknown-name",
    "bad-arguments",
    "bad-payload",
    "failed",
    "deadline",
    "budget",
    "no-worker",
    "worker-lost",
    "internal",
]
"""Why something was refused or failed."""

Kind = Literal["function", "tool", "thread"]
"""A registered function, a tool called with arguments that a model wrote, a reasoning thread."""


def shown(text: Any) -> Any:
    """A text for people as it can be sent: not too long, and without what UTF-8 can't hold."""
    if not isinstance(text, str):
        return text
    return text[:MAX_SHOWN].encode(errors="backslashreplace").decode()[:MAX_SHOWN]


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=PLAIN)]
Word = Annotated[str, Field(max_length=400, pattern=PLAIN)]
Id = Annotated[str, Field(min_length=1, max_length=600)]
"""At most 400 characters of a client's, and its name, which the hub puts before them."""
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
JsonText = Annotated[str, Field(max_length=MAX_TEXT)]
Shown = Annotated[str, BeforeValidator(shown)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]


class WireModel(BaseModel):
    """What crosses the wire: frozen, and nothing that is not specified."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )


# ---- what a worker can do ------------------------------------------------------------------------


class Offer(WireModel):
    """A function or tool that can be called by name."""

    name: Name
    description: str = ""
    parameters: str
    """JSON schema of the arguments, as JSON text."""
    result: str
    """JSON schema of the result, as JSON text."""


class ModelOffer(WireModel):
    """A model on which threads of reasoning can be generated."""

    name: Name
    backend: Name
    fingerprint: Word = ""
    """Names the exact weights; the same fingerprint and seed give the same tokens."""
    context: Count
    slots: Annotated[int, Field(ge=1)] = 1
    """Threads that write at once; those that stand still take none."""
    capabilities: Annotated[frozenset[Name], Field(max_length=64)] = frozenset()
    """What its threads can do beside writing behind plain tokens, such as ``holding``."""


class Profile(WireModel):
    """What a worker is and can do."""

    platform: Word = ""
    machine: Word = ""
    """Workers on different ones share no cores; empty where that is not known."""
    cores: Annotated[frozenset[Count], Field(max_length=4096)] = frozenset()
    """Those of the machine that it is confined to; empty for all."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 1
    """How many tasks it takes at once."""
    resources: dict[Name, Count] = {}
    tags: frozenset[Name] = frozenset()
    functions: tuple[Offer, ...] = ()
    tools: tuple[Offer, ...] = ()
    models: tuple[ModelOffer, ...] = ()


class TaskNeeds(WireModel):
    """What a task asks of its worker."""

    worker: Word | None = None
    """The worker's id, if the task is pinned to it."""
    platform: Word | None = None
    tags: Annotated[frozenset[Name], Field(max_length=64)] = frozenset()
    resources: Annotated[dict[Name, Count], Field(max_length=64)] = {}
    fingerprint: Word = ""
    """Of a thread's model; empty takes any model of the name."""
    capabilities: Annotated[frozenset[Name], Field(max_length=64)] = frozenset()
    """Of a thread's model; see `ModelOffer`."""


class TaskBudget(WireModel):
    """What a task may spend."""

    tokens: Count | None = None
    attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    """How many workers may be lost under it, less one."""
    kills: Annotated[int, Field(ge=1, le=1000)] = 2
    """After how many workers that have ended or gone silent under it it is given up."""


class Payload(WireModel):
    """Stands for a JSON text that was sent before, in parts."""

    sha256: Digest
    size: Count


class HeldTask(WireModel):
    """A task that a worker still has when it says hello."""

    id: Id
    fence: Count
    ended: bool = False
    proof: Annotated[str, Field(max_length=64)] = ""
    """As it came with the task."""


# ---- numbered messages ---------------------------------------------------------------------------


class PayloadPart(WireModel):
    """A piece of a payload; pieces come in order, before the message that refers to them."""

    type: Literal["part"] = "part"
    sha256: Digest
    offset: Count
    size: Count
    """Of the whole payload."""
    data: bytes


class TaskMessage(WireModel):
    """Run this.  A worker that has the same id already takes over the new fence, and goes on."""

    type: Literal["task"] = "task"
    id: Id
    """The idempotency key: the same id never has two results."""
    fence: Count = 0
    """Grows with each assignment; what carries an older fence is void."""
    attempt: Annotated[int, Field(ge=1)] = 1
    kind: Kind
    name: Name
    arguments: JsonText | Payload
    """JSON text of an object, by the parameters' names; of a `ThreadStart` for a thread."""
    deadline_s: Seconds | None = None
    budget: TaskBudget = Field(default_factory=TaskBudget)
    needs: TaskNeeds = Field(default_factory=TaskNeeds)
    inputs: tuple[tuple[TokenId, ...], ...] = ()
    """For a thread that begins anew elsewhere: what it was given so far by `Input`."""
    until: Count | None = None
    """For a thread: after how many tokens it stands still; see `Hold`."""
    problem: Word = ""
    """From a client: threads of one problem are placed together, as far as a batch gains by it."""
    patience_s: Seconds | None = None
    """From a client: how long it waits while no connected worker is able to run it."""
    proof: Annotated[str, Field(max_length=64)] = ""
    """From a hub: shows a later one that the task was this worker's; see `HeldTask`."""


class TokenDrawing(WireModel):
    """How a thread's tokens are drawn beside its temperature; null is the model's own default."""

    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] = {}
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    drawn: Annotated[int, Field(ge=1)] | None = None
    """So many tokens were drawn before by the same seed, as another task."""


class SegmentSight(WireModel):
    """A segment in a context: its first ``upto`` tokens, moved by ``shift`` positions."""

    segment: Count
    """Its place among the segments of the context."""
    shift: Annotated[int, Field(gt=-(1 << 31), lt=1 << 31)] = 0
    upto: Count | None = None


class ThreadSegment(WireModel):
    """Tokens of a context, and what they saw when they were written."""

    tokens: tuple[TokenId, ...]
    home: Count = 0
    """The position of the first one."""
    path: Count = 0
    """The identity that a model with path vectors gives them."""
    sees: Annotated[tuple[SegmentSight, ...], Field(max_length=4096)] = ()


class ThreadContext(WireModel):
    """What a thread sees that is no plain run of tokens, such as branches that were joined."""

    segments: Annotated[tuple[ThreadSegment, ...], Field(max_length=4096)]
    """Each sees earlier ones only."""
    sees: Annotated[tuple[SegmentSight, ...], Field(max_length=4096)]
    position: Count
    """Of the thread's first token."""
    path: Count = 0

    @model_validator(mode="after")
    def _earlier_ones(self) -> Self:
        every = [*(one.sees for one in self.segments), self.sees]
        for place, sees in enumerate(every):
            for sight in sees:
                if sight.segment >= place:
                    raise ValueError("a segment sees one that does not stand before it")
                if (sight.upto or 0) > len(self.segments[sight.segment].tokens):
                    raise ValueError("a segment is seen further than it goes")
        return self


class ThreadStart(WireModel):
    """The arguments of a thread of reasoning."""

    prompt: tuple[TokenId, ...]
    """All that it sees, or behind a ``context`` its own first words."""
    own: Annotated[int, Field(ge=1)] | None = None
    """So many last tokens of the prompt are its own first words, where there is no ``context``."""
    context: ThreadContext | None = None
    score: tuple[TokenId, ...] | None = None
    """Tokens behind the prompt that are to be read, not written: each is told as if it had been."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    seed: Count = 0
    stop: tuple[TokenId, ...] = ()
    limit: Annotated[int, Field(ge=1)] | None = None
    drawing: TokenDrawing | None = None
    """Left out where there is nothing to say, so that older workers take the thread."""
    confidence: Annotated[int, Field(ge=1)] | None = None
    """Over so many of the likeliest tokens each token's confidence is told."""


class Input(WireModel):
    """Tokens that a stopped thread reads before it goes on; none ends the thread."""

    type: Literal["input"] = "input"
    id: Id
    fence: Count = 0
    tokens: tuple[TokenId, ...]


class Hold(WireModel):
    """A thread writes up to ``until`` tokens in all and stands still there; null lets it write on.

    It comes only to a worker whose model has the capability ``holding``.
    """

    type: Literal["hold"] = "hold"
    id: Id
    fence: Count = 0
    until: Count | None = None


class Cancel(WireModel):
    """Stop a task; answered by `Cancelled`, or by a `Result` that was on its way."""

    type: Literal["cancel"] = "cancel"
    id: Id
    fence: Count = 0
    reason: Code | None = None


class Progress(WireModel):
    """How far a task is, as a text for people."""

    type: Literal["progress"] = "progress"
    id: Id
    fence: Count = 0
    text: Shown = ""


class TokenChunk(WireModel):
    """Tokens that a thread generated; ``at`` of them came before."""

    type: Literal["chunk"] = "chunk"
    id: Id
    fence: Count = 0
    at: Count
    tokens: tuple[TokenId, ...]
    logprobs: tuple[Finite, ...]
    confidences: tuple[Finite, ...] = ()
    """Of each token, where the thread's start asks for them."""
    reason: Literal["stop", "length"] | None = None
    """Why the thread has stopped after them, if it has; it then waits for `Input`."""

    @model_validator(mode="after")
    def _equally_many(self) -> Self:
        if len(self.tokens) != len(self.logprobs):
            raise ValueError("each token needs its log-probability")
        if self.confidences and len(self.tokens) != len(self.confidences):
            raise ValueError("each token needs its confidence, or none has one")
        return self


class TaskFailure(WireModel):
    """Why a task has no value."""

    code: Code
    kind: Shown = ""
    message: Shown = ""


class TaskUsage(WireModel):
    """What a task has spent on its worker."""

    seconds: Seconds = 0.0
    tokens: Count = 0


class Result(WireModel):
    """How a task ended: with a value (JSON text), or with a failure."""

    type: Literal["result"] = "result"
    id: Id
    fence: Count = 0
    value: JsonText | Payload | None = None
    failure: TaskFailure | None = None
    usage: TaskUsage = Field(default_factory=TaskUsage)
    worker: str = ""
    """Filled in by the hub for its client."""


class Cancelled(WireModel):
    """A task was cancelled; ``leaked`` if something of it could not be stopped."""

    type: Literal["cancelled"] = "cancelled"
    id: Id
    fence: Count = 0
    leaked: bool = False


class Drain(WireModel):
    """From a worker: give me no more.  From a hub: finish what you have, then leave."""

    type: Literal["drain"] = "drain"


Down = Annotated[
    PayloadPart | TaskMessage | Input | Hold | Cancel | Drain, Field(discriminator="type")
]
"""From hub to worker, and from client to hub."""

Up = Annotated[
    PayloadPart | Progress | TokenChunk | Result | Cancelled | Drain, Field(discriminator="type")
]
"""From worker to hub, and from hub to client."""

Message = (
    PayloadPart
    | TaskMessage
    | Input
    | Hold
    | Cancel
    | Drain
    | Progress
    | TokenChunk
    | Result
    | Cancelled
)
