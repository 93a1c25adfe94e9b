"""DeepConf: confident traces vote, and those that lose confidence are stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from typing import ClassVar, Literal

from pruning.decisions import NOTHING, Decisions, Finish, Stop
from pruning.observations import Ended, Generated, Observation
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policies.votes import weigh
from pruning.policy import Need, check_range, require

ConfidenceMeasure = Literal["mean", "bottom", "lowest", "tail"]
MEASURES: tuple[ConfidenceMeasure, ...] = ("mean", "bottom", "lowest", "tail")


@dataclass(kw_only=True, slots=True)
class TraceConfidence:
    """The confidence of one trace so far, over all its tokens and over groups of ``window``.

    Attributes:
        total: Confidence summed over all ``tokens``.
        inside: Confidence summed over the last ``width`` tokens, which make the group.
        group: Mean confidence of the last ``window`` tokens; None while there are fewer.
        lowest: The lowest group so far.
        groups: Every group, one for each observation.
        intervals: (tokens, confidence summed) of the observations in the group.
    """

    window: int
    tokens: int = 0
    total: float = 0.0
    inside: float = 0.0
    width: int = 0
    group: float | None = None
    lowest: float = float("inf")
    groups: list[float] = field(default_factory=list)
    intervals: deque[tuple[int, float]] = field(default_factory=deque)

    def add(self, tokens: int, confidence: float) -> float | None:
        """Take in the mean confidence of the tokens written since; returns that of the group."""
        count = tokens - self.tokens
        weight = confidence * count
        self.tokens = tokens
        self.total += weight
        self.inside += weight
        self.width += count
        intervals = self.intervals
        intervals.append((count, weight))
        while self.width - intervals[0][0] >= self.window:
            old = intervals.popleft()
            self.width -= old[0]
            self.inside = max(0.0, self.inside - old[1])  # a difference that rounding made negative
        if self.width >= self.window:
            self.group = group = self.inside / self.width
            self.groups.append(group)
            if group < self.lowest:
                self.lowest = group
        return self.group

    def measure(self, measure: ConfidenceMeasure) -> float:
        """One number for the trace; every measure of a trace shorter than a window is its mean."""
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
class ConfidenceState(Ballots):
    """Ballots, the confidence of each trace, and the threshold once the warm-up has ended."""

    by_trace: dict[int, TraceConfidence] = field(default_factory=dict)
    threshold: float | None = None


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile by linear interpolation, as numpy's default."""
    ranked = sorted(values)
    place = (len(ranked) - 1) * percent / 100
    low = floor(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


class _DeepConfPolicy(VotingPolicy[ConfidenceState]):
    """What the two policies share: the confidence of each trace, and the weighted vote."""

    needs: ClassVar[frozenset[Need]] = frozenset({"confidence"})
    ballots: ClassVar[type[Ballots]] = ConfidenceState
    window: int

    def _update(self, state: ConfidenceState, generated: Generated) -> float | None:
        confidence = state.by_trace.get(generated.trace)
        if confidence is None:
            confidence = state.by_trace[generated.trace] = TraceConfidence(window=self.window)
        return confidence.add(generated.tokens, generated.confidence)

    def _scores(self, state: ConfidenceState, measure: ConfidenceMeasure) -> dict[int, float]:
        nothing = TraceConfidence(window=self.window)
        return {t: state.by_trace.get(t, nothing).measure(measure) for t in sorted(state.answers)}

    def _vote(
        self, state: ConfidenceState, scores: dict[int, float], least: float
    ) -> dict[str, float]:
        return weigh((state.answers[t], score) for t, score in scores.items() if score >= least)


@dataclass(frozen=True, kw_only=True)
class DeepConfOffline(_DeepConfPolicy):
    """Let ``n`` traces finish; the most confident ``keep`` percent vote, weighted by confidence.

    Source: DeepConf (arXiv 2508.15260), offline, with 10 or 90 percent.  The confidence of a
    trace is its mean, that of its lowest tenth of groups (bottom), of its lowest group, or of its
    last group (tail).
    """

    name: ClassVar[str] = "deepconf-offline"
    n: int = 64
    keep: float = 10.0
    measure: ConfidenceMeasure = "tail"
    window: int = 2048

    def __post_init__(self) -> None:
        check_range(self, "n window", 1)
        check_range(self, "keep", 0, 100, excluded="least")
        require(self.measure in MEASURES, f"measure: choose {', '.join(MEASURES)}")

    def observe(self, state: ConfidenceState, observation: Observation) -> Decisions:
        if type(observation) is Generated:
            self._update(state, observation)
            return NOTHING
        return super().observe(state, observation)

    def start(self, state: ConfidenceState) -> Decisions:
        return state.launch(self.n, "all are measured to their end")

    def on_end(self, state: ConfidenceState, ended: Ended) -> Decisions:
        return NOTHING if state.running else self._close(state)

    def _close(self, state: ConfidenceState) -> Decisions:
        scores = self._scores(state, self.measure)
        least = percentile(list(scores.values()), 100 - self.keep) if scores else 0.0
        weights = self._vote(state, scores, least)
        if not weights:
            return state.elect()
        reason = f"weighted vote of the most confident {self.keep:g} % by {self.measure}"
        return (Finish(answer=next(iter(weights)), reason=reason),)


@dataclass(frozen=True, kw_only=True)
class DeepConf(_DeepConfPolicy):
    """Stop traces that are less confident than a warm-up's, and all at a weighted consensus.

    Source: DeepConf (arXiv 2508.15260), online.  ``warmup`` traces run to their end.  The
    threshold is the (100 - ``keep``)-th percentile of their lowest groups.  Then the other traces
    start, and each stops when its group falls below the threshold.  The run ends when the top
    answer has a share of ``consensus`` of all votes, which the paper describes and its code lacks.
    Warm-up traces below the threshold do not vote.  ``keep`` 10 is the paper's *low*, 90 its
    *high*.
    """

    name: ClassVar[str] = "deepconf"
    n: int = 64
    keep: float = 10.0
    warmup: int = 16
    window: int = 2048
    consensus: float = 0.95

    def __post_init__(self) -> None:
        check_range(self, "n warmup window", 1)
        check_range(self, "keep", 0, 100, excluded="least")
        check_range(self, "consensus", 0, 1, excluded="least")

    def observe(self, state: ConfidenceState, observation: Observation) -> Decisions:
        if type(observation) is Generated:
            group = self._update(state, observation)
            threshold = state.threshold
            if threshold is None or group is None or group >= threshold:
                return NOTHING
            reason = f"group confidence {group:.2f} < {threshold:.2f}"
            return (Stop(trace=observation.trace, reason=reason),)
        return super().observe(state, observation)

    def start(self, state: ConfidenceState) -> Decisions:
        return state.launch(self.warmup, f"a warm-up of {self.warmup}")

    def on_end(self, state: ConfidenceState, ended: Ended) -> Decisions:
        if state.threshold is None:
            if state.running:
                return NOTHING
            scores = list(self._scores(state, "lowest").values())
            state.threshold = percentile(scores, 100 - self.keep) if scores else 0.0
        return self._agree(state) or self._more(state)

    def _agree(self, state: ConfidenceState) -> Decisions:
        assert state.threshold is not None
        weights = self._vote(state, self._scores(state, "lowest"), state.threshold)
        total = sum(weights.values())
        top = next(iter(weights), None)
        done = state.running == 0 and state.launched == state.max_traces
        if top is None or not total:
            return state.elect() if done else NOTHING
        share = weights[top] / total
        if share < self.consensus and not done:
            return NOTHING
        return (Finish(answer=top, reason=f"{share:.0%} of the confident votes"),)

    def _more(self, state: ConfidenceState) -> Decisions:
        left = state.max_traces - state.launched
        return state.launch(left, f"stopped below {state.threshold:.2f}") if left else NOTHING
