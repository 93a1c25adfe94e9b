"""A solution as a message: what ``reason solve --json`` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from protocol import Report, ThreadReport, UsageReport
from protocol.wire.report import DecisionReport, SteeringReport, TraceReport
from pruning import Accept, Decision, Escalate, Resample
from reasoning.run.solution import Solution, Steering, Usage


def report(solution: Solution) -> Report:
    """The solution as a message."""
    usage = solution.usage
    return Report(
        status=solution.status,
        problem=solution.problem.question,
        domain=solution.problem.domain,
        answer=solution.answer,
        answer_source=solution.answer_source,
        final_text=solution.final_text,
        verified=solution.verified,
        reason=solution.verdict.reason if solution.verdict else None,
        votes=solution.votes,
        confidence=solution.confidence,
        tied=solution.tied,
        strategy=solution.strategy,
        model=solution.model,
        usage=UsageReport(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            work_tokens=usage.work_tokens,
            span_tokens=usage.span_tokens,
            leaked_tokens=usage.leaked_tokens,
            cached_tokens=usage.cached_tokens,
        ),
        wall_s=round(solution.wall_s, 4),
        threads=tuple(
            ThreadReport(
                **{
                    name: getattr(thread, name)
                    for name in ThreadReport.model_fields
                    if name != "trace"
                },
                trace=None if thread.trace is None else TraceReport(**asdict(thread.trace)),
            )
            for thread in solution.threads
        ),
        steering=None if solution.steering is None else _steering(solution.steering, usage),
        errors=solution.errors,
        parallelism=round(solution.parallelism, 4),
        emulated=solution.emulated,
    )


def _steering(steered: Steering, usage: Usage) -> SteeringReport:
    """What a policy did, as a message."""
    shared = SteeringReport.model_fields.keys() - {"leaked", "reason", "decisions"}
    return SteeringReport(
        **{name: getattr(steered, name) for name in shared},
        leaked=usage.leaked_tokens,
        reason=steered.finish.reason,
        decisions=tuple(
            DecisionReport(told=told, do=type(decision).__name__.lower(), **_fields(decision))
            for told, decision in steered.log
        ),
    )


def _fields(decision: Decision) -> dict[str, Any]:
    if isinstance(decision, Accept | Escalate | Resample):
        return {"trace": decision.trace, "reason": decision.reason}
    return asdict(decision)
