"""Rules that ask running traces for the answer that they would give now."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions, Finish, Stop
from pruning.observations import Began, Ended, Observation, Probed
from pruning.policies.ballots import Ballots
from pruning.policies.consensus import settle
from pruning.policy import Need, Policy, require


@dataclass(kw_only=True, slots=True)
class Streak:
    """The answer that a trace gave last, how many probes running, and its first guess."""

    answer: str | None
    count: int
    first: str | None

    @property
    def derived(self) -> bool:
        """Whether there is an answer that is not the guess with which the trace began."""
        return self.answer is not None and self.answer != self.first


@dataclass(kw_only=True, slots=True)
class Streaks(Ballots):
    """Ballots, and the streak of every trace that was probed and did not finish.

    Attributes:
        steady: How many traces give an answer steadily that is not their first guess.
    """

    streaks: dict[int, Streak] = field(default_factory=dict)
    steady: Counter[str] = field(default_factory=Counter)

    def probe(self, trace: int, answer: str | None, least: int) -> bool:
        """Take in a probe; whether it changed ``steady``, of streaks of ``least`` or more."""
        streak = self.streaks.get(trace)
        if streak is None:
            streak = self.streaks[trace] = Streak(answer=answer, count=0, first=answer)
        elif answer != streak.answer:
            lost = self._leave(streak, least)
            streak.answer, streak.count = answer, 1
            return self._join(streak, least) or lost
        streak.count += 1
        return self._join(streak, least)

    def forget(self, trace: int, least: int) -> None:
        """Drop the streak of a trace that has an answer of its own."""
        streak = self.streaks.pop(trace, None)
        if streak is not None:
            self._leave(streak, least)

    def _join(self, streak: Streak, least: int) -> bool:
        if streak.count != least or not streak.derived:
            return False
        assert streak.answer is not None
        self.steady[streak.answer] += 1
        return True

    def _leave(self, streak: Streak, least: int) -> bool:
        if streak.count < least or not streak.derived:
            return False
        assert streak.answer is not None
        self.steady[streak.answer] -= 1
        return True


@dataclass(frozen=True, kw_only=True)
class ProbedConsensus(Policy[Streaks]):
    """Asynchronous consensus in which running traces confirm what a finished one says.

    ``k`` traces start together.  The run ends when the votes of the finished ones settle the
    answer, or when the answer of a finished one is settled by their votes together with the
    running traces whose last ``streak`` probes agree.  Probes alone never end a run, and a trace
    that repeats its first probe confirms nothing: that is a guess, often shared and often wrong,
    which it has not derived.  Traces that reach ``cap`` count for ``cut`` of a vote.

    This is the default, of our own; tuned on AIME-2024 traces of Qwen3-8B (`benchmarks/replay.py`).
    Where a driver can't probe, it is `AsyncConsensus` with a cap.

    Attributes:
        threshold: The certainty (`certainty`) that settles a vote.
    """

    name: ClassVar[str] = "default"
    k: int = 6
    threshold: float = 0.8
    cap: int = 25_000
    streak: int = 3
    probe_every: int = 500
    cut: float = 0.25

    def __post_init__(self) -> None:
        require(self.k >= 1, f"k: {self.k} is out of range; give 1 or more traces")
        require(
            0.5 < self.threshold <= 1,
            f"threshold: {self.threshold} is out of range; give above 0.5, up to 1",
        )
        require(self.cap >= 0, f"cap: {self.cap} is out of range; give 0 (none) or more tokens")
        require(self.streak >= 1, f"streak: {self.streak} is out of range; give 1 or more probes")
        require(self.probe_every >= 1, f"probe_every: {self.probe_every} is below 1; give tokens")
        require(0 <= self.cut <= 1, f"cut: {self.cut} is out of range; give 0 to 1")

    def begin(self, rng: Random) -> Streaks:
        return Streaks(most=self.k)

    def observe(self, state: Streaks, observation: Observation) -> Decisions:
        if type(observation) is Probed:  # the most frequent, and mostly without consequence
            steady = state.probe(observation.trace, observation.answer, self.streak)
            settled = self._confirm(state) if steady else None
            return (settled,) if settled else NOTHING
        if isinstance(observation, Ended):
            return self._end(state, observation)
        if isinstance(observation, Began):
            state.heed(observation)
            every = state.every(self.probe_every)
            return state.launch(
                self.k, f"{self.k} in flight", probe_every=every, limit=self.cap or None
            )
        return NOTHING

    def _end(self, state: Streaks, ended: Ended) -> Decisions:
        state.end(ended)
        if ended.how == "finished":
            state.forget(ended.trace, self.streak)
        settled = settle(state.votes, self.threshold) or self._confirm(state)
        if settled:
            return (settled,)
        return NOTHING if state.running else self._close(state)

    def _confirm(self, state: Streaks) -> Finish | None:
        """Whether they are, together with steady probes, for an answer that one finished with."""
        if not state.votes:
            return None
        together = dict(state.steady)
        for answer, count in state.votes.items():
            together[answer] = together.get(answer, 0) + count
        settled = settle(together, self.threshold, "with probes")
        return settled if settled and settled.answer in state.votes else None

    def _close(self, state: Streaks) -> Decisions:
        """Everything ended without a settled vote."""
        weights = {answer: float(count) for answer, count in state.votes.items()}
        for answer in state.cut.values():
            if answer is not None:
                weights[answer] = weights.get(answer, 0.0) + self.cut
        if not weights:
            return state.elect()
        best = max(weights, key=weights.__getitem__)
        finished, cut = len(state.answers), len(state.cut)
        return (Finish(answer=best, reason=f"majority of {finished} finished and {cut} cut"),)


@dataclass(frozen=True, kw_only=True)
class AnswerConvergence(Policy[Streaks]):
    """Stop a trace once its last ``streak`` probes gave one answer, which is then its vote.

    Dynasor's early exit (arXiv 2412.20993) and answer convergence (arXiv 2506.02536: 3).  That
    the answers are equal and not empty is enforced.  On hard questions a trace often agrees with
    itself long before it is right.
    """

    name: ClassVar[str] = "convergence"
    needs: ClassVar[frozenset[Need]] = frozenset({"probes"})
    n: int = 16
    streak: int = 3
    probe_every: int = 500

    def __post_init__(self) -> None:
        require(self.n >= 1, f"n: {self.n} is out of range; give 1 or more traces")
        require(self.streak >= 1, f"streak: {self.streak} is out of range; give 1 or more probes")
        require(self.probe_every >= 1, f"probe_every: {self.probe_every} is below 1; give tokens")

    def begin(self, rng: Random) -> Streaks:
        return Streaks(most=self.n)

    def observe(self, state: Streaks, observation: Observation) -> Decisions:
        if type(observation) is Probed:
            trace, answer = observation.trace, observation.answer
            state.probe(trace, answer, self.streak)
            if answer is None or state.streaks[trace].count < self.streak:
                return NOTHING
            return (Stop(trace=trace, reason=f"{self.streak} probes running gave {answer}"),)
        if isinstance(observation, Ended):
            return self._end(state, observation)
        if isinstance(observation, Began):
            state.heed(observation)
            return state.launch(
                self.n, "until answers converge", probe_every=state.every(self.probe_every)
            )
        return NOTHING

    def _end(self, state: Streaks, ended: Ended) -> Decisions:
        state.end(ended)
        if ended.how == "stopped" and (streak := state.streaks.get(ended.trace)) is not None:
            state.answers[ended.trace] = streak.answer
        return NOTHING if state.running else state.elect()
