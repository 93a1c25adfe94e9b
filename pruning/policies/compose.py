"""Policies made of policies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from sys import maxsize
from typing import Any, ClassVar

from pruning.decisions import NOTHING, Decision, Decisions, Finish, Launch
from pruning.observations import Began, Ended, Observation
from pruning.policies.ballots import Ballots
from pruning.policies.votes import Tally
from pruning.policy import Need, Policy, check_range


@dataclass(frozen=True, kw_only=True)
class Capped(Policy[Any]):
    """Another policy, with every trace cut at ``tokens``."""

    name: ClassVar[str] = "capped"
    inner: Policy[Any]
    tokens: int

    def __post_init__(self) -> None:
        check_range(self, "tokens", 1)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return self.inner.needs

    @property
    def most(self) -> int | None:
        return self.inner.most

    @property
    def label(self) -> str:
        return f"{self.inner.label} capped at {self.tokens}"

    def begin(self, rng: Random) -> Any:
        return self.inner.begin(rng)

    def observe(self, state: Any, observation: Observation) -> Decisions:
        decisions = self.inner.observe(state, observation)
        return tuple(map(self._cap, decisions)) if decisions else decisions

    def _cap(self, decision: Decision) -> Decision:
        if not isinstance(decision, Launch):
            return decision
        return replace(decision, limit=min(self.tokens, decision.limit or self.tokens))


@dataclass(kw_only=True, slots=True)
class Overtime:
    """The state of a policy inside `MoreOnTie`, the votes, and what came of them.

    Attributes:
        over: Whether the policy has finished.
        limit: Of the traces that it launched last.
    """

    inner: Any
    ballots: Ballots
    over: bool = False
    limit: int | None = None
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class MoreOnTie(Policy[Overtime]):
    """Another policy, and more traces where its vote ends in a tie.

    Once the policy has finished and nothing runs any more, a quarter as many traces as it launched
    follow at a time, until an answer leads or as many again were launched.

    Attributes:
        least: A leader with a smaller share of the traces counts as tied.
    """

    name: ClassVar[str] = "more-on-tie"
    inner: Policy[Any]
    least: float = 0.0

    def __post_init__(self) -> None:
        check_range(self, "least", 0, 1)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return self.inner.needs

    @property
    def most(self) -> int | None:
        return self.inner.most

    @property
    def label(self) -> str:
        return f"{self.inner.label}, more on a tie"

    def begin(self, rng: Random) -> Overtime:
        return Overtime(inner=self.inner.begin(rng), ballots=Ballots(max_traces=maxsize))

    def observe(self, state: Overtime, observation: Observation) -> Decisions:
        if isinstance(observation, Began):
            state.ballots.begin(observation)
        elif isinstance(observation, Ended):
            state.ballots.end(observation)
        if state.over:
            return NOTHING if state.ballots.running else self._go_on(state)
        decisions = self.inner.observe(state.inner, observation)
        for decision in decisions:
            if isinstance(decision, Launch):
                state.ballots.launched += decision.count
                state.ballots.running += decision.count
                state.limit = decision.limit
        return self._unless_tied(state, decisions) if decisions else NOTHING

    def _unless_tied(self, state: Overtime, decisions: Decisions) -> Decisions:
        *before, last = decisions
        if not isinstance(last, Finish) or not self._is_tied(state.ballots.tally()):
            return decisions
        state.over, state.first = True, state.ballots.launched
        return (*before, *(NOTHING if state.ballots.running else self._go_on(state)))

    def _is_tied(self, tally: Tally) -> bool:
        return tally.winner is not None and (tally.tied or tally.confidence < self.least)

    def _go_on(self, state: Overtime) -> Decisions:
        ballots, tally = state.ballots, state.ballots.tally()
        more = ballots.launched - state.first
        if self._is_tied(tally):
            count = min(-(-state.first // 4), state.first - more)
            launch = ballots.launch(count, f"{_leaders(tally)}: more", limit=state.limit)
            if launch:
                return launch
        return (Finish(answer=tally.winner, reason=f"{_leaders(tally)} after {more} more"),)


def _leaders(tally: Tally) -> str:
    """The two highest counts, as ``3 votes to 3``."""
    first, second, *_ = (*sorted(tally.votes.values(), reverse=True), 0, 0)
    return f"{first} votes to {second}"


@dataclass(frozen=True, kw_only=True)
class Combined(Policy[list[Any]]):
    """A leader and riders that decide together on one run, as a judge inside a consensus policy.

    All see every observation; riders learn at the beginning that as many traces can be launched
    as the leader launches.  Only the leader launches.  A rider may stop, pause, probe, judge or
    finish, and its `Launch` only says what it needs of each trace (probes, a mark, a limit).  The
    first `Finish` ends the run, the leader's before a rider's.  Its state is the list of theirs.
    """

    name: ClassVar[str] = "combined"
    leader: Policy[Any]
    riders: tuple[Policy[Any], ...]

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return frozenset().union(self.leader.needs, *(rider.needs for rider in self.riders))

    @property
    def most(self) -> int | None:
        return self.leader.most

    @property
    def label(self) -> str:
        return " with ".join(policy.label for policy in (self.leader, *self.riders))

    def begin(self, rng: Random) -> list[Any]:
        return [policy.begin(rng) for policy in (self.leader, *self.riders)]

    def observe(self, state: list[Any], observation: Observation) -> Decisions:
        leader_state, *rider_states = state
        decisions = list(self.leader.observe(leader_state, observation))
        wanted: list[Launch] = []
        if isinstance(observation, Began):
            count = sum(one.count for one in decisions if isinstance(one, Launch))
            observation = replace(observation, max_traces=count)
        for rider, rider_state in zip(self.riders, rider_states, strict=True):
            for decision in rider.observe(rider_state, observation):
                if isinstance(decision, Launch):
                    wanted.append(decision)
                else:
                    decisions.append(decision)
        joined = [_join(d, wanted) if isinstance(d, Launch) else d for d in decisions]
        return tuple(sorted(joined, key=lambda decision: isinstance(decision, Finish)))


def _join(launch: Launch, wanted: list[Launch]) -> Launch:
    """The leader's launch, with the probes, mark and limit that the riders need."""
    everyone = [launch, *wanted]
    probes = [one.probe_every for one in everyone if one.probe_every]
    limits = [one.limit for one in everyone if one.limit is not None]
    return replace(
        launch,
        probe_every=min(probes, default=0),
        limit=min(limits, default=None),
        mark=max(one.mark for one in everyone),
    )
