"""Best of n, where a verifier scores every finished trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions, Finish
from pruning.observations import Began, Ended, Observation
from pruning.policies.ballots import Ballots
from pruning.policy import Need, Policy, require


@dataclass(kw_only=True, slots=True)
class Scores(Ballots):
    """Ballots, and the verifier's score of each trace that answered."""

    scores: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BestOfN(Policy[Scores]):
    """Take the answer that the verifier scores highest, the earliest launched among equals.

    Best-of-n by a verifier (Cobbe et al., arXiv 2110.14168).  A score of ``enough`` ends the run
    at once: with an exact verifier that says 1 for right, nothing else is worth waiting for.
    """

    name: ClassVar[str] = "best-of-n"
    needs: ClassVar[frozenset[Need]] = frozenset({"verifier"})
    n: int = 16
    enough: float = 1.0

    def __post_init__(self) -> None:
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more traces")

    def begin(self, rng: Random) -> Scores:
        return Scores(most=self.n)

    def observe(self, state: Scores, observation: Observation) -> Decisions:
        if isinstance(observation, Ended):
            state.end(observation)
            return self._score(state, observation) or (
                NOTHING if state.running else self._close(state)
            )
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.n, f"the best of {self.n}")
        return NOTHING

    def _score(self, state: Scores, ended: Ended) -> Decisions:
        if ended.answer is None or ended.score is None or ended.how != "finished":
            return NOTHING
        state.scores[ended.trace] = ended.score
        if ended.score < self.enough:
            return NOTHING
        return (Finish(answer=ended.answer, reason=f"scored {ended.score:g} ≥ {self.enough:g}"),)

    def _close(self, state: Scores) -> Decisions:
        if not state.scores:
            return state.elect()
        best = max(sorted(state.scores), key=state.scores.__getitem__)
        reason = f"the best of {len(state.scores)}, scored {state.scores[best]:g}"
        return (Finish(answer=state.answers[best], reason=reason),)
