"""The conformal controller: which of a draft's steps the target model continues."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Literal

from pruning.ballots import Ballots
from pruning.conformal import AdaptiveLevel, Bank, QuantileTracker
from pruning.decisions import NOTHING, Accept, Decisions, Escalate, Resample
from pruning.observations import Began, Ended, Observation, StepScored
from pruning.policy import Need, Policy, require

Method = Literal["bank", "aci", "quantile"]
METHODS: tuple[Method, ...] = ("bank", "aci", "quantile")


@dataclass(kw_only=True, slots=True)
class Control(Ballots):
    """Ballots, the bank of scores, and the level of each bin."""

    bank: Bank
    levels: dict[int, AdaptiveLevel] = field(default_factory=dict)
    trackers: dict[int, QuantileTracker] = field(default_factory=dict)
    resampled: dict[tuple[int, int], int] = field(default_factory=dict)


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
    rejects: int = 0
    seeded: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.alpha < 1, f"alpha: {self.alpha} is out of range; give 0 to 1")
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more chains")
        require(self.method in METHODS, f"method: choose {', '.join(METHODS)}")
        require(self.gamma > 0, f"gamma: {self.gamma} is not above 0; give a step such as 0.15")
        require(self.rejects >= 0, f"rejects: {self.rejects} is below 0; give 0 or more")

    def begin(self, rng: Random) -> Control:
        bank = Bank(least=self.least)
        for turn, score in self.seeded:
            bank.add(turn, score)
        return Control(most=self.n, bank=bank)

    def observe(self, state: Control, observation: Observation) -> Decisions:
        if isinstance(observation, StepScored):
            return self._judge(state, observation)
        if isinstance(observation, Ended):
            state.end(observation)
            return NOTHING if state.running else state.elect()
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.n, f"{self.n} chains, {self.alpha:.0%} escalated")
        return NOTHING

    def _judge(self, state: Control, step: StepScored) -> Decisions:
        flagged, reason = self._flag(state, step)
        if not flagged:
            return (Accept(trace=step.trace, reason=reason),)
        again = state.resampled.get((step.trace, step.turn), 0)
        if again < self.rejects:
            state.resampled[step.trace, step.turn] = again + 1
            return (Resample(trace=step.trace, reason=reason),)
        return (Escalate(trace=step.trace, reason=reason),)

    def _flag(self, state: Control, step: StepScored) -> tuple[bool, str]:
        turn, score = step.turn, step.score
        if self.method == "quantile":
            tracker = state.trackers.get(turn)
            if tracker is None:
                eta = self.gamma * self.top
                tracker = QuantileTracker(target=self.alpha, top=self.top, eta=eta)
                state.trackers[turn] = tracker
            flagged = tracker.flags(min(score, self.top))
            reason = f"turn {turn}: score {score:.2f} against {tracker.quantile:.2f}"
            tracker.update(flagged)
            return flagged, reason
        p = state.bank.p_value(turn, score)
        state.bank.add(turn, score)
        level = state.levels.get(turn)
        if level is None:
            level = state.levels[turn] = AdaptiveLevel(target=self.alpha, gamma=self.gamma)
        bar = level.level if self.method == "aci" else self.alpha
        flagged = p <= bar
        level.update(flagged)
        return flagged, f"turn {turn}: p {p:.3f} against {bar:.3f}"
