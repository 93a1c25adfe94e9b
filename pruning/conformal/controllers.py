"""The conformal controller: which of a draft's steps the target model continues."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Literal, NamedTuple

from pruning.conformal.p_values import AdaptiveLevel, Bank, Bin, QuantileTracker
from pruning.decisions import NOTHING, Accept, Decisions, Escalate, Resample
from pruning.observations import Began, Ended, Observation, StepScored
from pruning.policies.ballots import Ballots
from pruning.policy import Need, Policy, require

Method = Literal["bank", "aci", "quantile"]
_new = tuple.__new__
METHODS: tuple[Method, ...] = ("bank", "aci", "quantile")


class Lane(NamedTuple):
    """One turn: its scores, and what decides: a level that moves, a fixed one, or a quantile.

    Attributes:
        level: Counts also where it does not decide.
    """

    bin: Bin
    level: AdaptiveLevel
    fixed: float | None
    tracker: QuantileTracker | None


@dataclass(kw_only=True, slots=True)
class Control(Ballots):
    """Ballots, the bank of scores, and of each turn its bin and what holds its rate."""

    bank: Bank
    lanes: dict[int, Lane] = field(default_factory=dict)
    resampled: dict[tuple[int, int], int] = field(default_factory=dict)

    def next(self) -> Control:
        """The state of the next run of a stream: other chains, the same scores and levels."""
        return Control(most=self.most, bank=self.bank, lanes=self.lanes)


@dataclass(frozen=True, kw_only=True)
class ConformalController(Policy[Control]):
    """Accept a draft's step, or let the target continue it, at a rate of ``alpha`` calls.

    ATTS (arXiv 2509.15148) with its p-value corrected (+1), a bank that grows as steps come, and
    bins by turn.  No chain waits for another: a step is judged against what is known when it
    comes.  `bank` compares p with ``alpha``: exact for exchangeable scores.  `aci` moves the level
    of each turn so that the rate holds for any sequence; `quantile` does so without a bank.

    The bank is the run's unless ``seeded`` holds scores, (turn, score) pairs, from before; a
    driver that solves a stream of problems keeps one state for all of them.

    Attributes:
        gamma: The step of `aci` and `quantile` (there in units of ``top``).
        top: The largest score that `quantile` tracks; larger ones count as this.
        least, most: Scores of a turn before its p-values are its own, and after which it forgets
            the older half.
        rejects: How often a strange step is drafted anew before the target is asked; each draft
            counts as one flagged.
    """

    name: ClassVar[str] = "conformal"
    needs: ClassVar[frozenset[Need]] = frozenset({"target"})
    alpha: float = 0.4
    n: int = 16
    method: Method = "aci"
    gamma: float = 0.15
    top: float = 10.0
    least: int = 20
    most: int = 500
    rejects: int = 0
    seeded: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.alpha < 1, f"alpha: {self.alpha} is out of range; give 0 to 1")
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more chains")
        require(self.method in METHODS, f"method: choose {', '.join(METHODS)}")
        require(self.gamma > 0, f"gamma: {self.gamma} is not above 0; give a step such as 0.15")
        require(self.rejects >= 0, f"rejects: {self.rejects} is below 0; give 0 or more")

    def begin(self, rng: Random) -> Control:
        bank = Bank(least=self.least, most=self.most)
        for turn, score in self.seeded:
            bank.add(turn, score)
        return Control(most=self.n, bank=bank)

    def observe(self, state: Control, observation: Observation) -> Decisions:
        if type(observation) is StepScored:  # by far the most frequent, so without more calls
            turn, score = observation.turn, observation.score
            try:
                bin, level, fixed, tracker = state.lanes[turn]
            except KeyError:
                bin, level, fixed, tracker = self._lane(state, turn)
            if tracker is not None:
                return self._track(state, observation, tracker)
            scores = bin.scores
            count = len(scores)
            if bin.least <= count < bin.most and score == score:
                place = bisect_left(scores, score)
                scores.insert(place, score)
                bin.ages.append(score)
                p = (count - place + 1) / (count + 1)
            else:
                p = bin.take(score)
            bar = level.level if fixed is None else fixed
            level.updates += 1
            if p > bar:
                level.level += level.rise
                return (_new(Accept, (observation.trace, turn, p, bar, "p", "accept")),)
            level.flagged += 1
            level.level -= level.fall
            if self.rejects and self._again(state, observation):
                return (Resample(observation.trace, turn, p, bar),)
            return (_new(Escalate, (observation.trace, turn, p, bar, "p", "escalate")),)
        if isinstance(observation, Ended):
            state.end(observation)
            return NOTHING if state.running else state.elect()
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.n, f"{self.n} chains, {self.alpha:.0%} escalated")
        return NOTHING

    def _lane(self, state: Control, turn: int) -> Lane:
        tracker = None
        if self.method == "quantile":
            eta = self.gamma * self.top
            tracker = QuantileTracker(target=self.alpha, top=self.top, eta=eta)
        level = AdaptiveLevel(target=self.alpha, gamma=self.gamma)
        fixed = self.alpha if self.method == "bank" else None
        lane = state.lanes[turn] = Lane(state.bank.bin(turn), level, fixed, tracker)
        return lane

    def _track(self, state: Control, step: StepScored, tracker: QuantileTracker) -> Decisions:
        score, bar = min(step.score, self.top), tracker.quantile
        flagged = tracker.flags(score)
        tracker.update(flagged)
        if not flagged:
            return (Accept(step.trace, step.turn, score, bar, "score"),)
        if self._again(state, step):
            return (Resample(step.trace, step.turn, score, bar, "score"),)
        return (Escalate(step.trace, step.turn, score, bar, "score"),)

    def _again(self, state: Control, step: StepScored) -> bool:
        """Whether a strange step is drafted once more."""
        again = state.resampled.get((step.trace, step.turn), 0)
        state.resampled[step.trace, step.turn] = again + 1
        return again < self.rejects
