"""A solution as a message, which ``reason solve --json`` prints, and as a notebook shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from protocol import Report, ThreadReport, UsageReport
from protocol.wire.report import (
    AnswerTreeReport,
    ChoiceReport,
    DecisionReport,
    ParallelReport,
    SteeringReport,
)
from pruning import Accept, Decision, Escalate, Resample
from reasoning.run.solution import ENDED, Solution, Steering, ThreadRecord, Usage

MOST_LANES = 60
"""Branches that a notebook's cell shows.  `reason view` shows all."""

_SHARED = (
    *("status", "answer", "answer_source", "final_text", "verified", "votes", "confidence"),
    *("tied", "merged", "selected_by", "abstained", "strategy", "model", "errors", "emulated"),
    *("ignored", "join_skipped", "fork_refused", "refusals", "forked"),
)

_PARALLEL = tuple(ParallelReport.model_fields)


def report(solution: Solution) -> Report:
    """The solution as a message."""
    usage = solution.usage
    return Report(
        **{name: getattr(solution, name) for name in _SHARED},
        problem=solution.problem.question,
        domain=solution.problem.domain,
        reason=solution.verdict.reason if solution.verdict else None,
        usage=UsageReport.model_validate(usage, from_attributes=True),
        wall_s=round(solution.wall_s, 4),
        threads=tuple(
            ThreadReport.model_validate(thread, from_attributes=True) for thread in solution.threads
        ),
        steering=None if solution.steering is None else _steering(solution.steering, usage),
        tree=None
        if solution.tree is None
        else AnswerTreeReport.model_validate(asdict(solution.tree)),
        saved_tokens=solution.saved_tokens,
        parallelism=round(solution.parallelism, 4),
        parallel=None
        if solution.parallel is None
        else ParallelReport(
            **{name: round(getattr(solution.parallel, name), 4) for name in _PARALLEL}
        ),
        tool_calls=tuple(call.as_field() for call in solution.tool_calls),
    )


def _steering(steered: Steering, usage: Usage) -> SteeringReport:
    shared = SteeringReport.model_fields.keys() - {"leaked", "reason", "decisions", "choice"}
    return SteeringReport(
        **{name: getattr(steered, name) for name in shared},
        leaked=usage.leaked_tokens,
        reason=steered.finish.reason,
        choice=None
        if steered.choice is None
        else ChoiceReport.model_validate(steered.choice, from_attributes=True),
        decisions=tuple(
            DecisionReport(told=told, do=type(decision).__name__.lower(), **_fields(decision))
            for told, decision in steered.log
        ),
    )


def _fields(decision: Decision) -> dict[str, Any]:
    if isinstance(decision, Accept | Escalate | Resample):
        return {"trace": decision.trace, "reason": decision.reason}
    return asdict(decision)


# ---- for a notebook's cell ----------------------------------------------------------------------


def fragment(solution: Solution) -> str:
    """The answer, its votes, the cost, and a lane for each branch, as HTML without script."""
    verdict = {True: "verified", False: "rejected", None: "not verifiable"}[solution.verified]
    answer = "no answer" if solution.answer is None else solution.answer
    usage = solution.usage
    votes = " · ".join(f"{escape(key)} ×{count}" for key, count in [*solution.votes.items()][:8])
    return (
        f"<div><p>{escape(solution.problem.question)}</p><p><b>{escape(answer)}</b> ({verdict})"
        f"{f' – votes: {votes}' if len(solution.votes) > 1 else ''}</p><p><small>"
        f"{escape(solution.strategy)} of {escape(solution.model)}: {len(solution.threads)} "
        f"branches, work {usage.work_tokens:,} tokens, span {usage.span_tokens:,}, "
        f"{solution.wall_s:.2f} s</small></p>{_lanes(solution.threads)}</div>"
    )


def _lanes(threads: Sequence[ThreadRecord]) -> str:
    """Where each of the first branches wrote, on one axis of tokens."""
    shown = threads[:MOST_LANES]
    length = max((end for one in shown for _, end in one.stretches), default=0) or 1
    parts = []
    for line, one in enumerate(shown):
        found = "" if one.answer is None else f" → {' '.join(one.answer.split())}"
        label = f"{'  ' * one.id.count('.')}{one.id} {one.name}{found}"
        top, note = line * 18, f"{one.ending}, {one.tokens} tokens"
        parts.append(f'<text x="0" y="{top + 13}" font-size="12">{escape(label[:52])}</text>')
        dashes = "" if one.ending in ENDED else ' fill-opacity=".2" stroke-dasharray="3 2"'
        parts += [
            f'<rect x="{350 + 400 * begin / length:.1f}" y="{top + 4}" height="10" rx="2" '
            f'width="{max(2.0, 400 * (end - begin) / length):.1f}" fill="#2f6fb5" '
            f'stroke="#2f6fb5"{dashes}><title>{escape(note)}</title></rect>'
            for begin, end in one.stretches
        ]
    more = len(threads) - len(shown)
    return (
        f'<svg width="780" height="{len(shown) * 18 + 4}" role="img" aria-label="When each branch '
        f'wrote" font-family="sans-serif" fill="currentColor" xml:space="preserve">'
        f"{''.join(parts)}</svg>{f'<p>and {more} more branches</p>' if more else ''}"
    )
