"""What a policy sees of a run: one typed value for each thing that happens.

A driver (the engine online, `pruning.evaluation.replay` over stored traces) passes these values to
a policy one at a time, in the order of ticks and, at one tick, of trace numbers.  Traces are
numbered from 0 in the order of launch.  Answers are canonical keys: equal strings are equal
answers, and None is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

How = Literal["finished", "length", "stopped"]
"""How a trace ended: by itself, at its limit of tokens, or because the policy stopped it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Began:
    """The run begins, with nothing running.

    Attributes:
        max_traces: How many traces the driver can launch in all; None for no limit.
        probe_every: Traces can be probed at multiples of this many tokens; 0 where they can't.
    """

    max_traces: int | None = None
    probe_every: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A trace wrote tokens.

    Attributes:
        tokens: How many it has written so far.
        confidence: The mean of C = -(1/k) Σ log P(j), over the k most probable tokens j (DeepConf,
            arXiv 2508.15260), over the tokens written since the last such observation.
    """

    trace: int
    tokens: int
    confidence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """A trace has written as many tokens as its launch's ``mark``; seen once for each trace."""

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
    """A trace ended a step, and the target model scored it; higher is stranger (perplexity).

    Attributes:
        turn: The step's index in its trace, from 0.
    """

    trace: int
    turn: int
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A trace ended; seen once for each trace, also for those that the policy stopped.

    Attributes:
        answer: None where it gave none; a trace that was cut at its limit is probed there.
        score: The verifier's, or a scorer's where the policy asks for one; higher is better.  None
            without either, and for a trace that gave no answer.
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
