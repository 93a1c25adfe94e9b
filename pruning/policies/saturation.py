"""When another thread or round is not worth it: saturation with a rate per question.

*Scaling over Scaling* (arXiv 2505.20522) models the chance that N threads hold a right answer as
F(N) = F_max (1 - (1-p)^N), with one p.  Questions differ, so one p saturates far too early.  Here
p ~ Beta(α, β) over questions, and all follows in closed form from the beta-binomial:
F(N) = 1 - B(α, β+N) / B(α, β).  Observing a question updates its own α and β.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma
from random import Random
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions
from pruning.observations import Began, Ended, Observation
from pruning.policies.ballots import Ballots
from pruning.policy import Policy, require


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


@dataclass(frozen=True, kw_only=True)
class BetaBinomial:
    """The rate of success of a thread, over questions or as believed of one question."""

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        require(self.alpha > 0 and self.beta > 0, "alpha, beta: give numbers above 0")

    def coverage(self, threads: int) -> float:
        """F(N): the chance that at least one of N threads succeeds."""
        return 1 - exp(
            _log_beta(self.alpha, self.beta + threads) - _log_beta(self.alpha, self.beta)
        )

    def gain(self, threads: int) -> float:
        """ΔF(N) = F(N+1) - F(N): what one more thread than N is worth."""
        failed = 1 - self.coverage(threads)
        return failed * self.alpha / (self.alpha + self.beta + threads)

    def saturation(self, epsilon: float, most: int = 1 << 20) -> int:
        """N*: the fewest threads after which another gains less than ``epsilon``, up to ``most``.

        The gain falls with N, so it is found by halving.
        """
        require(epsilon > 0, f"epsilon: {epsilon} is not above 0; give a gain such as 0.01")
        low, high = 0, most
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.gain(middle) < epsilon else (middle + 1, high)
        return low

    def update(self, succeeded: int, failed: int) -> BetaBinomial:
        """The belief after these threads of one question."""
        return BetaBinomial(alpha=self.alpha + succeeded, beta=self.beta + failed)

    def likelihood(self, counts: Sequence[tuple[int, int]]) -> float:
        """The log-likelihood of (succeeded, sampled) pairs, but for a constant."""
        base = _log_beta(self.alpha, self.beta)
        return sum(_log_beta(self.alpha + s, self.beta + n - s) - base for s, n in counts)


def fit(counts: Sequence[tuple[int, int]]) -> BetaBinomial:
    """The beta-binomial of greatest likelihood for (succeeded, sampled) pairs, one a question.

    By coordinate search on log α and log β, which needs no derivative and no start; rates of all
    0 or all 1 have no maximum and give the search's corner.
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
class Saturation(Policy[Ballots]):
    """Launch on until another trace would hardly bring an answer that was not yet seen.

    ``k`` traces run at a time.  A trace *succeeds* if it gives a new answer; the chance that the
    next one does is believed to be Beta(``alpha``, ``beta``), updated by every trace that ended.
    Once its mean is below ``epsilon`` no more are launched, and the running ones still vote.

    The prior is uninformed; `fit` gives one from traces of one's own.
    """

    name: ClassVar[str] = "saturation"
    k: int = 8
    n: int = 64
    epsilon: float = 0.1
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        require(self.k >= 1, f"k: {self.k} is out of range; give 1 or more traces in flight")
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more traces")
        require(0 < self.epsilon < 1, f"epsilon: {self.epsilon} is out of range; give 0 to 1")
        require(self.alpha > 0 and self.beta > 0, "alpha, beta: give numbers above 0")

    def begin(self, rng: Random) -> Ballots:
        return Ballots(most=self.n)

    def observe(self, state: Ballots, observation: Observation) -> Decisions:
        if isinstance(observation, Ended):
            state.end(observation)
            return self._more(state) or (NOTHING if state.running else state.elect())
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.k, f"{self.k} in flight")
        return NOTHING

    def _more(self, state: Ballots) -> Decisions:
        ended, fresh = len(state.answers), max(0, len(state.votes) - 1)  # the first is always new
        belief = BetaBinomial(alpha=self.alpha, beta=self.beta).update(
            fresh, max(0, ended - 1 - fresh)
        )
        chance = belief.gain(0)
        if chance < self.epsilon:
            return NOTHING
        return state.launch(1, f"chance of a new answer {chance:.2f} ≥ {self.epsilon}")
