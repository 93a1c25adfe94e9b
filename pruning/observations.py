"""What a policy is told: one typed value for each thing that happens in a run.

A driver (the engine online, `pruning.evaluation.replay` over stored traces) tells a policy these
values one at a time, in the order of time and, at one time, of trace. Traces are numbered from 0
in the order of launch. Answers are canonical keys: equal strings are equal answers, None is no
answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

How = Literal["finished", "length", "stopped"]
"""A trace ended by itself, at its limit of tokens, or because the policy stopped it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Began:
    """The run begins, with nothing running.

    Attributes:
        most: How many traces the driver can launch in all; None without a limit.
        probe_every: Probes are answered at multiples of this many tokens; 0 where they can't be.
    """

    most: int | None = None
    probe_every: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A trace wrote tokens.

    Attributes:
        tokens: All that it has written up to now.
        confidence: The mean over the tokens written since the last such observation of
            C = -(1/k) Σ log P(j), j the k most probable tokens (DeepConf, arXiv 2508.15260).
    """

    trace: int
    tokens: int
    confidence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """A trace has written as many tokens as its launch's ``mark``; told once."""

    trace: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """The answer that a trace would give if it had to stop at ``tokens``."""

    trace: int
    tokens: int
    answer: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScored:
    """A trace ended a step, and the target gave it a score; higher is stranger (perplexity).

    Attributes:
        turn: The step's place in its trace, from 0.
    """

    trace: int
    turn: int
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A trace ended; the driver tells this of each trace once, also of those it was told to stop.

    Attributes:
        answer: None where it gave none; a trace cut at its limit is asked there, as by a probe.
        score: A verifier's, higher is better; None without one.
    """

    trace: int
    tokens: int
    answer: str | None
    how: How = "finished"
    score: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The judge's probability that two traces will give the same answer."""

    trace: int
    other: int
    same: float


Observation: TypeAlias = Began | Generated | Reached | Probed | StepScored | Ended | Judged
