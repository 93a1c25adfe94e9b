"""Majority and weighted voting over the answers of independent traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The count of a vote.

    Attributes:
        winner: The key with most votes, the earliest cast among equals; None without any vote.
        votes: Votes by key, most first.
        abstained: Traces that gave no answer.
    """

    winner: str | None
    votes: dict[str, int]
    abstained: int

    @property
    def confidence(self) -> float:
        """The winner's share of all traces, those that abstained included."""
        total = sum(self.votes.values()) + self.abstained
        return self.votes[self.winner] / total if self.winner is not None else 0.0

    @property
    def tied(self) -> bool:
        """Whether another answer has as many votes as the winner, or more."""
        winning = self.votes.get(self.winner, 0) if self.winner is not None else 0
        rivals = (votes for key, votes in self.votes.items() if key != self.winner)
        return self.winner is not None and winning > 0 and max(rivals, default=0) == winning


def majority(ballots: Iterable[str | None]) -> Tally:
    """Count ballots in the order cast; None abstains (self-consistency, arXiv 2203.11171)."""
    ballots = list(ballots)
    counts = Counter(ballot for ballot in ballots if ballot is not None)
    ranked = counts.most_common()  # stable: the earlier key stays ahead of an equal one
    return Tally(
        winner=ranked[0][0] if ranked else None,
        votes=dict(ranked),
        abstained=len(ballots) - counts.total(),
    )


def weigh(ballots: Iterable[tuple[str | None, float]]) -> dict[str, float]:
    """The weight of each answer, V(a) = Σ w over its ballots, most first (arXiv 2508.15260).

    None abstains; among equals the earliest cast stays first.  Weights are at least 0.
    """
    weights: dict[str, float] = {}
    for answer, weight in ballots:
        if not weight >= 0:
            raise ValueError(f"weight: {weight} is below 0; give weights of 0 or more")
        if answer is not None:
            weights[answer] = weights.get(answer, 0.0) + weight
    return dict(sorted(weights.items(), key=lambda item: -item[1]))
