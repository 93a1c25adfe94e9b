"""Parallel-Probe: drop branches that deviate in rounds of probes, end at a stable majority."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pruning.decisions import NOTHING, Decision, Decisions, Finish, Stop
from pruning.observations import Ended, Observation, Probed
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policies.votes import majority
from pruning.policy import Need, check_range


@dataclass(kw_only=True, slots=True)
class ProbeRounds(Ballots):
    """Ballots, and the rounds of probes.

    Attributes:
        live: Branches that have neither ended nor been dropped.
        rounds: By tokens, the probes of rounds that not every live branch has answered.
        against: By trace, how many rounds in a row it has disagreed with the majority.
        closed: How many rounds are closed.
        unchanged: How many rounds in a row the majority has been ``leader``.
    """

    live: set[int] = field(default_factory=set)
    rounds: dict[int, dict[int, str | None]] = field(default_factory=dict)
    against: dict[int, int] = field(default_factory=dict)
    closed: int = 0
    leader: str | None = None
    unchanged: int = 0


@dataclass(frozen=True, kw_only=True)
class ParallelProbe(VotingPolicy[ProbeRounds]):
    """Drop branches that deviate from the majority, stop when it is stable (arXiv 2602.03845).

    A round closes when every live branch has answered its probe.  The majority is over these
    probes and the answers of finished branches.  After ``warmup`` rounds, a branch that disagrees
    with it in ``patience`` rounds in a row is dropped and no longer votes.  A majority that has
    been the same for ``stable`` rounds is the answer.
    """

    name: ClassVar[str] = "parallel-probe"
    ballots: ClassVar[type[Ballots]] = ProbeRounds
    needs: ClassVar[frozenset[Need]] = frozenset({"probes"})
    n: int = 64
    probe_every: int = 500
    warmup: int = 15
    patience: int = 7
    stable: int = 40

    def __post_init__(self) -> None:
        check_range(self, "n probe_every patience stable", 1)
        check_range(self, "warmup", 0)

    def observe(self, state: ProbeRounds, observation: Observation) -> Decisions:
        if type(observation) is Probed:
            tokens = observation.tokens
            row = state.rounds.get(tokens)
            if row is None:
                row = state.rounds[tokens] = {}
            row[observation.trace] = observation.answer
            return self._rounds(state) if len(row) >= len(state.live) else NOTHING
        return super().observe(state, observation)

    def start(self, state: ProbeRounds) -> Decisions:
        every = state.probe_interval(self.probe_every)
        launch = state.launch(self.n, "all branches at once", probe_every=every)
        state.live = set(range(state.launched))
        return launch

    def on_end(self, state: ProbeRounds, ended: Ended) -> Decisions:
        state.live.discard(ended.trace)
        return self._rounds(state) or super().on_end(state, ended)

    def _rounds(self, state: ProbeRounds) -> Decisions:
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

    def _close(self, state: ProbeRounds, row: dict[int, str | None]) -> list[Decision]:
        ballots = {**row, **state.answers}
        leader = majority(ballots[trace] for trace in sorted(ballots)).winner
        state.closed += 1
        state.unchanged = state.unchanged + 1 if leader == state.leader else 1
        state.leader = leader
        if leader is not None and state.unchanged >= self.stable:
            reason = f"the majority has been the same for {self.stable} rounds"
            return [Finish(answer=leader, reason=reason)]
        return self._drop(state, row)

    def _drop(self, state: ProbeRounds, row: dict[int, str | None]) -> list[Decision]:
        dropped: list[Decision] = []
        if state.closed <= self.warmup:
            return dropped
        for trace in sorted(row):
            differs = row[trace] != state.leader
            state.against[trace] = state.against.get(trace, 0) + 1 if differs else 0
            if state.against[trace] >= self.patience:
                state.live.discard(trace)
                reason = f"against the majority for {state.against[trace]} rounds"
                dropped.append(Stop(trace=trace, reason=reason))
        return dropped
