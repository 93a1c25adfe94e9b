"""Parallel-Probe: rounds of probes that drop deviating branches and end at a stable majority."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from pruning.decisions import NOTHING, Decision, Decisions, Finish, Stop
from pruning.observations import Began, Ended, Observation, Probed
from pruning.policies.ballots import Ballots
from pruning.policies.votes import majority
from pruning.policy import Need, Policy, require


@dataclass(kw_only=True, slots=True)
class Rounds(Ballots):
    """Ballots, and the rounds of probes that not every live trace has answered yet."""

    live: set[int] = field(default_factory=set)
    rounds: dict[int, dict[int, str | None]] = field(default_factory=dict)
    against: dict[int, int] = field(default_factory=dict)
    closed: int = 0
    leader: str | None = None
    unchanged: int = 0


@dataclass(frozen=True, kw_only=True)
class ParallelProbe(Policy[Rounds]):
    """Drop branches that deviate from the majority, stop when it is stable (arXiv 2602.03845).

    A round closes when every live branch has answered it.  The majority is over live branches'
    probes and finished ones' answers.  A branch that disagrees with it in ``patience`` rounds
    running, after the first ``warmup``, is dropped and votes no more; once the majority has been
    the same for ``stable`` rounds it is the answer.
    """

    name: ClassVar[str] = "parallel-probe"
    needs: ClassVar[frozenset[Need]] = frozenset({"probes"})
    n: int = 64
    probe_every: int = 500
    warmup: int = 15
    patience: int = 7
    stable: int = 40

    def __post_init__(self) -> None:
        for name in ("n", "probe_every", "patience", "stable"):
            require(getattr(self, name) >= 1, f"{name}: {getattr(self, name)} is below 1; give 1+")

    def begin(self, rng: Random) -> Rounds:
        return Rounds(most=self.n)

    def observe(self, state: Rounds, observation: Observation) -> Decisions:
        if type(observation) is Probed:
            tokens = observation.tokens
            row = state.rounds.get(tokens)
            if row is None:
                row = state.rounds[tokens] = {}
            row[observation.trace] = observation.answer
            return self._rounds(state) if len(row) >= len(state.live) else NOTHING
        if isinstance(observation, Ended):
            state.end(observation)
            state.live.discard(observation.trace)
            return self._rounds(state) or (NOTHING if state.running else state.elect())
        if isinstance(observation, Began):
            state.heed(observation)
            launch = state.launch(
                self.n, "all branches at once", probe_every=state.every(self.probe_every)
            )
            state.live = set(range(state.launched))
            return launch
        return NOTHING

    def _rounds(self, state: Rounds) -> Decisions:
        """Close every round that is complete, the earliest first."""
        done: list[Decision] = []
        for tokens in sorted(state.rounds):
            row = state.rounds[tokens]
            if not state.live <= row.keys():
                break
            del state.rounds[tokens]
            if state.live:
                done += self._close(state, {trace: row[trace] for trace in state.live})
            if done and isinstance(done[-1], Finish):
                break
        return tuple(done)

    def _close(self, state: Rounds, row: dict[int, str | None]) -> list[Decision]:
        ballots = {**row, **state.answers}
        leader = majority(ballots[trace] for trace in sorted(ballots)).winner
        state.closed += 1
        state.unchanged = state.unchanged + 1 if leader == state.leader else 1
        state.leader = leader
        if leader is not None and state.unchanged >= self.stable:
            reason = f"the majority has been the same for {self.stable} rounds"
            return [Finish(answer=leader, reason=reason)]
        return self._drop(state, row)

    def _drop(self, state: Rounds, row: dict[int, str | None]) -> list[Decision]:
        dropped: list[Decision] = []
        if state.closed <= self.warmup:
            return dropped
        for trace in sorted(row):
            astray = row[trace] != state.leader
            state.against[trace] = state.against.get(trace, 0) + 1 if astray else 0
            if state.against[trace] >= self.patience:
                state.live.discard(trace)
                reason = f"against the majority for {state.against[trace]} rounds"
                dropped.append(Stop(trace=trace, reason=reason))
        return dropped
