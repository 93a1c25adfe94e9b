"""What a judge says of pairs of traces, and what that costs: the side that drivers call.

A driver opens one `Hearing` for each run.  What a run needs again it pays once; what only another
run has paid, it pays itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from pruning.evaluation.traces import Trace

Judge: TypeAlias = Callable[[Trace, Trace, int], float]
"""From two traces and the tokens written by now to the probability that their answers agree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """The judge's probability that two traces will agree, and what the run pays for it.

    Attributes:
        tokens: That the judge's model read.
        seconds: That it took; those of a batch are shared out over its rulings.
    """

    same: float
    tokens: int = 0
    seconds: float = 0.0


class Hearing(Protocol):
    """A judge during one run."""

    def ask(self, trace: Trace, others: Sequence[Trace], tokens: int) -> Sequence[Ruling]:
        """Judge ``trace`` against each of ``others``, from their first ``tokens`` tokens."""


@runtime_checkable
class Hears(Protocol):
    """A judge that answers in batches and says what it costs."""

    def hearing(self) -> Hearing:
        """The judge for one run, which has paid for nothing yet."""


@dataclass(frozen=True)
class _Free:
    """A judge that is a function, and costs nothing."""

    judge: Judge

    def ask(self, trace: Trace, others: Sequence[Trace], tokens: int) -> Sequence[Ruling]:
        return [Ruling(same=self.judge(trace, other, tokens)) for other in others]


def hearing(judge: Judge) -> Hearing:
    """Open any judge for one run."""
    return judge.hearing() if isinstance(judge, Hears) else _Free(judge)
