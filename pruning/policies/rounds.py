"""When another round is not worth its cost, where answers are voted on.

*Scaling over Scaling* (arXiv 2505.20522) finds the N at which coverage saturates: the chance that
one of N traces is right.  A vote saturates much earlier, for it is settled once no other answer can
catch up.  Here the same form is fitted to the majority's accuracy (`fit_majority`), and the policy
asks of each question how likely its own leader is still to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, lgamma, log
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions
from pruning.observations import Ended
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policy import check_range, require


@dataclass(frozen=True, kw_only=True)
class MajorityCurve:
    """The accuracy of a vote over N traces, or of what stands after N rounds.

    F(N) = ceiling - (ceiling - single) (1 - rate)^(N-1): arXiv 2505.20522's saturating form, begun
    at one trace, whose accuracy is not 0.  The ceiling may lie below: a vote can lose.

    Attributes:
        single: The accuracy of one trace.
        ceiling: What many come to.
        rate: How much of what is missing each further one adds, from 0 to 1.
    """

    single: float
    ceiling: float
    rate: float

    def accuracy(self, traces: int) -> float:
        """F(N), for one trace or more."""
        return self.ceiling - (self.ceiling - self.single) * (1 - self.rate) ** (traces - 1)

    def gain(self, traces: int) -> float:
        """F(N+1) - F(N): what one trace more than N adds."""
        return self.accuracy(traces + 1) - self.accuracy(traces)

    def saturation(self, epsilon: float, most: int = 1 << 20) -> int:
        """N*: the fewest traces after which another adds less than ``epsilon``, up to ``most``."""
        require(epsilon > 0, f"epsilon: {epsilon} is not above 0; give a gain such as 0.001")
        first = self.gain(1)
        if first < epsilon:
            return 1
        if self.rate >= 1:
            return 2
        if self.rate <= 0:
            return most
        found = max(1, min(most, int(log(epsilon / first) / log(1 - self.rate))))
        while self.gain(found) >= epsilon and found < most:
            found += 1
        return found


def fit_majority(points: Sequence[tuple[int, float]]) -> MajorityCurve:
    """The least-squares curve through (N, accuracy of the majority of N) of at least three N.

    For each of a thousand rates the two accuracies follow in closed form.  `Evaluator.baseline`
    has the points for stored traces; rounds of a strategy can be fitted in the same way.
    """
    require(
        len({n for n, _ in points}) >= 3 and all(n >= 1 for n, _ in points),
        "points: give (N, accuracy) for at least three different N of 1 or more",
    )
    curves = (_with_rate(points, step / 1000) for step in range(1, 1000))
    return min(curves, key=lambda curve: sum((curve.accuracy(n) - y) ** 2 for n, y in points))


def _with_rate(points: Sequence[tuple[int, float]], rate: float) -> MajorityCurve:
    """The best curve of this rate: F is linear in the two accuracies, so two equations say it."""
    weights = [(1 - rate) ** (n - 1) for n, _ in points]
    own = sum(a * a for a in weights)
    both = sum(a * (1 - a) for a in weights)
    rest = sum((1 - a) ** 2 for a in weights)
    left = sum(a * y for a, (_, y) in zip(weights, points, strict=True))
    right = sum((1 - a) * y for a, (_, y) in zip(weights, points, strict=True))
    scale = own * rest - both * both
    return MajorityCurve(
        single=(left * rest - right * both) / scale,
        ceiling=(right * own - left * both) / scale,
        rate=rate,
    )


def fit_theta(counts: Sequence[tuple[int, int]]) -> float:
    """The urn's mass for new answers, by (different answers, votes) of questions.

    The maximum-likelihood θ of Ewens' sampling formula (1972): where each vote is new with
    probability θ / (θ + votes before it), as many different answers are expected as were seen.
    Between 0.001 and 1,000.
    """
    require(
        bool(counts) and all(1 <= kinds <= votes for kinds, votes in counts),
        "counts: give (different answers, votes) of one question or more, 1 ≤ answers ≤ votes",
    )
    seen = sum(kinds for kinds, _ in counts)
    low, high = log(1e-3), log(1e3)
    while high - low > 1e-6:
        theta = exp((low + high) / 2)
        expected = sum(theta / (theta + i) for _, votes in counts for i in range(votes))
        low, high = ((low + high) / 2, high) if expected < seen else (low, (low + high) / 2)
    return exp(low)


def _rising(mass: float, count: int) -> float:
    """The logarithm of Γ(mass + count) / Γ(mass)."""
    return lgamma(mass + count) - lgamma(mass)


@lru_cache(maxsize=1 << 16)
def overtaking(lead: int, leader: float, rival: float, rest: float, draws: int) -> float:
    """The chance that a rival who is ``lead`` votes behind is ahead after more draws from an urn.

    Each draw is the leader's, the rival's or another answer's, in proportion to its mass, which
    the draw raises by one (a Pólya urn; Hoppe 1984 with mass for what is new).
    """
    whole = leader + rival + rest
    found = 0.0
    for ours in range(lead + 1, draws + 1):
        for theirs in range(min(ours - lead, draws - ours + 1)):
            others = draws - ours - theirs
            if others and not rest:
                continue
            ways = lgamma(draws + 1) - lgamma(ours + 1) - lgamma(theirs + 1) - lgamma(others + 1)
            masses = _rising(rival, ours) + _rising(leader, theirs)
            masses += _rising(rest, others) if others else 0.0
            found += exp(ways + masses - _rising(whole, draws))
    return found


def change(votes: Mapping[str, int], draws: int, theta: float) -> float:
    """How likely it is at most that ``draws`` more votes change the leader.

    It is the sum over rivals, one of which is all that is new, so the true chance is no higher; it
    is 1 before the first vote.
    """
    if not votes:
        return 1.0
    first, *others = sorted(votes.values(), reverse=True)
    whole = sum(votes.values()) + theta
    rivals = [(first - count, float(count)) for count in others] + [(first, theta)]
    chances = (
        overtaking(lead, float(first), mass, max(0.0, whole - first - mass), draws)
        for lead, mass in rivals
        if lead < draws
    )
    return min(1.0, sum(chances))


@dataclass(frozen=True, kw_only=True)
class VotingRounds(VotingPolicy[Ballots]):
    """Launch traces in rounds, until no further round is likely to change the majority.

    After arXiv 2505.20522, with the vote in place of coverage.  A round has ``w`` traces, or one
    more than the leader's lead where that is more: a narrower one could change nothing.  Between
    rounds the leader is believed once the chance that the traces still allowed, up to ``n``, would
    change it is below ``epsilon`` (`change`); abstentions are taken for votes there.

    Attributes:
        theta: The mass of answers that nobody has given yet, in votes; `fit_theta` makes one from
            your own traces.
    """

    name: ClassVar[str] = "rounds"
    w: int = 4
    n: int = 64
    epsilon: float = 0.05
    theta: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "w n", 1)
        check_range(self, "epsilon", 0, 1, excluded="both")
        check_range(self, "theta", 0, excluded="least")

    def start(self, state: Ballots) -> Decisions:
        return state.launch(self.w, f"a round of {self.w}")

    def on_end(self, state: Ballots, ended: Ended) -> Decisions:
        if state.running:
            return NOTHING
        left = state.max_traces - state.launched
        chance = change(state.votes, left, self.theta)
        if chance < self.epsilon:
            return state.elect()
        first, second, *_ = (*sorted(state.votes.values(), reverse=True), 0, 0)
        width = min(left, max(self.w, first - second + 1))
        reason = f"a round of {width}: {left} more may change the leader, chance {chance:.2f}"
        return state.launch(width, reason) or state.elect()
