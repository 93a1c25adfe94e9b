"""The contract between a server and whoever reasons: requests, events, results and `Service`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from orchestrator import TaskState


@dataclass(frozen=True, kw_only=True)
class ModelVariant:
    """One thing that a client can pick as its model: a model, or a strategy on it.

    Attributes:
        id: Its name on the wire, such as ``reason-5m/apr``.
        title: Its name for people.
        description: What it does, in a sentence.
        created: When its weights were made, in seconds since 1970.
    """

    id: str
    title: str
    description: str
    created: int = 0


@dataclass(frozen=True)
class ConversationTurn:
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    text: str


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """What a request may set for its own run; None leaves it to the service.

    Attributes:
        n: The number of branches.
        temperature: The temperature at which branches sample.
        seed: The same seed gives the same tokens.
        budget: The most tokens that all branches together may write; then the run is stopped.
        context: The context of each branch in tokens, prompt included.
        timeout: Seconds after which the run answers with the best that it has.
    """

    n: int | None = None
    temperature: float | None = None
    seed: int = 0
    budget: int | None = None
    context: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReasoningRequest:
    """A conversation that one variant is to answer; its last turn is the user's."""

    variant: str
    turns: tuple[ConversationTurn, ...]
    options: AnswerOptions = field(default_factory=AnswerOptions)

    @classmethod
    def ask(cls, variant: str, question: str, **options: Any) -> ReasoningRequest:
        """A conversation of one question; ``options`` are those of `AnswerOptions`."""
        turns = (ConversationTurn("user", question),)
        return cls(variant=variant, turns=turns, options=AnswerOptions(**options))

    @property
    def question(self) -> str:
        """The text of the last turn."""
        return self.turns[-1].text


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


BranchListener = Callable[[BranchEvent], None]


@dataclass(frozen=True, kw_only=True)
class ReasoningResult:
    """How a run ended, with its whole cost: tokens of every branch, shared ones counted once.

    Attributes:
        text: The answer; None if the run found none.
        cut: Whether the token budget stopped the run.
        verified: Whether the verifier agreed; None where it could not be asked.
        span_tokens: The longest chain of tokens that depend on each other.
        wall_s: Seconds from start to end.
        votes: Votes by canonical answer, most first.
    """

    text: str | None
    status: Literal["finished", "timed-out", "interrupted"]
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
        """All tokens of the run, given and generated."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def finished(self) -> bool:
        """Whether the run came to its own end, instead of being stopped."""
        return self.status == "finished"

    @property
    def no_answer(self) -> str:
        """What a client is told where ``text`` is None."""
        ended = {
            "finished": "ended without one; try another variant or a larger n",
            "timed-out": "were stopped at the time limit; raise x_reason.timeout",
            "interrupted": "were stopped",
        }[self.status]
        if self.cut:
            ended = "were stopped at max_completion_tokens; raise it"
        return f"No answer was found: {self.branches} branches {ended}."

    def details(self, dropped: int = 0, ignored: Sequence[str] = ()) -> dict[str, Any]:
        """What OpenAI's and A2A's responses have no field for, as JSON values.

        Args:
            dropped: Characters of thoughts that a slow reader did not get.
            ignored: Names of what was sent and not read.
        """
        told = {**vars(self), "votes": dict(self.votes)}
        del told["text"], told["completion_tokens"]
        return told | {
            "confidence": round(self.confidence, 4),
            "work_tokens": self.work_tokens,
            "wall_s": round(self.wall_s, 4),
            "dropped_characters": dropped,
            "ignored": list(ignored),
        }


@dataclass(frozen=True, kw_only=True)
class EngineLoad:
    """What the engines behind a service do at this moment.

    Attributes:
        threads: Threads that generate or wait for a slot.
        leaked: Tokens generated for threads after they were closed, since the start.
    """

    threads: int
    leaked: int


class Service(Protocol):
    """Answers requests, several at once; cancelling `answer` stops every branch of it."""

    @property
    def variants(self) -> tuple[ModelVariant, ...]: ...

    @property
    def load(self) -> EngineLoad: ...

    def check(self, request: ReasoningRequest) -> None:
        """Refuse a request that can't be answered, before anything is computed.

        Raises:
            UnknownName: there is no such variant.
            ReasonError: by its leaf, what can't be done.
        """
        ...

    async def answer(self, request: ReasoningRequest, listen: BranchListener) -> ReasoningResult:
        """Answer a checked request; ``listen`` gets every event at once, and must not block."""
        ...
