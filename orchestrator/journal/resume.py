"""Going on with a run from its journal: what has ended is taken from there, not run again."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread
from pydantic import TypeAdapter

from orchestrator.calls import signature
from orchestrator.editing.patches import Patch, Remove, apply
from orchestrator.errors import InvalidValue, PatchRefused, ReasonError
from orchestrator.journal.store import Journal, ResultRow, TaskRow, edges_text, function_name
from orchestrator.scheduler.conditions import Condition
from orchestrator.task import Edge, Task
from orchestrator.views.record import TaskState

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
        restored = await anyio.to_thread.run_sync(Restored, journal, frozenset(again))
        graph.notes[:0] = journal.notes()
        restored.replay(graph, journal.patches())
        for task in graph.tasks:
            journal.added(task)
            if task.ended:
                journal.ended(task)
    except BaseException:
        journal.shut()
        raise
    return journal, restored


class Restored:
    """What an earlier process left: the tasks that there were, and how some of them ended.

    A child is put back when its parent is: if the parent has ended, or if an attempt of the
    parent that is over had added it, since nobody will add it again.
    """

    def __init__(self, journal: Journal, again: frozenset[TaskState]) -> None:
        self._journal = journal
        self._again = again
        self._rows = journal.tasks()
        self._results = journal.results()
        self._attempts = journal.attempts()
        self._children: dict[str, list[TaskRow]] = defaultdict(list)
        for row in self._rows.values():
            if row.parent is not None:
                if row.parent not in self._rows:
                    raise journal.damaged(f"there is no task {row.parent}, the parent of {row.id}")
                self._children[row.parent].append(row)
        self._lacking: dict[str, list[tuple[Task[Any], _Edge]]] = defaultdict(list)
        """Edges of tasks that were put back, by the source that was not yet."""

    def __contains__(self, id: str) -> bool:
        return id in self._rows

    def replay(self, graph: TaskGraph, patches: list[Patch]) -> None:
        """Edit the graph as it was edited, then end what had ended."""
        removed = set()
        for patch in patches:
            try:
                apply(graph, patch.model_copy(update={"base": None, "expect": ()}))
            except PatchRefused as error:
                raise InvalidValue(
                    f"the journal's edits do not fit this graph ({error.conflicts[0].reason}); "
                    "build the same graph to resume, or name another file"
                ) from error
            removed |= {op.id for op in patch.ops if isinstance(op, Remove)}
        for row in self._rows.values():
            if row.parent is None and row.id not in removed:
                if row.id not in graph:
                    raise InvalidValue(
                        f"the journal has task {row.id} ({row.name}), the graph has not; "
                        "build the same graph to resume, or name another file"
                    )
                self.restore(graph[row.id])

    def restore(self, task: Task[Any]) -> None:
        """Give a task that was added again the end that it had, if it had one.

        Raises:
            InvalidValue: it is not the same task.
            JournalUnusable: the journal is damaged.
        """
        row = self._rows[task.id]
        same = row.name == task.name and row.function == function_name(task)
        if not task._changed and not (same and row.edges == edges_text(task)):
            raise InvalidValue(
                f"task {task.id} is {task.name} ({function_name(task)}), but in the journal it is "
                f"{row.name} ({row.function}), or its edges differ; add the same tasks in the "
                "same order to resume, or name another file"
            )
        result = self._results.get(task.id)
        if result is not None and result.state in self._again:
            self._journal.reopen(task.id)
            result = None
        elif result is None:
            self._go_on(task)
        self._link_lacking(task)
        if result is not None and not task.ended:
            self._end(task, result)
            self._revive_below(task, math.inf)

    def _go_on(self, task: Task[Any]) -> None:
        """Let a task that had not ended count its attempts and children from where it was."""
        attempt, spawned = self._attempts.get(task.id, (0, 0))
        task._attempts = ((task._added_at, task._added_at, None),) * attempt
        task._spawned = spawned
        self._revive_below(task, spawned)

    def _end(self, task: Task[Any], result: ResultRow) -> None:
        if result.value is not None:
            try:
                task._value = signature(task._function).restore(result.value)
            except ValueError as error:
                raise self._journal.damaged(
                    f"the result of task {task.id} does not fit what its function returns"
                ) from error
        if result.error is not None:
            task._error = EarlierFailure(result.error)
        task.work, task.clock, task._busy_s = result.work, result.clock, result.busy_s
        now = task._added_at
        task._attempts = ((now, now, None),) * result.attempt
        task._graph.scheduler.finish(task, result.state)

    def _revive_below(self, task: Task[Any], most: float) -> None:
        """Put back the first so many children of a task, and all below them."""
        rows = [row for row in self._children[task.id] if _number(row) <= most]
        for row in rows:  # grows while it is read
            self._revive(task.graph, row)
            rows += self._children[row.id]

    def _revive(self, graph: TaskGraph, row: TaskRow) -> None:
        task = graph.create(row.id, graph[row.parent or ""], _gone, (), {"name": row.name})
        try:
            edges = _edges.validate_json(row.edges)
        except ValueError as error:
            raise self._journal.damaged(f"the edges of task {row.id} can't be read") from error
        for edge in edges:
            if edge.source in graph:
                _link(graph[edge.source], task, edge)
            else:
                self._lacking[edge.source].append((task, edge))
        self._link_lacking(task)
        graph.scheduler.unfinished += 1
        result = self._results.get(row.id)
        if result is None:  # it was being cancelled with its parent's attempt
            graph.scheduler.finish(task, "cancelled")
        else:
            self._end(task, result)
            graph.observed.add(task)  # by its parent, which was the one to look

    def _link_lacking(self, source: Task[Any]) -> None:
        for task, edge in self._lacking.pop(source.id, ()):
            _link(source, task, edge)


@dataclass(frozen=True, kw_only=True)
class _Edge:
    """An edge as `edges_text` writes it."""

    source: str
    kind: Literal["data", "control"]
    when: Condition


_edges = TypeAdapter(list[_Edge])


def _link(source: Task[Any], task: Task[Any], edge: _Edge) -> None:
    found = Edge(source, task, edge.kind, edge.when)
    found.resolved = True
    found.link()


def _number(row: TaskRow) -> int:
    """The how-manieth child of its parent it is."""
    tail = row.id.rpartition(".")[2]
    return int(tail) if tail.isdecimal() else 0


def _gone() -> Any:
    raise AssertionError("a task of an ended parent does not run again")
