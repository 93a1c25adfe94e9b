"""What a policy decides: one typed value for each thing that it can ask of a driver.

Every decision has a reason in words, which the terminal, the trace file and the report show.  A
driver carries decisions out in the given order and counts what they cost.  Decisions on single
steps are frequent, so they are named tuples that hold the numbers of their reason and put it into
words only when it is read; this makes them several times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """Start more traces.

    Attributes:
        probe_every: Probe each of them at every multiple of this many tokens; 0 for never.
        limit: End each of them at this many tokens (``how="length"``); None for the model's own.
        mark: Observe `Reached` when each of them has written this many tokens; 0 for never.
    """

    count: int
    reason: str
    probe_every: int = 0
    limit: int | None = None
    mark: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """Abort one trace; its `Ended` follows with ``how="stopped"``."""

    trace: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """Let a trace write nothing more for now; its tokens are kept."""

    trace: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Resume:
    """Let a paused trace go on from where it was."""

    trace: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """End the run with this answer (None where there is none) and abort what still runs."""

    answer: str | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Ask one trace now for the answer that it would give."""

    trace: int
    reason: str


Measure = Literal["p", "score"]
"""How the strangeness of a step is measured: by its p-value, or by its score itself."""


class Accept(NamedTuple):
    """Keep the draft's step, and let the draft go on."""

    trace: int
    turn: int
    value: float
    bar: float
    measure: Measure = "p"
    kind: Literal["accept"] = "accept"

    @property
    def reason(self) -> str:
        return _strangeness(self.turn, self.measure, self.value, self.bar)


class Escalate(NamedTuple):
    """Let the target model continue the trace for one step."""

    trace: int
    turn: int
    value: float
    bar: float
    measure: Measure = "p"
    kind: Literal["escalate"] = "escalate"

    @property
    def reason(self) -> str:
        return _strangeness(self.turn, self.measure, self.value, self.bar)


class Resample(NamedTuple):
    """Drop the draft's step, and let the draft write it again."""

    trace: int
    turn: int
    value: float
    bar: float
    measure: Measure = "p"
    kind: Literal["resample"] = "resample"

    @property
    def reason(self) -> str:
        return _strangeness(self.turn, self.measure, self.value, self.bar)


def _strangeness(turn: int, measure: Measure, value: float, bar: float) -> str:
    return f"turn {turn}: {measure} {value:.3f} against {bar:.3f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AskJudge:
    """Ask the judge whether ``trace`` will give the same answer as each of ``others``.

    It reads their prefixes.  A `Judged` follows for each pair.
    """

    trace: int
    others: tuple[int, ...]
    reason: str


Decision: TypeAlias = (
    Launch | Stop | Pause | Resume | Finish | Probe | Accept | Escalate | Resample | AskJudge
)
Decisions: TypeAlias = tuple[Decision, ...]
NOTHING: Decisions = ()
