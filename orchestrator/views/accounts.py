"""What a run has cost, and its record."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from orchestrator.node import Node
from orchestrator.views.record import AttemptRecord, EdgeRecord, RunRecord, TaskRecord

if TYPE_CHECKING:
    from orchestrator.scheduler.run import GraphRun


def work(nodes: Iterable[Node]) -> int:
    """The cost of all tasks, cancelled ones included."""
    return sum(node.work for node in nodes)


def span(nodes: Collection[Node]) -> int:
    """The cost along the longest dependent chain of what succeeded; of all if nothing did."""
    done = [node.clock for node in nodes if node.state == "succeeded"]
    return max(done or [node.clock for node in nodes], default=0)


def record(run: GraphRun) -> RunRecord:
    """A run as it is now, or as it ended."""
    nodes = list(run.structure.nodes.values())
    began = run.scheduler.began
    ends = [node.ended_at - began for node in nodes if node.ended_at is not None]
    running = run.scheduler.running
    done = [node for node in nodes if node.state == "succeeded"] or nodes
    return RunRecord(
        name=run.name,
        version=run.structure.version,
        tasks=tuple(_task(node, began) for node in nodes),
        edges=tuple(edge for node in nodes for edge in _edges(node)),
        wall_s=run.scheduler.now() if running else max(ends, default=0.0),
        busy_s=sum(node.busy_s for node in nodes),
        span_s=max((node.clock_s for node in done), default=0.0),
        work=work(nodes),
        span=span(nodes),
        wasted=sum(node.work for node in nodes if node.state in ("cancelled", "failed")),
    )


def _task(node: Node, began: float) -> TaskRecord:
    attempts = enumerate(node.attempts, 1)
    return TaskRecord(
        id=node.id,
        name=node.name,
        state=node.state,
        parent=None if node.parent is None else node.parent.id,
        added=max(0.0, node.added_at - began),
        ready=None if node.ready_at is None else max(0.0, node.ready_at - began),
        ended=None if node.ended_at is None else node.ended_at - began,
        attempts=tuple(
            AttemptRecord(number=number, started=start - began, ended=end - began, error=error)
            for number, (start, end, error) in attempts
        ),
        work=node.work,
        error=node.error_line,
        leaked=node.leaked,
    )


def _edges(node: Node) -> list[EdgeRecord]:
    edges = [
        EdgeRecord(
            source=edge.source.id, target=edge.target.id, kind=edge.kind, when=str(edge.when)
        )
        for edge in node.inbound
    ]
    if node.parent is not None:
        edges.append(EdgeRecord(source=node.parent.id, target=node.id, kind="spawn"))
    return edges
