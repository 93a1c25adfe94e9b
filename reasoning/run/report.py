"""A solution as a message: what ``reason solve --json`` prints."""

from __future__ import annotations

from dataclasses import asdict
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
from reasoning.run.solution import Solution, Steering, Usage

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
