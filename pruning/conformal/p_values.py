"""Conformal p-values and rate control, for scores of which higher is stranger.

``docs/guarantees.md`` says what each promises, and over what randomness.
"""

from __future__ import annotations

from bisect import bisect_left, insort_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import floor, log, sqrt

from pruning.policy import require


def p_value(calibration: Sequence[float], score: float) -> float:
    """p = (#{c ≥ score} + 1) / (n + 1) over *sorted* calibration scores.

    Where the score is exchangeable with the calibration scores, P(p ≤ a) ≤ a for every a (Vovk,
    Gammerman and Shafer, *Algorithmic Learning in a Random World*); the +1 is the score itself.
    Equal scores count as stranger, so that tied scores share the largest p-value among them: the
    promise holds, and where many tie, fewer than a share a of them have p ≤ a.  Nothing is drawn at
    random to break ties, so that decisions follow from what was observed.
    """
    require(score == score, "score: not a number; give one")
    count = len(calibration)
    return (count - bisect_left(calibration, score) + 1) / (count + 1)


BOLDEST = 0.9
"""The largest share of its capital that a bet may lose."""


def betting_p_value(losses: Sequence[float], risk: float, *, delta: float = 0.1) -> float:
    """The p-value of "the mean loss is above ``risk``", for losses in [0, 1] in a random order.

    A gambler bets on each loss, before it is seen, that it is below the risk; if the mean is above
    it, her capital exceeds 1 / a with probability at most a (Waudby-Smith and Ramdas, arXiv
    2010.09686).  The bets are larger the less the losses have varied, so that shares which are
    always small show it much earlier than Hoeffding's and Bentkus' bounds, which know the mean
    alone.  ``delta`` is the level for which bets are sized; the p-value is valid at any.
    """
    require(0 < risk < 1 and 0 < delta < 1, "risk, delta: give numbers between 0 and 1")
    size = 2 * log(1 / delta) / max(1, len(losses))
    capital = most = 1.0
    total, squares = 0.5, 0.25
    for count, loss in enumerate(losses, 1):
        bet = min(BOLDEST / (1 - risk), sqrt(size * count / squares))
        capital *= 1 + bet * (risk - loss)
        most = max(most, capital)
        total += loss
        squares += (loss - total / (count + 1)) ** 2
    return 1 / most


def spread(alpha: float, n: int) -> float:
    """The standard deviation of the rejection rate at ``alpha`` over sets of ``n`` units.

    Given one calibration set, the rate of p ≤ alpha is Beta(l, n + 1 - l), l = ⌊alpha (n + 1)⌋.
    A unit is what is exchangeable: a question, not one of its traces.
    """
    low = floor(alpha * (n + 1))
    return sqrt(low * (n + 1 - low) / ((n + 1) ** 2 * (n + 2)))


class ScoreBin:
    """The scores of one bin of a `Bank`: ``scores`` sorted, ``ages`` in the order of arrival."""

    __slots__ = ("ages", "bank", "least", "most", "scores")

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.least = bank.least
        self.most = bank.most
        self.scores: list[float] = []
        self.ages: list[float] = []

    def p_value(self, score: float) -> float:
        """The p-value of a score against the scores known so far."""
        own = self.scores
        return p_value(own, score) if len(own) >= self.least else self.bank.pooled(score)

    def take(self, score: float) -> float:
        """The p-value of a score, which is then added to the bin."""
        scores = self.scores
        p = self.p_value(score)
        insort_left(scores, score)
        self.ages.append(score)
        if len(scores) > self.most:
            self.ages = self.ages[-(self.most // 2 or 1) :]
            self.scores = sorted(self.ages)
        return p


@dataclass(kw_only=True)
class Bank:
    """A growing set of calibration scores in Mondrian bins, such as turns.

    A bin's p-values are over its own scores (Mondrian conformal prediction), so the guarantee
    holds in each bin.  A bin with fewer than ``least`` scores uses those of all bins; that
    marginal p-value has no guarantee for the bin.  A bin with more than ``most`` scores forgets
    the older half.
    """

    least: int = 20
    most: int = 1000
    bins: dict[Hashable, ScoreBin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(1 <= self.least <= self.most, "least, most: give 1 ≤ least ≤ most scores a bin")

    def bin(self, key: Hashable) -> ScoreBin:
        """The bin of this key; makes it where there is none."""
        found = self.bins.get(key)
        if found is None:
            found = self.bins[key] = ScoreBin(self)
        return found

    def p_value(self, key: Hashable, score: float) -> float:
        """The p-value of a score against the scores known so far."""
        return self.bins[key].p_value(score) if key in self.bins else self.pooled(score)

    def add(self, key: Hashable, score: float) -> None:
        """Add a score to its bin."""
        self.bin(key).take(score)

    def pooled(self, score: float) -> float:
        """The p-value of a score against the scores of all bins."""
        require(score == score, "score: not a number; give one")
        total = sum(len(one.scores) for one in self.bins.values())
        below = sum(bisect_left(one.scores, score) for one in self.bins.values())
        return (total - below + 1) / (total + 1)


@dataclass(kw_only=True)
class _Rate:
    """How many items of a stream came, and how many were flagged.

    Attributes:
        target: The share to flag.
    """

    target: float
    updates: int = 0
    flagged: int = 0

    def __post_init__(self) -> None:
        require(0 < self.target < 1, f"target: {self.target} is out of range; give 0 to 1")

    @property
    def rate(self) -> float:
        """The share of flagged items; ``target`` before the first."""
        return self.flagged / self.updates if self.updates else self.target

    def _bound(self, reach: float, step: float) -> float:
        """The bound of a tracker that moves by ``step`` and stays in a range of ``reach``."""
        return min(1.0, (reach + step) / (step * self.updates)) if self.updates else 1.0


@dataclass(kw_only=True)
class AdaptiveLevel(_Rate):
    """ACI: a level that holds a rate for any sequence (Gibbs and Candès, arXiv 2106.00170).

    a ← a + γ (target - flagged).  After T updates the share of flagged items is within `bound` of
    the target for any sequence, if an item is flagged when p ≤ a, with p in (0, 1].  A level above
    1 flags everything, and one below 0 nothing.
    """

    gamma: float = 0.02
    level: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.gamma > 0, f"gamma: {self.gamma} is not above 0; give a step such as 0.02")
        self.level = self.target if self.level < 0 else self.level
        self._first = self.level
        self.rise, self.fall = self.gamma * self.target, self.gamma * (1 - self.target)

    def flags(self, p: float) -> bool:
        """Whether a p-value is small enough at the level now."""
        return p <= self.level

    def update(self, flagged: bool) -> None:
        """Move after an item that was flagged or not."""
        self.updates += 1
        if flagged:
            self.flagged += 1
            self.level -= self.fall
        else:
            self.level += self.rise

    @property
    def bound(self) -> float:
        """|rate - target| ≤ (max(a₁, 1 - a₁) + γ) / (γ T), for any sequence."""
        return self._bound(max(self._first, 1 - self._first), self.gamma)


@dataclass(kw_only=True)
class QuantileTracker(_Rate):
    """Track the score above which a share ``target`` lies (conformal PID, arXiv 2307.16895).

    q ← q + η (flagged - target), where scores above q are flagged.  It needs no calibration
    scores.  For scores in [0, ``top``] and a start there, the rate stays within `bound`.
    """

    top: float
    eta: float = 0.05
    quantile: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.eta > 0, f"eta: {self.eta} is not above 0; give a step such as 0.05")
        require(0 <= self.quantile <= self.top, "quantile: give a start from 0 to top")

    def flags(self, score: float) -> bool:
        """Whether a score is strange enough now."""
        return score > self.quantile

    def update(self, flagged: bool) -> None:
        """Move after an item that was flagged or not."""
        self.updates += 1
        self.flagged += flagged
        self.quantile += self.eta * (flagged - self.target)

    @property
    def bound(self) -> float:
        """|rate - target| ≤ (top + η) / (η T), for any sequence of scores in [0, top]."""
        return self._bound(self.top, self.eta)


def level_for_budget(calls: float, steps: float) -> float:
    """The level at which ``steps`` scored steps are expected to call the target ``calls`` times.

    It is calls / steps, at most 1.  With n calibration scores, no two of them equal, the expected
    share of exchangeable steps with p ≤ level is ⌊level (n + 1)⌋ / (n + 1): never above the level,
    and below it by less than 1 / (n + 1).  Ties make it smaller; see `p_value`.
    """
    require(calls >= 0, f"calls: {calls} is below 0; give target calls")
    require(steps > 0, f"steps: {steps} is not above 0; give how many steps will be scored")
    return min(1.0, calls / steps)
