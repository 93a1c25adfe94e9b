"""The conformal controller: which of a draft's steps the target model continues."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Literal, NamedTuple

from pruning.conformal.p_values import AdaptiveLevel, Bank, QuantileTracker, ScoreBin
from pruning.decisions import Accept, Decisions, Escalate, Resample
from pruning.observations import Observation, StepScored
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policy import Need, check_range, require

Method = Literal["bank", "aci", "quantile"]
_new = tuple.__new__
METHODS: tuple[Method, ...] = ("bank", "aci", "quantile")
GAMMAS: dict[Method, float] = {"bank": 0.03, "aci": 0.03, "quantile": 0.15}
"""The usual steps: larger ones hold the rate sooner, and choose steps worse."""


class TurnState(NamedTuple):
    """One turn: its scores, and what decides: an adaptive level, a fixed one, or a quantile.

    Attributes:
        level: The adaptive level; it counts also where another decides.
    """

    bin: ScoreBin
    level: AdaptiveLevel
    fixed: float | None
    tracker: QuantileTracker | None


@dataclass(kw_only=True, slots=True)
class ControllerState(Ballots):
    """Ballots, the bank of scores, and by turn what holds its rate."""

    bank: Bank
    turns: dict[int, TurnState] = field(default_factory=dict)
    resampled: dict[tuple[int, int], int] = field(default_factory=dict)

    def next(self) -> ControllerState:
        """The state of the next run of a stream: new chains, the same scores and levels."""
        return ControllerState(max_traces=self.max_traces, bank=self.bank, turns=self.turns)


@dataclass(frozen=True, kw_only=True)
class ConformalController(VotingPolicy[ControllerState]):
    """Accept a draft's step, or let the target continue it for a share ``alpha`` of the steps.

    ATTS (arXiv 2509.15148) with its p-value corrected (+1), a bank that grows with every step, and
    a bin for each turn.  No chain waits for another: a step is compared with the scores known when
    it comes.  `bank` compares p with ``alpha``, which is exact for exchangeable scores.  `aci`
    moves the level of each turn so that the rate holds for any sequence, and `quantile` does so
    without a bank.

    A run starts with an empty bank, or with the (turn, score) pairs of ``seeded``.  A driver that
    solves a stream of problems keeps one state for all of them.

    Attributes:
        gamma: The step of `aci` and of `quantile` (there in units of ``top``); 0 for the method's
            usual one, in `GAMMAS`.
        top: The largest score that `quantile` tracks; a larger one counts as this.
        least: Below so many scores, a turn's p-values are over the scores of all turns.
        most: Above so many scores, a turn forgets the older half.
        rejects: How often a strange step is drafted again before the target is asked; each such
            draft counts as flagged.
    """

    name: ClassVar[str] = "conformal"
    needs: ClassVar[frozenset[Need]] = frozenset({"target"})
    alpha: float = 0.4
    n: int = 16
    method: Method = "aci"
    gamma: float = 0.0
    top: float = 10.0
    least: int = 20
    most: int = 500
    rejects: int = 0
    seeded: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        check_range(self, "alpha", 0, 1, excluded="both")
        check_range(self, "n", 1)
        require(self.method in METHODS, f"method: choose {', '.join(METHODS)}")
        check_range(self, "gamma", 0)
        check_range(self, "top", 0, excluded="least")
        check_range(self, "rejects", 0)

    def begin(self, rng: Random) -> ControllerState:
        bank = Bank(least=self.least, most=self.most)
        for turn, score in self.seeded:
            bank.add(turn, score)
        return ControllerState(max_traces=self.n, bank=bank)

    def observe(self, state: ControllerState, observation: Observation) -> Decisions:
        if type(observation) is StepScored:  # by far the most frequent, so without further calls
            turn, score = observation.turn, observation.score
            try:
                bin, level, fixed, tracker = state.turns[turn]
            except KeyError:
                bin, level, fixed, tracker = self._turn(state, turn)
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
            if self.rejects and self._redraft(state, observation):
                return (Resample(observation.trace, turn, p, bar),)
            return (_new(Escalate, (observation.trace, turn, p, bar, "p", "escalate")),)
        return super().observe(state, observation)

    def start(self, state: ControllerState) -> Decisions:
        return state.launch(self.n, f"{self.n} chains, {self.alpha:.0%} escalated")

    def _turn(self, state: ControllerState, turn: int) -> TurnState:
        tracker, gamma = None, self.gamma or GAMMAS[self.method]
        if self.method == "quantile":
            eta = gamma * self.top
            tracker = QuantileTracker(target=self.alpha, top=self.top, eta=eta)
        level = AdaptiveLevel(target=self.alpha, gamma=gamma)
        fixed = self.alpha if self.method == "bank" else None
        made = state.turns[turn] = TurnState(state.bank.bin(turn), level, fixed, tracker)
        return made

    def _track(
        self, state: ControllerState, step: StepScored, tracker: QuantileTracker
    ) -> Decisions:
        score, bar = min(step.score, self.top), tracker.quantile
        flagged = tracker.flags(score)
        tracker.update(flagged)
        if not flagged:
            return (Accept(step.trace, step.turn, score, bar, "score"),)
        if self._redraft(state, step):
            return (Resample(step.trace, step.turn, score, bar, "score"),)
        return (Escalate(step.trace, step.turn, score, bar, "score"),)

    def _redraft(self, state: ControllerState, step: StepScored) -> bool:
        """Whether a strange step is to be drafted again; counts the attempt."""
        again = state.resampled.get((step.trace, step.turn), 0)
        state.resampled[step.trace, step.turn] = again + 1
        return again < self.rejects
