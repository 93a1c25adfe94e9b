"""Going on with a run from its journal: what has ended is taken from there, not run again."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread
from pydantic import TypeAdapter

from orchestrator.calls import signature
from orchestrator.editing.patches import Patch, Remove, apply
from orchestrator.editing.structure import NO_KEYWORDS, Call
from orchestrator.errors import InvalidValue, PatchRefused, ReasonError
from orchestrator.journal.codec import from_json
from orchestrator.journal.store import Journal, ResultRow, TaskRow, edges_text, function_name
from orchestrator.node import Edge, Node
from orchestrator.scheduler.conditions import Condition
from orchestrator.views.record import TaskState

if TYPE_CHECKING:
    from orchestrator.scheduler.run import GraphRun, JournalSettings


class EarlierFailure(ReasonError):
    """What a task raised in an earlier process, as text."""


async def open_journal(run: GraphRun, settings: JournalSettings) -> tuple[Journal, Restored]:
    """Open a run's journal, and bring its graph to where the journal ends.

    Raises:
        JournalUnusable: see `Journal`.
        InvalidValue: the graph is not the one that the journal is of.
    """
    journal = await anyio.to_thread.run_sync(
        lambda: Journal(settings.path, run.name, resume=settings.resume)
    )
    try:
        restored = await anyio.to_thread.run_sync(
            lambda: Restored(run, journal, frozenset(settings.again))
        )
        run.notes[:0] = journal.notes()
        restored.replay(journal.patches())
        for node in run.structure.nodes.values():
            journal.added(node)
            if node.ended:
                journal.ended(node)
    except BaseException:
        journal.shut()
        raise
    return journal, restored


class Restored:
    """What an earlier process left: the tasks that there were, and how some of them ended.

    A child is put back when its parent is: if the parent has ended, or if an attempt of the
    parent that is over had added it, since nobody will add it again.
    """

    def __init__(self, run: GraphRun, journal: Journal, again: frozenset[TaskState]) -> None:
        self._run = run
        self._nodes = run.structure.nodes
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
        self._lacking: dict[str, list[tuple[Node, _Edge]]] = defaultdict(list)
        """Edges of tasks that were put back, by the source that was not yet."""

    def __contains__(self, id: str) -> bool:
        return id in self._rows

    def replay(self, patches: list[Patch]) -> None:
        """Edit the graph as it was edited, then end what had ended."""
        removed = set()
        for patch in patches:
            try:
                apply(self._run, patch.model_copy(update={"base": None, "expect": ()}))
            except PatchRefused as error:
                raise InvalidValue(
                    f"the journal's edits do not fit this graph ({error.conflicts[0].reason}); "
                    "build the same graph to resume, or name another file"
                ) from error
            removed |= {op.id for op in patch.ops if isinstance(op, Remove)}
        for row in self._rows.values():
            if row.parent is None and row.id not in removed:
                if row.id not in self._nodes:
                    raise InvalidValue(
                        f"the journal has task {row.id} ({row.name}), the graph has not; "
                        "build the same graph to resume, or name another file"
                    )
                self.restore(self._nodes[row.id])

    def restore(self, node: Node) -> None:
        """Give a task that was added again the end that it had, if it had one.

        Raises:
            InvalidValue: it is not the same task.
            JournalUnusable: the journal is damaged.
        """
        row = self._rows[node.id]
        same = row.name == node.name and row.function == function_name(node)
        if not node.edited_in and not (same and row.edges == edges_text(node)):
            raise InvalidValue(
                f"task {node.id} is {node.name} ({function_name(node)}), but in the journal it is "
                f"{row.name} ({row.function}), or its edges differ; add the same tasks in the "
                "same order to resume, or name another file"
            )
        result = self._results.get(node.id)
        if result is not None and result.state in self._again:
            self._journal.reopen(node.id)
            result = None
        elif result is None:
            self._go_on(node)
        self._link_lacking(node)
        if result is not None and not node.ended:
            self._end(node, result)
            self._revive_below(node, math.inf)

    def _go_on(self, node: Node) -> None:
        """Let a task that had not ended count its attempts and children from where it was."""
        attempt, spawned = self._attempts.get(node.id, (0, 0))
        node.attempts = ((node.added_at, node.added_at, None),) * attempt
        node.spawned = spawned
        self._revive_below(node, spawned)

    def _end(self, node: Node, result: ResultRow) -> None:
        if result.value is not None:
            try:
                node.value = from_json(result.value, signature(node.function).returns)
            except ValueError as error:
                raise self._journal.damaged(
                    f"the result of task {node.id} does not fit what its function returns"
                ) from error
        if result.error is not None:
            node.error = EarlierFailure(result.error)
        node.work, node.clock, node.busy_s = result.work, result.clock, result.busy_s
        now = node.added_at
        node.attempts = ((now, now, None),) * result.attempt
        node.scheduler.finish(node, result.state)

    def _revive_below(self, node: Node, most: float) -> None:
        """Put back the first so many children of a task, and all below them."""
        rows = [row for row in self._children[node.id] if _number(row) <= most]
        for row in rows:  # grows while it is read
            self._revive(row)
            rows += self._children[row.id]

    def _revive(self, row: TaskRow) -> None:
        call = Call(row.name, _gone, (), NO_KEYWORDS)
        node = self._run.structure.create(row.id, self._nodes[row.parent or ""], call)
        try:
            edges = _edges.validate_json(row.edges)
        except ValueError as error:
            raise self._journal.damaged(f"the edges of task {row.id} can't be read") from error
        for edge in edges:
            if edge.source in self._nodes:
                _link(self._nodes[edge.source], node, edge)
            else:
                self._lacking[edge.source].append((node, edge))
        self._link_lacking(node)
        node.scheduler.unfinished += 1
        result = self._results.get(row.id)
        if result is None:  # it was being cancelled with its parent's attempt
            node.scheduler.finish(node, "cancelled")
        else:
            self._end(node, result)
            node.acknowledged = True  # by its parent, which was the one to look

    def _link_lacking(self, source: Node) -> None:
        for node, edge in self._lacking.pop(source.id, ()):
            _link(source, node, edge)


@dataclass(frozen=True, kw_only=True)
class _Edge:
    """An edge as `edges_text` writes it."""

    source: str
    kind: Literal["data", "control"]
    when: Condition


_edges = TypeAdapter(list[_Edge])


def _link(source: Node, node: Node, edge: _Edge) -> None:
    found = Edge(source, node, edge.kind, edge.when)
    found.resolved = True
    found.link()


def _number(row: TaskRow) -> int:
    """The child's ordinal among its parent's children."""
    tail = row.id.rpartition(".")[2]
    return int(tail) if tail.isdecimal() else 0


def _gone() -> Any:
    raise AssertionError("a task of an ended parent does not run again")
