"""A judge during one run: its judgements of pairs of traces, and their cost.

A driver opens one `JudgeSession` for each run.  A run pays once for each text that is read for it,
whatever other runs have paid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from pruning.evaluation.traces import Trace

Judge: TypeAlias = Callable[[Trace, Trace, int], float]
"""Takes two traces and the tokens written so far; returns P(their answers will agree)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The judge's probability that two traces will agree, and its cost.

    Attributes:
        tokens: Read by the judge's model for it.
        seconds: Its time; that of a batch is divided among its judgements.
    """

    same: float
    tokens: int = 0
    seconds: float = 0.0


class JudgeSession(Protocol):
    """A judge during one run."""

    def ask(self, trace: Trace, others: Sequence[Trace], tokens: int) -> Sequence[Judgement]:
        """Judge ``trace`` against each of ``others``, from their first ``tokens`` tokens."""


@runtime_checkable
class BatchJudge(Protocol):
    """A judge that works in batches and reports its cost."""

    def open_session(self) -> JudgeSession:
        """Open the judge for a new run, which has paid for nothing yet."""


@dataclass(frozen=True)
class _FreeJudge:
    """A session of a judge that is a plain function and costs nothing."""

    judge: Judge

    def ask(self, trace: Trace, others: Sequence[Trace], tokens: int) -> Sequence[Judgement]:
        return [Judgement(same=self.judge(trace, other, tokens)) for other in others]


def open_judge(judge: Judge) -> JudgeSession:
    """Open a session of any judge: of a `BatchJudge` its own, else one that costs nothing."""
    return judge.open_session() if isinstance(judge, BatchJudge) else _FreeJudge(judge)
