"""The part of a trace that a judge reads: its first tokens, or the reasoning steps in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pruning.evaluation.traces import Trace
from pruning.policy import check_range, require

LEADING = frozenset(
    """
    wait thus since so therefore hence because but however alternatively instead now next then
    first second third finally let suppose assume if given hmm okay actually also again maybe
    perhaps similarly consequently
    """.split()  # noqa: SIM905
)
"""Words that open a step; the paper names "wait", "thus" and "since" and not the whole list."""
_BORDER = re.compile(r"(?<=[.!?;])\s+|\n+")
_WORD = re.compile(r"[a-z]+")


def sentences(text: str) -> list[str]:
    """Sentences, clauses that end in a semicolon, and lines, without blank ones."""
    return [part.strip() for part in _BORDER.split(text) if part.strip()]


def steps(text: str, count: int) -> str:
    """The first ``count`` sentences that begin with a discourse word (arXiv 2510.08483), by lines.

    Where no sentence does, as in a trace of bare sums, each sentence is a step.
    """
    found = sentences(text)
    led = [one for one in found if (w := _WORD.match(one.lower())) and w[0] in LEADING]
    return "\n".join((led or found)[:count])


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """How much of a trace a judge reads.

    Stored text has no token borders, so the first ``tokens`` of a trace are taken to be the same
    share of its characters.

    Attributes:
        by: "tokens" for the whole beginning, "steps" for the reasoning steps in it.
        tokens: Length of the beginning, in tokens of the reasoning model; 500 in the paper.
        steps: At most this many steps; 25 in the paper.
    """

    by: Literal["tokens", "steps"] = "tokens"
    tokens: int = 500
    steps: int = 25

    def __post_init__(self) -> None:
        require(self.by in ("tokens", "steps"), f"by: {self.by!r}; give tokens or steps")
        check_range(self, "tokens steps", 1)

    def of(self, trace: Trace, written: int | None = None) -> str:
        """The text that is read of a trace with ``written`` tokens so far (by default all)."""
        seen = min(self.tokens, trace.tokens if written is None else written, trace.tokens)
        text = trace.text[: len(trace.text) * seen // trace.tokens]
        return steps(text, self.steps) if self.by == "steps" else text


def same_words(one: Trace, other: Trace, tokens: int) -> float:
    """A judge without training: 1 if the first ``tokens`` words of two traces are equal, else 0.

    Words are the tokens of the shipped models, of which it is as good a judge as trained ones.
    """
    return float(one.text.split()[:tokens] == other.text.split()[:tokens])
