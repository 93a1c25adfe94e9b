"""A plan as it is kept: its tasks stand where a run of reasoning has its threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from orchestrator.views.record import TaskRecord
from protocol import Report
from protocol.wire.report import ThreadReport, UsageReport
from reasoning.planning import ConstellationResult
from reasoning.planning.state import PlannedTask
from reasoning.runs.record import BranchRecord

NO_ANSWER = {
    "stuck": "the planner had nothing to say while nothing ran",
    "refused": "the planner's replies were refused again and again",
    "turns": "the planner was asked as often as it may be",
    "timed-out": "the time was over",
}


def plan_report(
    request: str,
    model: str,
    result: ConstellationResult | None = None,
    *,
    written: int = 0,
    wall_s: float = 0.0,
) -> Report:
    """What a plan came to; without a result, that it had not ended.

    Args:
        written: Tokens of the planner's replies; what it was given is not counted.
    """
    status: Literal["finished", "timed-out", "interrupted"] = "interrupted"
    if result is not None:
        status = "timed-out" if result.status == "timed-out" else "finished"
    return Report(
        status=status,
        problem=request,
        domain="plan",
        answer=None if result is None else result.answer,
        verified=None,
        reason=None,
        votes={},
        confidence=0.0,
        abstained=None if result is None else NO_ANSWER.get(result.status),
        strategy="plan",
        model=model,
        usage=UsageReport(
            prompt_tokens=0, completion_tokens=written, work_tokens=written, span_tokens=written
        ),
        wall_s=wall_s,
        threads=() if result is None else tuple(_thread(task) for task in result.tasks),
        errors=() if result is None else result.reasons,
    )


def plan_branches(result: ConstellationResult) -> Iterator[BranchRecord]:
    """When and where each task ran, and what it waited for."""
    record = result.graph.record()
    ran = {task.id: task for task in record.tasks}
    sources: dict[str, list[str]] = {}
    for edge in record.edges:
        if edge.kind != "spawn":
            sources.setdefault(edge.target, []).append(edge.source)
    for task in result.tasks:
        yield BranchRecord(
            id=task.id,
            vote=None,
            why=_why(task),
            stretches=(),
            after=tuple(sources.get(task.id, ())),
            error=task.error,
            attempts=max(1, task.attempts),
            **_times(ran[task.id]),
        )


def _times(task: TaskRecord) -> dict[str, Any]:
    """When it ran in this process; what had ended in an earlier one did not."""
    if task.started is None:
        return {}
    return {"started": round(task.started, 4), "ended": task.ended and round(task.ended, 4)}


def _thread(task: PlannedTask) -> ThreadReport:
    arguments = json.dumps(dict(task.arguments), ensure_ascii=False, default=str)
    return ThreadReport(
        id=task.id,
        parent=None,
        name=f"{task.name} {arguments}",
        state=task.state,
        tokens=0,
        text="" if task.value is None else _text(task.value),
        answer=None,
        logprob=None,
        ending="end" if task.state in ("succeeded", "failed") else "stopped",
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _why(task: PlannedTask) -> str:
    where = "" if task.device is None else f" on {task.device}"
    lost = f", after {task.attempts - 1} lost" if task.attempts > 1 else ""
    error = f": {task.error}" if task.error else ""
    return f"{task.state}{where}{lost}{error}"
