"""When another trace is not worth its cost: saturation with a success rate per question.

*Scaling over Scaling* (arXiv 2505.20522) models the chance that one of N traces is right as
F(N) = F_max (1 - (1-p)^N), with one p.  Questions differ, so one p saturates far too early.  Here
p ~ Beta(α, β) over questions, so that F(N) = 1 - B(α, β+N) / B(α, β) in closed form.  What is seen
of a question updates its own α and β.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions
from pruning.observations import Ended
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policy import check_range, require


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


@dataclass(frozen=True, kw_only=True)
class BetaBinomial:
    """A Beta distribution of success rates over questions, or the belief about one question."""

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        require(self.alpha > 0 and self.beta > 0, "alpha, beta: give numbers above 0")

    def coverage(self, traces: int) -> float:
        """F(N): the chance that at least one of N traces succeeds."""
        return 1 - exp(_log_beta(self.alpha, self.beta + traces) - _log_beta(self.alpha, self.beta))

    def gain(self, traces: int) -> float:
        """ΔF(N) = F(N+1) - F(N): what one trace more than N adds."""
        failed = 1 - self.coverage(traces)
        return failed * self.alpha / (self.alpha + self.beta + traces)

    def saturation(self, epsilon: float, most: int = 1 << 20) -> int:
        """N*: the fewest traces after which another adds less than ``epsilon``, up to ``most``.

        The gain falls with N, so bisection finds it.
        """
        require(epsilon > 0, f"epsilon: {epsilon} is not above 0; give a gain such as 0.01")
        low, high = 0, most
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.gain(middle) < epsilon else (middle + 1, high)
        return low

    def update(self, succeeded: int, failed: int) -> BetaBinomial:
        """The belief after these traces of one question."""
        return BetaBinomial(alpha=self.alpha + succeeded, beta=self.beta + failed)

    def likelihood(self, counts: Sequence[tuple[int, int]]) -> float:
        """The log-likelihood of (succeeded, sampled) pairs, up to a constant."""
        base = _log_beta(self.alpha, self.beta)
        return sum(_log_beta(self.alpha + s, self.beta + n - s) - base for s, n in counts)


def fit(counts: Sequence[tuple[int, int]]) -> BetaBinomial:
    """The maximum-likelihood beta-binomial for (succeeded, sampled) pairs, one for each question.

    A coordinate search on log α and log β needs no derivative.  Rates that are all 0 or all 1
    have no maximum and give the border of the search.
    """
    require(bool(counts), "counts: empty; give (succeeded, sampled) of at least one question")
    require(
        all(0 <= s <= n and n > 0 for s, n in counts), "counts: give 0 ≤ succeeded ≤ sampled, > 0"
    )
    at, step = (0.0, 0.0), 2.0
    best = BetaBinomial(alpha=1.0, beta=1.0).likelihood(counts)
    while step > 1e-4:
        moved = False
        for da, db in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)):
            near = (at[0] + da * step, at[1] + db * step)
            if max(map(abs, near)) > 7:  # α and β from 0.001 to 1,100
                continue
            value = BetaBinomial(alpha=exp(near[0]), beta=exp(near[1])).likelihood(counts)
            if value > best:
                at, best, moved = near, value, True
        step = step if moved else step / 2
    return BetaBinomial(alpha=exp(at[0]), beta=exp(at[1]))


@dataclass(frozen=True, kw_only=True)
class Saturation(VotingPolicy[Ballots]):
    """Launch traces until another would hardly bring a new answer.

    ``k`` traces run at a time.  A trace *succeeds* if it gives a new answer.  The success rate has
    a Beta(``alpha``, ``beta``) prior, which every ended trace updates.  Once its mean is below
    ``epsilon`` no more traces are launched, and the running ones still vote.

    The default prior is uniform; `fit` makes one from your own traces.
    """

    name: ClassVar[str] = "saturation"
    k: int = 8
    n: int = 64
    epsilon: float = 0.1
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "k n", 1)
        check_range(self, "epsilon", 0, 1, excluded="both")
        check_range(self, "alpha beta", 0, excluded="least")

    def start(self, state: Ballots) -> Decisions:
        return state.launch(self.k, f"{self.k} in flight")

    def on_end(self, state: Ballots, ended: Ended) -> Decisions:
        return self._more(state) or (NOTHING if state.running else state.elect())

    def _more(self, state: Ballots) -> Decisions:
        ended, fresh = len(state.answers), max(0, len(state.votes) - 1)  # the first is always new
        prior = BetaBinomial(alpha=self.alpha, beta=self.beta)
        chance = prior.update(fresh, max(0, ended - 1 - fresh)).gain(0)
        if chance < self.epsilon:
            return NOTHING
        return state.launch(1, f"chance of a new answer {chance:.2f} ≥ {self.epsilon}")
