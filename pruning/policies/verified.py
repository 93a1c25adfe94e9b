"""Best of n, where a verifier scores every finished trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions, Finish
from pruning.observations import Ended
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policy import Need, check_range


@dataclass(kw_only=True, slots=True)
class VerifierState(Ballots):
    """Ballots, and the verifier's score of each trace that answered."""

    scores: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BestOfN(VotingPolicy[VerifierState]):
    """Take the answer that the verifier scores highest, the earliest launched among equals.

    Best-of-n by a verifier (Cobbe et al., arXiv 2110.14168).  A score of ``enough`` or more ends
    the run at once: an exact verifier scores a right answer 1, and there is none better.
    """

    name: ClassVar[str] = "best-of-n"
    ballots: ClassVar[type[Ballots]] = VerifierState
    needs: ClassVar[frozenset[Need]] = frozenset({"verifier"})
    n: int = 16
    enough: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "n", 1)

    def start(self, state: VerifierState) -> Decisions:
        return state.launch(self.n, f"the best of {self.n}")

    def on_end(self, state: VerifierState, ended: Ended) -> Decisions:
        return self._score(state, ended) or (NOTHING if state.running else self._close(state))

    def _score(self, state: VerifierState, ended: Ended) -> Decisions:
        if ended.answer is None or ended.score is None or ended.how != "finished":
            return NOTHING
        state.scores[ended.trace] = ended.score
        if ended.score < self.enough:
            return NOTHING
        return (Finish(answer=ended.answer, reason=f"scored {ended.score:g} ≥ {self.enough:g}"),)

    def _close(self, state: VerifierState) -> Decisions:
        if not state.scores:
            return state.elect()
        best = max(sorted(state.scores), key=state.scores.__getitem__)
        reason = f"the best of {len(state.scores)}, scored {state.scores[best]:g}"
        return (Finish(answer=state.answers[best], reason=reason),)
