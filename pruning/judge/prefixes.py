"""What a judge reads of a trace: its first tokens, or the reasoning steps among them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pruning.evaluation.traces import Trace
from pruning.policy import require

LEADING = frozenset(
    """
    wait thus since so therefore hence because but however alternatively instead now next then
    first second third finally let suppose assume if given hmm okay actually also again maybe
    perhaps similarly consequently
    """.split()  # noqa: SIM905
)
"""Words that open a step: the paper names "wait", "thus" and "since", but not its whole list."""
_BORDER = re.compile(r"(?<=[.!?;])\s+|\n+")
_WORD = re.compile(r"[a-z]+")


def sentences(text: str) -> list[str]:
    """Sentences, clauses that end in a semicolon, and lines; without what is blank."""
    return [part.strip() for part in _BORDER.split(text) if part.strip()]


def steps(text: str, count: int) -> str:
    """The first ``count`` sentences that a discourse word opens (arXiv 2510.08483), joined.

    Where no sentence begins with one, as in a trace of bare sums, each sentence is a step.
    """
    found = sentences(text)
    led = [one for one in found if (w := _WORD.match(one.lower())) and w[0] in LEADING]
    return "\n".join((led or found)[:count])


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """How much of a trace a judge reads.

    Stored text has no borders of tokens, so ``tokens`` of a trace's length are as large a share
    of its characters.

    Attributes:
        by: "tokens" for the beginning itself, "steps" for the reasoning steps within it.
        tokens: The beginning, in tokens of the reasoning model; the paper's 500.
        steps: At most so many steps; the paper's 25.
    """

    by: Literal["tokens", "steps"] = "tokens"
    tokens: int = 500
    steps: int = 25

    def __post_init__(self) -> None:
        require(self.by in ("tokens", "steps"), f"by: {self.by!r}; give tokens or steps")
        require(self.tokens >= 1, f"tokens: {self.tokens} is below 1; give 1 or more")
        require(self.steps >= 1, f"steps: {self.steps} is below 1; give 1 or more")

    def of(self, trace: Trace, written: int | None = None) -> str:
        """What is read of a trace that has ``written`` tokens (by default all) by now."""
        seen = min(self.tokens, trace.tokens if written is None else written, trace.tokens)
        text = trace.text[: len(trace.text) * seen // trace.tokens]
        return steps(text, self.steps) if self.by == "steps" else text
