"""A graph as executed: its accounts, its record, and its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.structure import Structure
from orchestrator.views.record import AttemptRecord, EdgeRecord, RunRecord, TaskRecord, TaskState

if TYPE_CHECKING:
    import networkx

    from orchestrator.scheduler.scheduler import Scheduler
    from orchestrator.task import Task


class Views(Structure):
    """What can be seen of a graph, while it runs and afterwards."""

    name: str
    version: int
    scheduler: Scheduler

    def states(self) -> dict[str, TaskState]:
        """The state of each task, by id."""
        return {task.id: task.state for task in self._tasks.values()}

    @property
    def work(self) -> int:
        """The cost of all tasks, cancelled ones included."""
        return sum(task.work for task in self._tasks.values())

    @property
    def span(self) -> int:
        """The cost along the longest dependent chain of what succeeded; of all if nothing did."""
        tasks = self._tasks.values()
        done = [task.clock for task in tasks if task.state == "succeeded"]
        return max(done or [task.clock for task in tasks], default=0)

    def record(self) -> RunRecord:
        """The graph as executed so far."""
        return _record(self)

    def to_networkx(self) -> networkx.DiGraph[str]:
        """The graph as executed, as a directed graph of networkx; see `pictures.to_networkx`."""
        from orchestrator.views.diagrams import to_networkx

        return to_networkx(self.record())

    def to_mermaid(self, *, most: int = 100) -> str:
        """The graph as executed, as a Mermaid flowchart of at most ``most`` nodes."""
        from orchestrator.views.diagrams import to_mermaid

        return to_mermaid(self.record(), most=most)

    def to_dot(self, *, most: int = 100) -> str:
        """The graph as executed, for Graphviz, in at most ``most`` nodes."""
        from orchestrator.views.diagrams import to_dot

        return to_dot(self.record(), most=most)

    def to_json(self) -> str:
        """The record as JSON; `pictures.from_json` reads it."""
        from orchestrator.views.diagrams import to_json

        return to_json(self.record())

    def to_html(self) -> str:
        """A self-contained page with the run's timeline."""
        from orchestrator.views.timeline import to_html

        return to_html(self.record())

    def _repr_html_(self) -> str:
        from orchestrator.views.timeline import to_fragment

        return to_fragment(self.record())


def _record(graph: Views) -> RunRecord:
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
