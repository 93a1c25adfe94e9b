"""The interface of every rule: state and observation in, decisions out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pruning.decisions import Decision, Decisions, Finish
from pruning.observations import Observation

S = TypeVar("S")
Need = Literal["probes", "confidence", "judge", "verifier", "target"]


class PolicyError(ValueError):
    """Raised for a policy or parameter that does not exist or can't be used; says what to do."""


class Policy(ABC, Generic[S]):
    """A rule with its parameters: a frozen value, shared by any number of runs.

    `begin` makes the state of one run and `observe` updates it and returns what to do.  The
    state follows from the policy, the seed and the observations alone: no clock, no I/O, no
    randomness but the generator given to `begin`.  So the same policy decides alike online and in
    replay.  `observe` writes to nothing but the state that it is given.

    A policy owes the driver one `Finish` at the latest when everything that it launched has ended.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()

    @abstractmethod
    def begin(self, rng: Random) -> S:
        """The state of a new run."""

    @abstractmethod
    def observe(self, state: S, observation: Observation) -> Decisions:
        """Take in one observation and decide; `NOTHING` for nothing to do."""

    @property
    def label(self) -> str:
        """The name with every parameter that is not the default, as the command line takes it."""
        changed = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)  # type: ignore[arg-type]  # each policy is a dataclass
            if getattr(self, f.name) != f.default
        ]
        return ":".join([self.name, ",".join(changed)]) if changed else self.name


class Decided(NamedTuple):
    """A decision, and how many observations the policy had been told when it was taken."""

    told: int
    decision: Decision


@dataclass(kw_only=True)
class Session:
    """One run of one policy: what a driver talks to, and the log of what was decided.

    Attributes:
        log: Every decision with its place; equal logs mean equal runs.
        finish: The final decision, once there is one; nothing may be told after it.
        state: The policy's; a new one, unless one is given to go on from.
    """

    policy: Policy[Any]
    seed: int = 0
    told: int = 0
    log: list[Decided] = field(default_factory=list)
    finish: Finish | None = None
    state: Any = None

    def __post_init__(self) -> None:
        if self.state is None:
            self.state = self.policy.begin(Random(self.seed))
        self._observe = self.policy.observe

    def tell(self, observation: Observation) -> Decisions:
        """Pass one observation on; decisions after a `Finish` are dropped."""
        if self.finish is not None:
            raise PolicyError(f"policy {self.policy.name!r} has finished; open a new session")
        self.told += 1
        decisions = self._observe(self.state, observation)
        for index, decision in enumerate(decisions):
            self.log.append(Decided(self.told, decision))
            if isinstance(decision, Finish):
                self.finish = decision
                return decisions[: index + 1]
        return decisions


def require(condition: bool, message: str) -> None:
    """Refuse a parameter, by a message that names it and ends with what to do."""
    if not condition:
        raise PolicyError(message)
