"""The contract between a server and whoever reasons: requests, events, results and `Service`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from heapq import nlargest
from typing import Any, Protocol

from orchestrator import TaskState
from orchestrator.errors import UnknownName
from protocol.http.contract.conversation import ConversationTurn
from protocol.http.contract.options import AnswerOptions, OutputForm, ToolOffer
from protocol.http.contract.results import ReasoningResult


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


MOST_NEAR = 3
"""How many names are told to who gave a wrong one; a server may have hundreds."""


class ModelNotFound(UnknownName):
    """Raised when a request names a variant that there is none of."""


def unknown_variant(name: str, variants: Iterable[ModelVariant], what: str = "") -> ModelNotFound:
    """The error for a name that no variant has, with the names that are most like it.

    Args:
        what: What is wrong with it, if more is known than that it does not exist.
    """

    def likeness(known: str) -> float:
        return SequenceMatcher(None, name.lower(), known.lower()).ratio()

    near = nlargest(MOST_NEAR, (variant.id for variant in variants), key=likeness)
    problem = what or f"{name!r} does not exist"
    return ModelNotFound(f"model: {problem}; the nearest are {', '.join(near)}")


@dataclass(frozen=True, kw_only=True)
class ReasoningRequest:
    """A conversation that one variant is to answer.

    Attributes:
        form: The form of the answer, where one is asked for.
        offer: The tools that branches may want called.
        plain: Whether one sample will do, whatever the variant says.
    """

    variant: str
    turns: tuple[ConversationTurn, ...]
    options: AnswerOptions = field(default_factory=AnswerOptions)
    form: OutputForm | None = None
    offer: ToolOffer | None = None
    plain: bool = False

    @classmethod
    def ask(cls, variant: str, question: str, **options: Any) -> ReasoningRequest:
        """A conversation of one question; ``options`` are those of `AnswerOptions`."""
        turns = (ConversationTurn("user", question),)
        return cls(variant=variant, turns=turns, options=AnswerOptions(**options))

    @property
    def question(self) -> str:
        """The text of the user's last turn; where there is none, that of the last turn."""
        asked = [turn for turn in self.turns if turn.role == "user"]
        return (asked or self.turns)[-1].text


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
    """A branch wrote ``text``.

    Attributes:
        said: Whether it is a part of what the branch says, instead of its thoughts.
        tokens: How many tokens it is.
    """

    text: str
    said: bool = False
    tokens: int = 1


@dataclass(frozen=True, kw_only=True)
class BranchClosed(BranchEvent):
    """A branch reached a final state."""

    state: TaskState


@dataclass(frozen=True, kw_only=True)
class BranchChosen(BranchEvent):
    """The choice is settled: what this branch has said, and says from now on, is the answer."""


@dataclass(frozen=True, kw_only=True)
class RunStopped(BranchEvent):
    """The run was stopped because nobody waits for it any more; ``result`` is what it cost."""

    result: ReasoningResult


BranchListener = Callable[[BranchEvent], None]


@dataclass(frozen=True, kw_only=True)
class EngineLoad:
    """What the engines behind a service do at this moment.

    Attributes:
        threads: Threads that generate or wait for a slot.
        leaked: Tokens generated for threads after they were closed, since the start.
    """

    threads: int
    leaked: int


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a request will come to, as far as it is known before it runs.

    Attributes:
        model: The model that answers.
        strategy: What answers, by its name.
        policy: What steers the branches, by its name, where something does.
        width: How many branches may run at once.
        elastic: Whether fewer will do, at less confidence.
    """

    model: str
    strategy: str
    policy: str | None = None
    width: int = 1
    elastic: bool = False


class Service(Protocol):
    """Answers requests, several at once; cancelling `answer` stops every branch of it."""

    @property
    def variants(self) -> tuple[ModelVariant, ...]: ...

    @property
    def load(self) -> EngineLoad: ...

    def check(self, request: ReasoningRequest) -> RunPlan:
        """Refuse a request that can't be answered, before anything is computed.

        Raises:
            UnknownName: there is no such variant.
            ReasonError: by its leaf, what can't be done.
        """
        ...

    async def answer(
        self, request: ReasoningRequest, listen: BranchListener, *, width: int | None = None
    ) -> ReasoningResult:
        """Answer a checked request.

        Args:
            listen: Gets every event at once, and must not block.
            width: The most branches, where the plan is elastic; None leaves it to the plan.
        """
        ...
