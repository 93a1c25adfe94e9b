"""From the live graph to its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.record import AttemptRecord, EdgeRecord, RunRecord, TaskRecord

if TYPE_CHECKING:
    from orchestrator.graph import TaskGraph
    from orchestrator.task import Task


def record(graph: TaskGraph) -> RunRecord:
    """The graph as it is now, or as it ended."""
    tasks = graph.tasks
    began = graph.scheduler.began
    ends = [task._ended_at - began for task in tasks if task._ended_at is not None]
    running = graph.scheduler.running
    done = [task for task in tasks if task.state == "succeeded"] or tasks
    return RunRecord(
        name=graph.name,
        version=graph.version,
        tasks=tuple(_task(task, began) for task in tasks),
        edges=tuple(edge for task in tasks for edge in _edges(task)),
        wall_s=graph.scheduler.now() if running else max(ends, default=0.0),
        busy_s=sum(task._busy_s for task in tasks),
        span_s=max((task._clock_s for task in done), default=0.0),
        work=graph.work,
        span=graph.span,
        wasted=sum(task.work for task in tasks if task.state in ("cancelled", "failed")),
    )


def _task(task: Task[Any], began: float) -> TaskRecord:
    attempts = enumerate(task._attempts, 1)
    return TaskRecord(
        id=task.id,
        name=task.name,
        state=task.state,
        parent=None if task.parent is None else task.parent.id,
        added=max(0.0, task._added_at - began),
        ready=None if task._ready_at is None else max(0.0, task._ready_at - began),
        ended=None if task._ended_at is None else task._ended_at - began,
        attempts=tuple(
            AttemptRecord(number=number, started=start - began, ended=end - began, error=error)
            for number, (start, end, error) in attempts
        ),
        work=task.work,
        error=None if task._error is None else f"{type(task._error).__name__}: {task._error}",
        leaked=task.leaked,
    )


def _edges(task: Task[Any]) -> list[EdgeRecord]:
    edges = [
        EdgeRecord(
            source=edge.source.id, target=edge.target.id, kind=edge.kind, when=str(edge.when)
        )
        for edge in task._inbound
    ]
    if task.parent is not None:
        edges.append(EdgeRecord(source=task.parent.id, target=task.id, kind="spawn"))
    return edges
