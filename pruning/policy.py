"""The interface of every policy: a state and an observation in, decisions out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from math import inf
from random import Random
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pruning.decisions import Decision, Decisions, Finish
from pruning.observations import Observation

S = TypeVar("S")
Need = Literal["probes", "confidence", "judge", "verifier", "score", "target"]


class PolicyError(ValueError):
    """A policy or parameter does not exist or can't be used; the message says what to do."""


class Policy(ABC, Generic[S]):
    """A rule with its parameters: a frozen value that any number of runs may share.

    `begin` makes the state of one run.  `observe` updates that state and returns decisions; it
    writes to nothing else.  The state follows from the policy, the seed and the observations
    alone: no clock, no I/O, no randomness but the given generator.  So a policy decides alike
    online and in replay.

    A subclass is a frozen dataclass.  Each field is a parameter with a type and a default, and
    `__post_init__` checks its range.  When everything that it launched has ended, a policy must
    have decided `Finish`.

    Attributes:
        name: What the command line calls it; by default the name of the class.
        needs: What a driver must provide; a run without it is refused.
        patient: Whether it lets every trace come to its own end, and looks at none before, so that
            a server may give whole answers.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset()
    patient: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.name or cls.__name__

    @abstractmethod
    def begin(self, rng: Random) -> S:
        """Make the state of a new run."""

    @abstractmethod
    def observe(self, state: S, observation: Observation) -> Decisions:
        """Take in one observation and decide; `NOTHING` where there is nothing to do."""

    @property
    def most(self) -> int | None:
        """The most traces that it launches; None where it does not say."""
        return None

    @property
    def label(self) -> str:
        """The name and every parameter that is not the default, as the command line takes them."""
        changed = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)  # type: ignore[arg-type]  # each policy is a dataclass
            if getattr(self, f.name) != f.default
        ]
        return ":".join([self.name, ",".join(changed)]) if changed else self.name


class LoggedDecision(NamedTuple):
    """A decision, and how many observations the policy had seen when it took it."""

    observed: int
    decision: Decision


@dataclass(kw_only=True)
class PolicySession:
    """One run of one policy: what a driver talks to, and the log of its decisions.

    Attributes:
        observed: How many observations the policy has seen.
        log: Every decision in order; runs with equal logs are equal.
        finish: The final decision, once there is one; `tell` is refused after it.
        state: The policy's state; a new one, unless one is given to continue from.
    """

    policy: Policy[Any]
    seed: int = 0
    observed: int = 0
    log: list[LoggedDecision] = field(default_factory=list)
    finish: Finish | None = None
    state: Any = None

    def __post_init__(self) -> None:
        if self.state is None:
            self.state = self.policy.begin(Random(self.seed))
        self._observe = self.policy.observe

    def tell(self, observation: Observation) -> Decisions:
        """Pass one observation to the policy; decisions after a `Finish` are dropped.

        Raises:
            PolicyError: the policy has finished.
        """
        if self.finish is not None:
            raise PolicyError(f"policy {self.policy.name!r} has finished; open a new session")
        self.observed += 1
        decisions = self._observe(self.state, observation)
        for index, decision in enumerate(decisions):
            self.log.append(LoggedDecision(self.observed, decision))
            if isinstance(decision, Finish):
                self.finish = decision
                return decisions[: index + 1]
        return decisions


def require(condition: bool, message: str) -> None:
    """Raise `PolicyError` with ``message``, which names the parameter and says what to do."""
    if not condition:
        raise PolicyError(message)


Excluded = Literal["neither", "least", "both"]


def check_range(
    owner: object, names: str, least: float, most: float = inf, *, excluded: Excluded = "neither"
) -> None:
    """Check that parameters, by their names with spaces between, are numbers in a range.

    A parameter whose default is a whole number has to be one.

    Args:
        excluded: Which ends of the range are not allowed themselves.

    Raises:
        PolicyError: a value is out of range or no such number; the message names the parameter.
    """
    for name in names.split():
        value = getattr(owner, name)
        whole = isinstance(getattr(type(owner), name, None), int)
        require(
            isinstance(value, int if whole else (int, float)) and not isinstance(value, bool),
            f"{name}: {value!r} is no {'whole ' if whole else ''}number; give one",
        )
        above = value >= least if excluded == "neither" else value > least
        below = value < most if excluded == "both" else value <= most
        require(
            above and below,
            f"{name}: {value} is out of range; give {_words(least, most, excluded)}",
        )


def _words(least: float, most: float, excluded: Excluded) -> str:
    if most == inf:
        return f"{least:g} or more" if excluded == "neither" else f"more than {least:g}"
    if excluded == "least":
        return f"more than {least:g}, up to {most:g}"
    between = "from {:g} to {:g}" if excluded == "neither" else "more than {:g} and less than {:g}"
    return between.format(least, most)
