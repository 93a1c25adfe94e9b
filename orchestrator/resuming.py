"""Going on with a run from its journal: what has ended is taken from there, not run again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from orchestrator.calls import signature
from orchestrator.conditions import Condition
from orchestrator.errors import InvalidValue, ReasonError
from orchestrator.journal import Journal, ResultRow, TaskRow, edges_text, function_name
from orchestrator.patches import Patch, Remove, apply
from orchestrator.record import TaskState
from orchestrator.task import Edge, Task

if TYPE_CHECKING:
    from orchestrator.graph import TaskGraph


class EarlierFailure(ReasonError):
    """What a task raised in an earlier process, as text."""


async def open_journal(
    graph: TaskGraph, path: Path, *, resume: bool, again: Iterable[TaskState]
) -> tuple[Journal, Restored]:
    """Open a graph's journal, and bring the graph to where the journal ends.

    Raises:
        JournalUnusable: see `Journal`.
        InvalidValue: the graph is not the one that the journal is of.
    """
    journal = await anyio.to_thread.run_sync(lambda: Journal(path, graph.name, resume=resume))
    try:
        rows = await anyio.to_thread.run_sync(journal.tasks)
        results = await anyio.to_thread.run_sync(lambda: journal.results(again=again))
        restored = Restored(rows, results)
        restored.replay(graph, [Patch.parse(text) for text in journal.patches()])
        for task in graph.tasks:
            journal.added(task)
            if task.ended and task.id not in results:
                journal.ended(task)
    except BaseException:
        journal.shut()
        raise
    return journal, restored


class Restored:
    """What an earlier process left: the tasks that there were, and how some of them ended."""

    def __init__(self, rows: dict[str, TaskRow], results: dict[str, ResultRow]) -> None:
        self._rows = rows
        self._results = results

    def __contains__(self, id: str) -> bool:
        return id in self._rows

    def replay(self, graph: TaskGraph, patches: list[Patch]) -> None:
        """Edit the graph as it was edited, then end what had ended."""
        removed = set()
        for patch in patches:
            apply(graph, patch.model_copy(update={"base": None, "expect": ()}))
            removed |= {op.id for op in patch.ops if isinstance(op, Remove)}
        for row in self._rows.values():
            if row.parent is None and row.id not in removed:
                if row.id not in graph:
                    raise InvalidValue(
                        f"the journal has task {row.id} ({row.name}), the graph has not; "
                        "build the same graph to resume, or name another file"
                    )
                self.restore(graph[row.id])
            elif row.parent in self._results and row.parent not in removed:
                self._revive(graph, row)

    def restore(self, task: Task[Any]) -> None:
        """Give a task that was added again the end that it had, if it had one.

        Raises:
            InvalidValue: it is not the same task.
        """
        row, result = self._rows[task.id], self._results.get(task.id)
        same = row.name == task.name and row.function == function_name(task)
        if not task._changed and not (same and row.edges == edges_text(task)):
            raise InvalidValue(
                f"task {task.id} is {task.name} ({function_name(task)}), but in the journal it is "
                f"{row.name} ({row.function}), or its edges differ; add the same tasks in the "
                "same order to resume, or name another file"
            )
        if result is not None and not task.ended:
            self._end(task, result)

    def _end(self, task: Task[Any], result: ResultRow) -> None:
        if result.value is not None:
            task._value = signature(task._function).restore(result.value)
        if result.error is not None:
            task._error = EarlierFailure(result.error)
        task.work, task.clock, task._busy_s = result.work, result.clock, result.busy_s
        now = task._added_at
        task._attempts = ((now, now, None),) * result.attempt
        task._graph.scheduler.finish(task, result.state)

    def _revive(self, graph: TaskGraph, row: TaskRow) -> None:
        """Put back a child whose parent has ended, so that nobody will add it again."""
        import json

        parent = graph[row.parent or ""]
        task = graph.create(row.id, parent, _gone, (), {"name": row.name})
        for edge in json.loads(row.edges):
            when = Condition.parse(edge["when"])
            Edge(graph[edge["source"]], task, edge["kind"], when).link()
        graph.scheduler.unfinished += 1
        result = self._results.get(row.id)
        if result is not None:
            self._end(task, result)


def _gone() -> Any:
    raise AssertionError("a task of an ended parent does not run again")
