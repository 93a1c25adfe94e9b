"""Policies made of policies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar

from pruning.decisions import Decision, Decisions, Finish, Launch
from pruning.observations import Began, Observation
from pruning.policy import Need, Policy, require


@dataclass(frozen=True, kw_only=True)
class Capped(Policy[Any]):
    """Any policy, with every trace ended at ``tokens``."""

    name: ClassVar[str] = "capped"
    inner: Policy[Any]
    tokens: int

    def __post_init__(self) -> None:
        require(self.tokens >= 1, f"tokens: {self.tokens} is out of range; give 1 or more")

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return self.inner.needs

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
class Together:
    """The states of policies that see the same run."""

    states: list[Any] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Riding(Policy[Together]):
    """One policy leads, others ride along: a judge inside a consensus rule.

    All are told everything, riders at the beginning that the run can launch as many traces as the
    leader does.  The leader launches; a rider may stop, pause, probe, ask or finish, and its
    launches only say what it wants to be told of each trace (probes, a mark, a limit).  The first
    `Finish`, the leader's before the riders', is the run's.
    """

    name: ClassVar[str] = "riding"
    leader: Policy[Any]
    riders: tuple[Policy[Any], ...]

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return frozenset().union(self.leader.needs, *(rider.needs for rider in self.riders))

    @property
    def label(self) -> str:
        return " with ".join(policy.label for policy in (self.leader, *self.riders))

    def begin(self, rng: Random) -> Together:
        return Together(states=[p.begin(rng) for p in (self.leader, *self.riders)])

    def observe(self, state: Together, observation: Observation) -> Decisions:
        led, *ridden = state.states
        decisions = list(self.leader.observe(led, observation))
        wanted: list[Launch] = []
        if isinstance(observation, Began):
            count = sum(one.count for one in decisions if isinstance(one, Launch))
            observation = replace(observation, most=count)
        for rider, ridden_state in zip(self.riders, ridden, strict=True):
            for decision in rider.observe(ridden_state, observation):
                if isinstance(decision, Launch):
                    wanted.append(decision)
                else:
                    decisions.append(decision)
        joined = [_join(d, wanted) if isinstance(d, Launch) else d for d in decisions]
        return tuple(sorted(joined, key=lambda decision: isinstance(decision, Finish)))


def _join(launch: Launch, wanted: list[Launch]) -> Launch:
    """The leader's launch, telling also what the riders want."""
    everyone = [launch, *wanted]
    probes = [one.probe_every for one in everyone if one.probe_every]
    limits = [one.limit for one in everyone if one.limit is not None]
    return replace(
        launch,
        probe_every=min(probes, default=0),
        limit=min(limits, default=None),
        mark=max(one.mark for one in everyone),
    )
