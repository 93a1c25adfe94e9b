"""Best of n, where a verifier or a scorer says how good each finished trace is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from pruning.decisions import NOTHING, Decisions, Finish
from pruning.observations import Ended
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policies.votes import weigh
from pruning.policy import Need, PolicyError, check_range

Scorer: TypeAlias = Callable[[str, str, str], float]
"""How good an answer is, higher is better: of a question, a trace's text, and its answer.

It is never told which answers are right: a score is a guess, as a reward model's is.
"""


@dataclass(kw_only=True, slots=True)
class ScoredBallots(Ballots):
    """Ballots, and the score of each trace that answered."""

    scores: dict[int, float] = field(default_factory=dict)

    def end(self, ended: Ended) -> None:
        # A zero-argument super() does not work in a dataclass with slots on Python 3.11.
        Ballots.end(self, ended)
        if ended.answer is not None and ended.score is not None and ended.how == "finished":
            self.scores[ended.trace] = ended.score


@dataclass(frozen=True, kw_only=True)
class BestOfN(VotingPolicy[ScoredBallots]):
    """Take the answer that the verifier scores highest, the earliest launched among equals.

    Best-of-n by a verifier (Cobbe et al., arXiv 2110.14168).  A score of ``enough`` or more ends
    the run at once: an exact verifier scores a right answer 1, and there is none better.
    """

    name: ClassVar[str] = "best-of-n"
    ballots: ClassVar[type[Ballots]] = ScoredBallots
    needs: ClassVar[frozenset[Need]] = frozenset({"verifier"})
    n: int = 16
    enough: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "n", 1)

    def start(self, state: ScoredBallots) -> Decisions:
        return state.launch(self.n, f"the best of {self.n}")

    def on_end(self, state: ScoredBallots, ended: Ended) -> Decisions:
        score = state.scores.get(ended.trace)
        if score is not None and score >= self.enough:
            return (Finish(answer=ended.answer, reason=f"scored {score:g} ≥ {self.enough:g}"),)
        return NOTHING if state.running else self._close(state)

    def _close(self, state: ScoredBallots) -> Decisions:
        if not state.scores:
            return state.elect()
        best = max(sorted(state.scores), key=state.scores.__getitem__)
        reason = f"the best of {len(state.scores)}, scored {state.scores[best]:g}"
        return (Finish(answer=state.answers[best], reason=reason),)


@dataclass(frozen=True, kw_only=True)
class HighestScore(VotingPolicy[ScoredBallots]):
    """Take the answer of the trace that the scorer likes best, once all ``n`` have ended.

    Best-of-n by a reward model, as in Brown et al. (arXiv 2407.21787).  Among traces with the
    highest score the answer with most votes is taken, then the earliest launched.  Scores may have
    any scale, so none is enough to stop early.
    """

    name: ClassVar[str] = "bon"
    patient: ClassVar[bool] = True
    ballots: ClassVar[type[Ballots]] = ScoredBallots
    needs: ClassVar[frozenset[Need]] = frozenset({"score"})
    n: int = 16

    def __post_init__(self) -> None:
        check_range(self, "n", 1)

    def start(self, state: ScoredBallots) -> Decisions:
        return state.launch(self.n, f"the best of {self.n}")

    def on_end(self, state: ScoredBallots, ended: Ended) -> Decisions:
        if state.running:
            return NOTHING
        if not state.scores:
            return state.elect()
        votes, scores = state.votes, state.scores
        best = max(sorted(scores), key=lambda one: (scores[one], votes[state.answers[one] or ""]))
        reason = f"the best of {len(scores)}, scored {scores[best]:g}"
        return (Finish(answer=state.answers[best], reason=reason),)


@dataclass(frozen=True, kw_only=True)
class WeightedVote(VotingPolicy[ScoredBallots]):
    """Take the answer whose traces have the highest sum of scores, once all ``n`` have ended.

    The weighted vote of Li et al. (arXiv 2206.02336): V(a) = Σ score over the traces that gave a.
    Among equal sums the answer with most votes is taken, then the earliest launched.  Scores that
    are all 1 make it the majority vote; they have to be 0 or more, as probabilities are.
    """

    name: ClassVar[str] = "weighted"
    patient: ClassVar[bool] = True
    ballots: ClassVar[type[Ballots]] = ScoredBallots
    needs: ClassVar[frozenset[Need]] = frozenset({"score"})
    n: int = 16

    def __post_init__(self) -> None:
        check_range(self, "n", 1)

    def start(self, state: ScoredBallots) -> Decisions:
        return state.launch(self.n, f"{self.n} votes, weighted by their scores")

    def on_end(self, state: ScoredBallots, ended: Ended) -> Decisions:
        score = state.scores.get(ended.trace)
        if score is not None and not score >= 0:
            raise PolicyError(
                f"score: {score:g} of trace {ended.trace} is below 0, and {self.name} adds scores "
                "up; give a scorer with scores of 0 or more, or use bon"
            )
        if state.running:
            return NOTHING
        return self._close(state) if state.scores else state.elect()

    def _close(self, state: ScoredBallots) -> Decisions:
        sums = weigh((state.answers[one], state.scores[one]) for one in sorted(state.scores))
        best = max(sums, key=lambda answer: (sums[answer], state.votes[answer]))
        share = f"{sums[best]:.3g} of {sum(sums.values()):.3g}"
        return (Finish(answer=best, reason=f"the highest sum of scores: {share}"),)
