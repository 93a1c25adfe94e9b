"""What the HTTP servers ask of whoever reasons, as frozen values and one small protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from orchestrator import TaskState

Status = Literal["finished", "timed-out", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One thing that a client can pick as its model: a model, or a strategy on it.

    Attributes:
        id: Its name on the wire, such as ``reason-5m/apr``.
        skill: The same as a name for people.
        description: What it does, in a sentence.
        created: When its weights were made, in seconds since 1970.
    """

    id: str
    skill: str
    description: str
    created: int = 0


@dataclass(frozen=True, kw_only=True)
class Question:
    """One problem for one variant; what is None has the service's default.

    Attributes:
        budget: The most tokens that all branches together may write; then the run is stopped.
        context: The context of each branch in tokens, prompt included.
        timeout: Seconds after which the run answers with what there is.
    """

    variant: str
    text: str
    n: int | None = None
    temperature: float | None = None
    seed: int = 0
    budget: int | None = None
    context: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class BranchEvent:
    """Something that happened to the branch with this id; ``1.3`` is the third child of ``1``."""

    branch: str


@dataclass(frozen=True, kw_only=True)
class BranchOpened(BranchEvent):
    """A branch began; ``name`` says what it is about."""

    name: str


@dataclass(frozen=True, kw_only=True)
class BranchText(BranchEvent):
    """A branch wrote ``text``."""

    text: str


@dataclass(frozen=True, kw_only=True)
class BranchClosed(BranchEvent):
    """A branch reached a final state."""

    state: TaskState


Listener = Callable[[BranchEvent], None]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How a run ended, with its whole cost: tokens of every branch, shared ones counted once.

    Attributes:
        verified: Whether the verifier agreed; None where it could not be asked.
        cut: Whether the token budget stopped the run.
        span_tokens: The longest chain of tokens that depend on each other.
        votes: Votes by canonical answer, most first.
        wall_s: Seconds from start to end.
    """

    text: str | None
    status: Status
    cut: bool
    verified: bool | None
    confidence: float
    strategy: str
    branches: int
    prompt_tokens: int
    completion_tokens: int
    span_tokens: int
    wall_s: float
    votes: Mapping[str, int] = field(default_factory=dict)

    @property
    def work_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the engines behind a service do at this moment.

    Attributes:
        threads: Threads that generate or wait for a slot.
        leaked: Tokens generated for threads after they were closed, since the start.
    """

    threads: int
    leaked: int


class Service(Protocol):
    """Answers questions, several at once; cancelling `answer` stops every branch of it."""

    @property
    def variants(self) -> tuple[Variant, ...]: ...

    @property
    def load(self) -> Load: ...

    def check(self, question: Question) -> None:
        """Refuse a question that can't be answered, before anything is computed.

        Raises:
            UnknownName: there is no such variant.
            ReasonError: by its leaf, what can't be done.
        """
        ...

    async def answer(self, question: Question, listen: Listener) -> Answer:
        """Answer a checked question; ``listen`` gets every event at once, and must not block."""
        ...
