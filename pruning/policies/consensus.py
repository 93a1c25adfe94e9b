"""Self-consistency and the rules that sample until a majority is settled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from random import Random
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions, Finish
from pruning.observations import Began, Ended, Observation
from pruning.policies.ballots import Ballots
from pruning.policy import Policy, require


@dataclass(frozen=True, kw_only=True)
class SelfConsistency(Policy[Ballots]):
    """Sample ``n`` traces at once and take the majority (Wang et al., arXiv 2203.11171)."""

    name: ClassVar[str] = "sc"
    n: int = 64

    def __post_init__(self) -> None:
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more traces")

    def begin(self, rng: Random) -> Ballots:
        return Ballots(most=self.n)

    def observe(self, state: Ballots, observation: Observation) -> Decisions:
        if isinstance(observation, Ended):
            state.end(observation)
            return state.elect() if state.running == 0 else NOTHING
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.n, "self-consistency")
        return NOTHING


@dataclass(frozen=True, kw_only=True)
class HardCap(Policy[Ballots]):
    """Sample ``n`` traces, cut each at ``tokens``, and let the cut ones vote as the others do.

    The baseline that a rule which stops deep traces has to beat; no source claims it.
    """

    name: ClassVar[str] = "cap"
    n: int = 64
    tokens: int = 20_500

    def __post_init__(self) -> None:
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more traces")
        require(self.tokens >= 1, f"tokens: {self.tokens} is out of range; give 1 or more")

    def begin(self, rng: Random) -> Ballots:
        return Ballots(most=self.n)

    def observe(self, state: Ballots, observation: Observation) -> Decisions:
        if isinstance(observation, Ended):
            state.end(observation)
            return state.elect(state.cut) if state.running == 0 else NOTHING
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.n, f"cut at {self.tokens} tokens", limit=self.tokens)
        return NOTHING


@lru_cache(maxsize=1 << 16)
def certainty(first: int, second: int) -> float:
    """P(p > 1/2) for p ~ Beta(first + 1, second + 1): that the first answer beats the second.

    The test of Adaptive-Consistency (arXiv 2305.11860) on the two largest counts.  Exact for
    counts: I_{1/2}(a, b) is a tail of the binomial distribution with a + b - 1 trials.  It is a
    posterior of one look; testing after each completion gives no bound on the error.
    """
    trials = first + second + 1
    return float(sum(comb(trials, j) for j in range(first + 1)) / 2**trials)


def margin(votes: dict[str, int]) -> tuple[str | None, int, int]:
    """The answer with most votes, its count, and the count of the next one."""
    leader, first, second = None, 0, 0
    for answer, count in votes.items():
        if count > first:
            leader, first, second = answer, count, first
        elif count > second:
            second = count
    return leader, first, second


def settle(votes: dict[str, int], threshold: float, counted: str = "votes") -> Finish | None:
    """Finish with the answer that leads by this certainty, if one does."""
    leader, first, second = margin(votes)
    sure = certainty(first, second)
    if leader is None or sure < threshold:
        return None
    reason = f"{first} {counted} to {second}: certainty {sure:.3f} ≥ {threshold}"
    return Finish(answer=leader, reason=reason)


@dataclass(frozen=True, kw_only=True)
class AsyncConsensus(Policy[Ballots]):
    """Keep ``k`` traces in flight, test at each completion, and abort the rest once settled.

    The test is Adaptive-Consistency's, without its waiting: the early completions of traces that
    started together are used as they come, so both tokens and span fall.

    Attributes:
        k: Traces in flight; each that ends is replaced until ``n`` were launched.
        n: The most traces; by default ``k``, so that none is replaced.
        threshold: The certainty that settles the vote.
        cap: The most tokens of a trace; 0 for no cap.  What was cut votes only where nobody
            finished: traces that finish early are right more often.
    """

    name: ClassVar[str] = "async"
    k: int = 16
    n: int = 0
    threshold: float = 0.95
    cap: int = 0

    def __post_init__(self) -> None:
        require(self.k >= 1, f"k: {self.k} is out of range; give 1 or more traces in flight")
        require(self.n >= 0, f"n: {self.n} is out of range; give 0 (for k) or more traces")
        require(self.cap >= 0, f"cap: {self.cap} is out of range; give 0 (none) or more tokens")
        require(
            0.5 < self.threshold <= 1,
            f"threshold: {self.threshold} is out of range; give above 0.5, up to 1",
        )

    def begin(self, rng: Random) -> Ballots:
        return Ballots(most=self.n or self.k)

    def observe(self, state: Ballots, observation: Observation) -> Decisions:
        if isinstance(observation, Ended):
            state.end(observation)
            if settled := settle(state.votes, self.threshold):
                return (settled,)
            return self._launch(state, 1, "one ended") or self._last(state)
        if isinstance(observation, Began):
            state.heed(observation)
            return self._launch(state, self.k, f"{self.k} in flight")
        return NOTHING

    def _launch(self, state: Ballots, count: int, reason: str) -> Decisions:
        return state.launch(count, reason, limit=self.cap or None)

    def _last(self, state: Ballots) -> Decisions:
        return state.elect() if state.running == 0 else NOTHING


@dataclass(frozen=True, kw_only=True)
class AdaptiveConsistency(AsyncConsensus):
    """Sample one trace after another until the vote is settled (arXiv 2305.11860).

    The published parameters: at most 40 traces, certainty .95; here 64 by default, as in `sc`.
    """

    name: ClassVar[str] = "adaptive"
    k: int = 1
    n: int = 64


@dataclass(frozen=True, kw_only=True)
class EarlyStopping(Policy[Ballots]):
    """Sample windows of ``w`` traces until one is unanimous (ESC, arXiv 2401.10480).

    A unanimous window's answer is final; after ``n`` traces the majority of all is.  A window
    with an abstention is not unanimous.
    """

    name: ClassVar[str] = "esc"
    w: int = 8
    n: int = 64

    def __post_init__(self) -> None:
        require(self.w >= 1, f"w: {self.w} is out of range; give 1 or more traces a window")
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more traces")

    def begin(self, rng: Random) -> Ballots:
        return Ballots(most=self.n)

    def observe(self, state: Ballots, observation: Observation) -> Decisions:
        if isinstance(observation, Ended):
            state.end(observation)
            return self._close(state) if state.running == 0 else NOTHING
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(self.w, f"the first window of {self.w}")
        return NOTHING

    def _close(self, state: Ballots) -> Decisions:
        first = (state.launched - 1) // self.w * self.w
        window = {state.answers.get(trace) for trace in range(first, state.launched)}
        answer = window.pop()
        if not window and answer is not None and state.launched - first == self.w:
            return (Finish(answer=answer, reason=f"a window of {self.w} is unanimous"),)
        return state.launch(self.w, "no window is unanimous") or state.elect()
