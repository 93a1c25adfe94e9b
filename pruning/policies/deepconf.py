"""DeepConf: let confident traces vote, and stop those that lose confidence."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from random import Random
from typing import ClassVar, Literal

from pruning.decisions import NOTHING, Decisions, Finish, Stop
from pruning.observations import Began, Ended, Generated, Observation
from pruning.policies.ballots import Ballots
from pruning.policies.votes import weigh
from pruning.policy import Need, Policy, require

Measure = Literal["mean", "bottom", "lowest", "tail"]
MEASURES: tuple[Measure, ...] = ("mean", "bottom", "lowest", "tail")


@dataclass(kw_only=True, slots=True)
class Confidence:
    """The confidence of one trace so far: of its tokens, and of groups of ``window`` tokens.

    Attributes:
        group: Mean confidence of the last ``window`` tokens; None before there are so many.
        lowest: The least confident group yet.
        groups: Every group, one at each observation.
    """

    window: int
    tokens: int = 0
    total: float = 0.0
    inside: float = 0.0
    width: int = 0
    group: float | None = None
    lowest: float = float("inf")
    groups: list[float] = field(default_factory=list)
    stretches: deque[tuple[int, float]] = field(default_factory=deque)

    def add(self, tokens: int, confidence: float) -> float | None:
        """Take in the mean confidence of what was written up to ``tokens``; the group's now."""
        count = tokens - self.tokens
        weight = confidence * count
        self.tokens = tokens
        self.total += weight
        self.inside += weight
        self.width += count
        stretches = self.stretches
        stretches.append((count, weight))
        while self.width - stretches[0][0] >= self.window:
            old = stretches.popleft()
            self.width -= old[0]
            self.inside -= old[1]
        if self.width >= self.window:
            self.group = group = self.inside / self.width
            self.groups.append(group)
            if group < self.lowest:
                self.lowest = group
        return self.group

    def measure(self, measure: Measure) -> float:
        """One number for the trace; a trace shorter than a window has its mean for all."""
        mean = self.total / self.tokens if self.tokens else 0.0
        if measure == "mean" or self.group is None:
            return mean
        if measure == "tail":
            return self.group
        if measure == "lowest":
            return self.lowest
        worst = sorted(self.groups)[: max(1, len(self.groups) // 10)]
        return sum(worst) / len(worst)


@dataclass(kw_only=True, slots=True)
class Confidences(Ballots):
    """Ballots, the confidence of each trace, and the threshold once it is known."""

    of: dict[int, Confidence] = field(default_factory=dict)
    threshold: float | None = None


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile by linear interpolation, as numpy's default."""
    ranked = sorted(values)
    place = (len(ranked) - 1) * percent / 100
    low = floor(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


class _Confident(Policy[Confidences]):
    """What the two forms share: following confidences, and the weighted vote of the best."""

    needs: ClassVar[frozenset[Need]] = frozenset({"confidence"})
    n: int
    window: int

    def begin(self, rng: Random) -> Confidences:
        return Confidences(most=self.n)

    def _follow(self, state: Confidences, generated: Generated) -> float | None:
        confidence = state.of.get(generated.trace)
        if confidence is None:
            confidence = state.of[generated.trace] = Confidence(window=self.window)
        return confidence.add(generated.tokens, generated.confidence)

    def _scores(self, state: Confidences, measure: Measure) -> dict[int, float]:
        nothing = Confidence(window=self.window)
        return {t: state.of.get(t, nothing).measure(measure) for t in sorted(state.answers)}

    def _vote(self, state: Confidences, scores: dict[int, float], least: float) -> dict[str, float]:
        kept = ((state.answers[t], score) for t, score in scores.items() if score >= least)
        return weigh(kept)


@dataclass(frozen=True, kw_only=True)
class DeepConfOffline(_Confident):
    """Let ``n`` traces finish and the most confident ``keep`` percent vote, by their confidence.

    Source: DeepConf (arXiv 2508.15260), offline; its settings keep 10 or 90 percent and measure
    the whole trace, its least confident tenth of groups, its lowest group or its tail.
    """

    name: ClassVar[str] = "deepconf-offline"
    n: int = 64
    keep: float = 10.0
    measure: Measure = "tail"
    window: int = 2048

    def __post_init__(self) -> None:
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more traces")
        require(0 < self.keep <= 100, f"keep: {self.keep} is out of range; give a percentage")
        require(self.measure in MEASURES, f"measure: choose {', '.join(MEASURES)}")
        require(self.window >= 1, f"window: {self.window} is below 1; give tokens")

    def observe(self, state: Confidences, observation: Observation) -> Decisions:
        if type(observation) is Generated:
            self._follow(state, observation)
            return NOTHING
        if isinstance(observation, Ended):
            state.end(observation)
            return NOTHING if state.running else self._close(state)
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.n, "all are measured to their end")
        return NOTHING

    def _close(self, state: Confidences) -> Decisions:
        scores = self._scores(state, self.measure)
        least = percentile(list(scores.values()), 100 - self.keep) if scores else 0.0
        weights = self._vote(state, scores, least)
        if not weights:
            return state.elect()
        reason = f"weighted vote of the most confident {self.keep:g} % by {self.measure}"
        return (Finish(answer=next(iter(weights)), reason=reason),)


@dataclass(frozen=True, kw_only=True)
class DeepConf(_Confident):
    """Stop traces less confident than a warm-up's, and stop all at a weighted consensus.

    Source: DeepConf (arXiv 2508.15260), online.  ``warmup`` traces run to their end; the threshold
    is the (100 - ``keep``)-th percentile of their lowest group's confidence; then the rest start,
    and each stops when its group falls below.  After each completion β = V(top)/ΣV; the run ends
    at β ≥ ``consensus``, which the paper has and its code lacks.  Warm-up traces below the
    threshold do not vote.  ``keep`` 10 is the paper's *low*, 90 its *high*.
    """

    name: ClassVar[str] = "deepconf"
    n: int = 64
    keep: float = 10.0
    warmup: int = 16
    window: int = 2048
    consensus: float = 0.95

    def __post_init__(self) -> None:
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more traces")
        require(0 < self.keep <= 100, f"keep: {self.keep} is out of range; give a percentage")
        require(self.warmup >= 1, f"warmup: {self.warmup} is out of range; give 1 or more traces")
        require(self.window >= 1, f"window: {self.window} is below 1; give tokens")
        require(
            0 < self.consensus <= 1, f"consensus: {self.consensus} is out of range; give 0 to 1"
        )

    def observe(self, state: Confidences, observation: Observation) -> Decisions:
        if type(observation) is Generated:
            group = self._follow(state, observation)
            threshold = state.threshold
            if threshold is None or group is None or group >= threshold:
                return NOTHING
            reason = f"group confidence {group:.2f} < {threshold:.2f}"
            return (Stop(trace=observation.trace, reason=reason),)
        if isinstance(observation, Ended):
            state.end(observation)
            return self._end(state)
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.warmup, f"a warm-up of {self.warmup}")
        return NOTHING

    def _end(self, state: Confidences) -> Decisions:
        if state.threshold is None:
            if state.running:
                return NOTHING
            scores = list(self._scores(state, "lowest").values())
            state.threshold = percentile(scores, 100 - self.keep) if scores else 0.0
        return self._agree(state) or self._more(state)

    def _agree(self, state: Confidences) -> Decisions:
        assert state.threshold is not None
        weights = self._vote(state, self._scores(state, "lowest"), state.threshold)
        total = sum(weights.values())
        top = next(iter(weights), None)
        done = state.running == 0 and state.launched == state.most
        if top is None or not total:
            return state.elect() if done else NOTHING
        share = weights[top] / total
        if share < self.consensus and not done:
            return NOTHING
        return (Finish(answer=top, reason=f"{share:.0%} of the confident votes"),)

    def _more(self, state: Confidences) -> Decisions:
        left = state.most - state.launched
        return state.launch(left, f"stopped below {state.threshold:.2f}") if left else NOTHING
