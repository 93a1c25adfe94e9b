"""An evaluation as `reason runs` shows it: a line for each arm, and where its answers stand."""

from __future__ import annotations

from collections.abc import Iterator

from protocol import Report
from protocol.wire.report import ThreadReport, UsageReport
from reasoning.evaluation.kept.records import Record
from reasoning.evaluation.kept.store import StoredEval
from reasoning.evaluation.results import EvalResults, EvalRow
from reasoning.runs.record import BranchRecord


def eval_report(
    title: str,
    stored: StoredEval,
    results: EvalResults | None = None,
    *,
    wall_s: float = 0.0,
    lacking: str | None = None,
) -> Report:
    """What an evaluation came to so far; its tokens are those of all answers in its file.

    Args:
        title: The questions, in words.
        results: None while answers are missing.
        lacking: What is missing, in words.
    """
    rows = [] if results is None else results.results
    answers = list(_answers(stored))
    given = sum(one.prompt_tokens for one in answers)
    written = sum(one.tokens for one in answers)
    longest = max((getattr(one, "span", one.tokens) for one in answers), default=0)
    return Report(
        status="interrupted" if results is None else "finished",
        problem=title,
        domain="evaluation",
        answer=" · ".join(f"{row.policy} {row.accuracy:.1%}" for row in rows) or None,
        verified=None,
        reason=None,
        votes={},
        confidence=0.0,
        abstained=lacking,
        strategy=", ".join(row.policy for row in rows) or "evaluation",
        model=stored.header.model,
        usage=UsageReport(
            prompt_tokens=given,
            completion_tokens=written,
            work_tokens=given + written,
            span_tokens=longest,
        ),
        wall_s=wall_s,
        threads=tuple(_arm(str(place), row) for place, row in enumerate(rows, 1)),
    )


def eval_branches(results: EvalResults) -> Iterator[BranchRecord]:
    """Each arm on the axis of tokens: its mean span."""
    for place, row in enumerate(results.results, 1):
        yield BranchRecord(
            id=str(place),
            vote=None,
            why=f"{row.accuracy:.1%} right",
            stretches=((0, round(row.span)),),
        )


def _answers(stored: StoredEval) -> Iterator[Record]:
    for samples in stored.samples.values():
        yield from samples.values()
    for runs in stored.runs.values():
        yield from runs.values()


def _arm(id: str, row: EvalRow) -> ThreadReport:
    return ThreadReport(
        id=id,
        parent=None,
        name=row.policy,
        state="succeeded",
        tokens=round(row.tokens),
        text="\n".join(_figures(row)),
        answer=f"{row.accuracy:.1%}",
        logprob=None,
    )


def _figures(row: EvalRow) -> Iterator[str]:
    low, high = row.ci95
    yield f"{row.accuracy:.1%} ({100 * low:.1f}–{100 * high:.1f}) of {row.n:,} questions"
    yield f"{row.tokens:,.0f} tokens a question, span {row.span:,.0f}"
    for base in row.beside.values():
        low, high = base.gain_ci95
        yield (
            f"{100 * base.gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}) over "
            f"{base.policy}, {base.tokens:,.0f} tokens"
        )
    if row.runs is not None:
        yield str(row.runs)
