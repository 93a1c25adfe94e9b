"""Policies that ask running traces for the answer that they would give now."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from pruning.decisions import NOTHING, Decisions, Finish, Stop
from pruning.observations import Ended, Observation, Probed
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policies.consensus import settle
from pruning.policy import Need, check_range


@dataclass(kw_only=True, slots=True)
class ProbeStreak:
    """The last probed answer of a trace, in how many probes in a row, and its first answer."""

    answer: str | None
    count: int
    first: str | None

    @property
    def derived(self) -> bool:
        """Whether there is an answer and it differs from the first, which is often a guess."""
        return self.answer is not None and self.answer != self.first


@dataclass(kw_only=True, slots=True)
class ProbeStreaks(Ballots):
    """Ballots, and the streak of every trace that was probed and did not finish.

    Attributes:
        steady: By answer, how many traces repeat it in a long enough streak, and it is derived.
    """

    streaks: dict[int, ProbeStreak] = field(default_factory=dict)
    steady: Counter[str] = field(default_factory=Counter)

    def probe(self, trace: int, answer: str | None, least: int) -> bool:
        """Take in a probe; returns whether it changed ``steady`` (streaks of ``least`` or more)."""
        streak = self.streaks.get(trace)
        if streak is None:
            streak = self.streaks[trace] = ProbeStreak(answer=answer, count=0, first=answer)
        elif answer != streak.answer:
            lost = self._leave(streak, least)
            streak.answer, streak.count = answer, 1
            return self._join(streak, least) or lost
        streak.count += 1
        return self._join(streak, least)

    def forget(self, trace: int, least: int) -> None:
        """Drop the streak of a trace that finished with an answer."""
        streak = self.streaks.pop(trace, None)
        if streak is not None:
            self._leave(streak, least)

    def _join(self, streak: ProbeStreak, least: int) -> bool:
        if streak.count != least or not streak.derived:
            return False
        assert streak.answer is not None
        self.steady[streak.answer] += 1
        return True

    def _leave(self, streak: ProbeStreak, least: int) -> bool:
        if streak.count < least or not streak.derived:
            return False
        assert streak.answer is not None
        self.steady[streak.answer] -= 1
        return True


@dataclass(frozen=True, kw_only=True)
class ProbedConsensus(VotingPolicy[ProbeStreaks]):
    """Asynchronous consensus in which running traces confirm the answer of a finished one.

    ``k`` traces start together.  The run ends when the votes of finished traces settle an answer,
    or when these votes settle it together with the running traces whose last ``streak`` probes
    gave it.  Probes alone never end a run.  A trace that repeats its first probe confirms nothing,
    because that is a guess, often shared and often wrong.

    This is the default, and our own.  Its parameters were chosen on stored, drawn and simulated
    sets of questions, each left out in turn (`benchmarks/default_policy.py`).  Where a driver can't
    probe, it is `AsyncConsensus`.

    Attributes:
        n: The most traces; 0 for ``k``, so that none is replaced.
        patience: So many traces end before any is replaced; ``k`` makes a second round of it.
        threshold: The certainty (`certainty`) that settles a vote.
        cap: The most tokens of a trace; 0 for no cap.  A trace that was cut has ``cut`` of a vote,
            which counts only when all have ended.
    """

    name: ClassVar[str] = "default"
    k: int = 9
    n: int = 0
    patience: int = 0
    threshold: float = 0.9
    cap: int = 0
    streak: int = 3
    probe_every: int = 500
    cut: float = 0.25

    def __post_init__(self) -> None:
        check_range(self, "k streak probe_every", 1)
        check_range(self, "threshold", 0.5, 1, excluded="least")
        check_range(self, "n patience cap", 0)
        check_range(self, "cut", 0, 1)

    @property
    def most(self) -> int:
        return self.n or self.k

    def begin(self, rng: Random) -> ProbeStreaks:
        return ProbeStreaks(max_traces=self.most)

    def observe(self, state: ProbeStreaks, observation: Observation) -> Decisions:
        if type(observation) is Probed:  # the most frequent, and mostly without consequence
            steady = state.probe(observation.trace, observation.answer, self.streak)
            settled = self._confirm(state) if steady else None
            return (settled,) if settled else NOTHING
        return super().observe(state, observation)

    def start(self, state: ProbeStreaks) -> Decisions:
        return self._fill(state, f"{self.k} in flight")

    def on_end(self, state: ProbeStreaks, ended: Ended) -> Decisions:
        if ended.how == "finished":
            state.forget(ended.trace, self.streak)
        settled = settle(state.votes, self.threshold) or self._confirm(state)
        if settled:
            return (settled,)
        due = state.ended >= min(self.patience, self.k)
        more = self._fill(state, "not settled") if due else NOTHING
        return more if more or state.running else self._close(state)

    def _fill(self, state: ProbeStreaks, reason: str) -> Decisions:
        every, limit = state.probe_interval(self.probe_every), self.cap or None
        count = self.k - state.running
        return state.launch(count, reason, probe_every=every, limit=limit)

    def _confirm(self, state: ProbeStreaks) -> Finish | None:
        """Finish with the answer of a finished trace, if votes and steady probes settle it."""
        if not state.votes:
            return None
        together = dict(state.steady)
        for answer, count in state.votes.items():
            together[answer] = together.get(answer, 0) + count
        settled = settle(together, self.threshold, "with probes")
        return settled if settled and settled.answer in state.votes else None

    def _close(self, state: ProbeStreaks) -> Decisions:
        """Finish with the most votes after all traces ended without a settled vote."""
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
class AnswerConvergence(VotingPolicy[ProbeStreaks]):
    """Stop a trace once its last ``streak`` probes gave one answer, which is then its vote.

    Dynasor's early exit (arXiv 2412.20993) and answer convergence (arXiv 2506.02536, with a
    streak of 3).  The answers must be equal and not empty.  On hard questions a trace often
    agrees with itself long before it is right.
    """

    name: ClassVar[str] = "convergence"
    ballots: ClassVar[type[Ballots]] = ProbeStreaks
    needs: ClassVar[frozenset[Need]] = frozenset({"probes"})
    n: int = 16
    streak: int = 3
    probe_every: int = 500

    def __post_init__(self) -> None:
        check_range(self, "n streak probe_every", 1)

    def observe(self, state: ProbeStreaks, observation: Observation) -> Decisions:
        if type(observation) is Probed:
            trace, answer = observation.trace, observation.answer
            state.probe(trace, answer, self.streak)
            if answer is None or state.streaks[trace].count < self.streak:
                return NOTHING
            return (Stop(trace=trace, reason=f"{self.streak} probes in a row gave {answer}"),)
        return super().observe(state, observation)

    def start(self, state: ProbeStreaks) -> Decisions:
        every = state.probe_interval(self.probe_every)
        return state.launch(self.n, "until answers converge", probe_every=every)

    def on_end(self, state: ProbeStreaks, ended: Ended) -> Decisions:
        if ended.how == "stopped" and (streak := state.streaks.get(ended.trace)) is not None:
            state.answers[ended.trace] = streak.answer
        return super().on_end(state, ended)
