"""Majorities of fixed samples, and policies that sample until a majority is settled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from random import Random
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions, Finish
from pruning.observations import Ended, Observation, Reached
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policy import check_range


@dataclass(frozen=True, kw_only=True)
class FixedSamples(VotingPolicy[Ballots]):
    """Sample ``n`` traces at once and take the majority (Wang et al., arXiv 2203.11171)."""

    name: ClassVar[str] = "sc"
    patient: ClassVar[bool] = True
    n: int = 64

    def __post_init__(self) -> None:
        check_range(self, "n", 1)

    def start(self, state: Ballots) -> Decisions:
        return state.launch(self.n, "self-consistency")


@dataclass(frozen=True, kw_only=True)
class HardCap(VotingPolicy[Ballots]):
    """Sample ``n`` traces, cut each at ``tokens``, and let the cut ones vote as the others do.

    The baseline for policies that stop long traces; it has no source.
    """

    name: ClassVar[str] = "cap"
    n: int = 64
    tokens: int = 20_500

    def __post_init__(self) -> None:
        check_range(self, "n tokens", 1)

    def start(self, state: Ballots) -> Decisions:
        return state.launch(self.n, f"cut at {self.tokens} tokens", limit=self.tokens)

    def on_end(self, state: Ballots, ended: Ended) -> Decisions:
        return state.elect(state.cut) if state.running == 0 else NOTHING


@lru_cache(maxsize=1 << 16)
def certainty(first: int, second: int) -> float:
    """The posterior probability P(p > 1/2), p ~ Beta(first + 1, second + 1), that the first leads.

    This is the test of Adaptive-Consistency (arXiv 2305.11860) on the two largest counts.  It is
    exact for counts: I_{1/2}(a, b) is a tail of the binomial distribution with a + b - 1 trials.
    It is valid for one look at the votes; a test after each completion bounds no error.
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
    """Finish with the leading answer, if its certainty is ``threshold`` or more."""
    leader, first, second = margin(votes)
    sure = certainty(first, second)
    if leader is None or sure < threshold:
        return None
    reason = f"{first} {counted} to {second}: certainty {sure:.3f} ≥ {threshold}"
    return Finish(answer=leader, reason=reason)


@dataclass(frozen=True, kw_only=True)
class AsyncConsensus(VotingPolicy[Ballots]):
    """Keep ``k`` traces in flight, test at each completion, and stop all once settled.

    The test is that of Adaptive-Consistency.  Traces start together and their completions are
    used as they come, so it takes less time than one trace after another.

    Attributes:
        k: Traces in flight; one that ends is replaced until ``n`` were launched.
        n: The most traces; 0 for ``k``, so that none is replaced.
        threshold: The certainty that settles the vote.
        cap: The most tokens of a trace; 0 for no cap.  A trace that was cut votes only where
            nobody finished, because traces that finish early are right more often.
        ahead: The first trace goes ahead by so many tokens, so that the prompt is computed once,
            and one that has answered by then needs no others; 0 starts all together.
        patience: So many traces end before any is replaced; ``k`` makes a second round of it.
    """

    name: ClassVar[str] = "async"
    k: int = 16
    n: int = 0
    threshold: float = 0.95
    cap: int = 0
    ahead: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        check_range(self, "k", 1)
        check_range(self, "n cap ahead patience", 0)
        check_range(self, "threshold", 0.5, 1, excluded="least")

    def begin(self, rng: Random) -> Ballots:
        return Ballots(max_traces=self.most)

    @property
    def most(self) -> int:
        return self.n or self.k

    def observe(self, state: Ballots, observation: Observation) -> Decisions:
        if isinstance(observation, Reached) and state.launched == 1:
            return self._launch(state, self.k - 1, f"the first has written {self.ahead} tokens")
        return super().observe(state, observation)

    def start(self, state: Ballots) -> Decisions:
        if self.ahead and self.k > 1:
            return state.launch(1, "goes ahead", limit=self.cap or None, mark=self.ahead)
        return self._launch(state, self.k, f"{self.k} in flight")

    def on_end(self, state: Ballots, ended: Ended) -> Decisions:
        if self.ahead and self.k > 1 and state.launched == 1:
            if state.votes:
                reason = f"the first answered within {self.ahead} tokens"
                return (Finish(answer=next(iter(state.votes)), reason=reason),)
            return self._launch(state, self.k, "the first gave no answer")
        if settled := settle(state.votes, self.threshold):
            return (settled,)
        due = state.ended >= min(self.patience, self.k)
        more = self._launch(state, self.k - state.running, "not settled") if due else NOTHING
        return more or super().on_end(state, ended)

    def _launch(self, state: Ballots, count: int, reason: str) -> Decisions:
        return state.launch(count, reason, limit=self.cap or None)


@dataclass(frozen=True, kw_only=True)
class AdaptiveConsistency(AsyncConsensus):
    """Sample one trace after another until the vote is settled (arXiv 2305.11860).

    The paper's certainty of 0.95; at most 64 traces as in `sc`, where the paper has 40.
    """

    name: ClassVar[str] = "adaptive"
    k: int = 1
    n: int = 64


@dataclass(frozen=True, kw_only=True)
class EarlyStopping(VotingPolicy[Ballots]):
    """Sample windows of ``w`` traces until one is unanimous (ESC, arXiv 2401.10480).

    The answer of a unanimous window is final; without one, the majority of ``n`` traces is.  A
    window in which a trace gave no answer is not unanimous.
    """

    name: ClassVar[str] = "esc"
    w: int = 8
    n: int = 64

    def __post_init__(self) -> None:
        check_range(self, "w n", 1)

    def start(self, state: Ballots) -> Decisions:
        return state.launch(self.w, f"the first window of {self.w}")

    def on_end(self, state: Ballots, ended: Ended) -> Decisions:
        return self._close(state) if state.running == 0 else NOTHING

    def _close(self, state: Ballots) -> Decisions:
        first = (state.launched - 1) // self.w * self.w
        window = {state.answers.get(trace) for trace in range(first, state.launched)}
        answer = window.pop()
        if not window and answer is not None and state.launched - first == self.w:
            return (Finish(answer=answer, reason=f"a window of {self.w} is unanimous"),)
        return state.launch(self.w, "no window is unanimous") or state.elect()
