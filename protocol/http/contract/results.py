"""How a run ended: what the chosen branch said, how it was chosen, and what all of it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from protocol.http.contract.conversation import FunctionCall

RunStatus = Literal["finished", "timed-out", "interrupted"]


MOST_SHOWN = 200
"""Characters of an answer among the votes; a longer one is cut there."""


def _shown(answer: str) -> str:
    return answer if len(answer) <= MOST_SHOWN else f"{answer[:MOST_SHOWN]}…"


@dataclass(frozen=True, kw_only=True)
class ChosenAnswer:
    """What one branch said.

    Attributes:
        text: All that it wrote after its thoughts.
        thoughts: What it wrote before.
        calls: The tools that it wants called.
        branch: Whose words they are; empty where several branches' were put together.
        answer: What was read as the answer in them; None where nothing was, or all of it is.
        source: Where the answer stood, such as ``box``; ``text`` is all of it, ``none`` nowhere,
            and ``unsolved`` is a problem of which the answer was not found.
        cut: Whether it was stopped before its own end.
        tokens: How many tokens ``text`` and ``calls`` have, as far as known.
    """

    text: str
    thoughts: str = ""
    calls: tuple[FunctionCall, ...] = ()
    branch: str = ""
    answer: str | None = None
    source: str = "none"
    cut: bool = False
    tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class ReasoningResult:
    """How a run ended, with its whole cost.

    Attributes:
        answers: The best one first; where several are asked for, all differ.
        cut: Whether the budget of all branches stopped the run.
        verified: Whether the verifier agreed; None where it could not be asked.
        strategy: What answered, by its name.
        policy: What steered it, with its settings, where something did.
        selected_by: How the answer was chosen, such as ``vote``.
        width: How many branches were to run.
        branches: How many ran.
        prompt_tokens: Tokens given to branches; what they share is counted once.
        sent_tokens: Tokens given to branches as a server counts them, for each its whole prompt.
        cached_tokens: How many of these came from a cache, or were shared between branches.
        span_tokens: The longest chain of tokens that depend on each other.
        saved_tokens: What the samples that were stopped early would have written, by the mean of
            those that ended.
        leaked_tokens: Generated for branches after they were stopped.
        wall_s: Seconds from start to end.
        votes: Votes by canonical answer, most first.
        notes: What was done otherwise than asked, by name: emulations, a shrunk width, and so on.
        errors: Why branches were lost.
        unread: Fields of the request that were not read.
        seed: The seed that was used.
    """

    answers: tuple[ChosenAnswer, ...]
    status: RunStatus
    cut: bool
    verified: bool | None
    confidence: float
    strategy: str
    branches: int
    prompt_tokens: int
    completion_tokens: int
    span_tokens: int
    wall_s: float
    policy: str | None = None
    selected_by: str | None = None
    width: int = 1
    sent_tokens: int = 0
    cached_tokens: int = 0
    saved_tokens: int = 0
    leaked_tokens: int = 0
    votes: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    seed: int = 0

    @property
    def best(self) -> ChosenAnswer:
        """The first answer."""
        return self.answers[0]

    @property
    def text(self) -> str:
        """What the chosen branch said."""
        return self.best.text

    @property
    def billed_tokens(self) -> int:
        """The prompt tokens that ``usage`` has: what the server behind counts, where one does."""
        return self.sent_tokens or self.prompt_tokens

    @property
    def work_tokens(self) -> int:
        """All tokens of the run, given and generated; what branches share is counted once."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def finished(self) -> bool:
        """Whether the run came to its own end, instead of being stopped."""
        return self.status == "finished"

    @property
    def no_answer(self) -> str:
        """What a person is told where nothing was said."""
        ended = {
            "finished": "ended without one; try another variant or a larger n",
            "timed-out": "were stopped at the time limit; raise x_reason.timeout",
            "interrupted": "were stopped",
        }[self.status]
        if self.cut:
            ended = "were stopped at x_reason.budget; raise it"
        return f"No answer was found: {self.branches} branches {ended}."

    def details(self, dropped: int = 0, ignored: Sequence[str] = ()) -> dict[str, Any]:
        """What OpenAI's and A2A's responses have no field for, as JSON values.

        Args:
            dropped: Characters of thoughts that a slow reader did not get.
            ignored: Names of what was sent and not read, beside ``unread``.
        """
        votes = {_shown(answer): count for answer, count in self.votes.items()}
        told = {**vars(self), "votes": votes}
        del told["answers"], told["completion_tokens"], told["unread"]
        return told | {
            "answer": self.best.answer,
            "answer_source": self.best.source,
            "branch": self.best.branch,
            "notes": list(self.notes),
            "errors": list(self.errors),
            "confidence": round(self.confidence, 4),
            "work_tokens": self.work_tokens,
            "wall_s": round(self.wall_s, 4),
            "dropped_characters": dropped,
            "ignored": [*ignored, *self.unread],
        }
