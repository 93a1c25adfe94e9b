"""Going on with a run from its journal: what has ended is taken from there, not run again."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from pydantic import TypeAdapter

from orchestrator.calls import signature
from orchestrator.editing.patches import Patch, Remove, apply
from orchestrator.editing.structure import NO_KEYWORDS, Call
from orchestrator.errors import InvalidValue, PatchRefused, told
from orchestrator.journal.codec import from_json
from orchestrator.journal.fingerprint import function_name
from orchestrator.journal.store import Journal
from orchestrator.journal.tables import ResultRow, TaskRow
from orchestrator.node import Edge, Node
from orchestrator.scheduler.conditions import Condition
from orchestrator.views.record import EdgeKind, TaskState

if TYPE_CHECKING:
    from orchestrator.scheduler.run import GraphRun, JournalSettings

ROOTS = ""
"""The pool of tasks that no task has added."""


async def open_journal(run: GraphRun, settings: JournalSettings) -> tuple[Journal, Restored]:
    """Open a run's journal, and bring its graph to where the journal ends.

    Raises:
        JournalUnusable: see `Journal`.
        InvalidValue: the graph is not the one that the journal is of, as far as it must be.
    """
    journal = await anyio.to_thread.run_sync(
        lambda: Journal(settings.path, run.name, resume=bool(settings.resume))
    )
    try:
        if journal.cut_off:
            warnings.warn(
                f"journal {settings.path} has no {settings.path.name}-wal beside it, as if it had "
                "been copied alone: what was written in its last moment may be missing, and then "
                "runs again; copy both files",
                RuntimeWarning,
                stacklevel=2,
            )
        restored = await anyio.to_thread.run_sync(lambda: Restored(run, journal, settings))
        run.notes[:0] = journal.notes()
        restored.replay(journal.patches())
    except BaseException:
        journal.abandon()
        raise
    return journal, restored


class Restored:
    """What an earlier process left: the tasks that there were, and how some of them ended.

    A new task is matched with a row of the same parent: by its ``key=``, else by its fingerprint,
    the first that is not taken.  If nothing matches, its parent or itself has changed; it then
    runs, but its children may be those of the task in whose place it stands, its *donor*.
    Children that an attempt had added which is over come back with their parent, and so do all
    children of a parent that has ended: nobody will add them again.
    """

    def __init__(self, run: GraphRun, journal: Journal, settings: JournalSettings) -> None:
        self._run = run
        self._journal = journal
        self._again: frozenset[TaskState] = frozenset(settings.again)
        self._strict = settings.resume == "strict"
        self._rows = journal.tasks()
        self._results = journal.results()
        self._attempts = journal.attempts()
        self._spends = journal.spends()
        self._copied = copied = {row.donor for row in self._rows.values()}
        self._children: dict[str, list[TaskRow]] = defaultdict(list)
        """The rows of each pool: the children of a row, or the roots."""
        for row in self._rows.values():
            if row.parent is not None and row.parent not in self._rows:
                raise journal.damaged(f"there is no task {row.parent}, the parent of {row.id}")
            if row.id not in copied:
                self._children[row.parent or ROOTS].append(row)
        self._index: dict[tuple[str, str], list[TaskRow]] = defaultdict(list)
        """What is not taken, by its pool and its key or fingerprint."""
        for pool in list(self._children):
            for row in self._open(pool):
                self._index[pool, _name(row.key, row.mark)].append(row)
        self._row_of: dict[str, TaskRow] = {}
        """The row that a task was matched with, by id; and the other way round."""
        self._node_of: dict[str, Node] = {}
        self._pools: dict[str, list[str]] = {ROOTS: [ROOTS]}
        """Where the children of a task are looked for, by its id."""
        self._changed: set[str] = set()
        self._kept: set[str] = set()
        """Those that have the end that they had; what takes from others runs again."""
        self._new: dict[str, list[Node]] = defaultdict(list)
        self._lacking: dict[str, list[tuple[Node, _Edge]]] = defaultdict(list)
        """Edges of tasks that were put back, by the source that was not yet."""

    # ---- the graph as it was -------------------------------------------------------------------

    def replay(self, patches: list[Patch]) -> None:
        """Match the tasks that are there, edit the graph as it was edited, then end what had ended.

        Raises:
            InvalidValue: the edits do not fit, or a strict resume finds a difference.
        """
        nodes = self._run.structure.nodes
        removed = {op.id for patch in patches for op in patch.ops if isinstance(op, Remove)}
        self._match_roots(list(nodes.values()))
        if patches:
            self._refuse_moved(list(nodes.values()))
        for patch in patches:
            before = set(nodes)
            try:
                apply(self._run, patch.model_copy(update={"base": None, "expect": ()}))
            except PatchRefused as error:
                raise InvalidValue(
                    f"the journal's edits do not fit this graph ({error.conflicts[0].reason}); "
                    "build the same graph to resume, or name another file"
                ) from error
            self._match_roots([node for id, node in nodes.items() if id not in before])
        if self._strict:
            self.refuse_difference(removed)
        for node in sorted(nodes.values(), key=lambda node: node.rank):
            self.restore(node)
            if node.ended:  # before the run began, for one
                self._journal.ended(node)

    def _match_roots(self, nodes: list[Node]) -> None:
        if not self._rows and not self._strict:
            for node in nodes:
                self.admit(node)
            return
        unmatched = []  # what can be matched is, before anything stands for what is left
        for node in nodes:
            mark = self._journal.mark(node)
            if not self._match(node, mark):
                self._journal.name(node)
                unmatched.append((node, mark))
        for node, mark in unmatched:
            self._note(node, mark)

    def _refuse_moved(self, nodes: list[Node]) -> None:
        """Refuse edits, which name tasks by id, of a graph whose ids are others."""
        for node in nodes:
            row = self._row_of.get(node.id)
            if row is None or row.id != node.id:
                raise InvalidValue(
                    f"the journal's edits do not fit this graph (task {node.id} is "
                    f"{node.name}, and was another); build the same graph to resume, or name "
                    "another file"
                )

    def refuse_difference(self, removed: set[str] | None = None) -> None:
        """Refuse what the journal has and the program has not, or the other way round.

        Raises:
            InvalidValue: a strict resume has found a difference.
        """
        if not self._strict:
            return
        kept = {row.id for row in self._row_of.values()} | (removed or set())
        for id, nodes in self._new.items():
            if id in self._changed:
                continue
            gone = [row for row in self._open(self._pools[id][0]) if row.id not in kept]
            if gone or id == ROOTS:
                was = ", ".join(f"{row.id} ({row.name})" for row in gone) or "no other"
                now = nodes[0]
                raise InvalidValue(
                    f"task {now.id} ({now.name}, {function_name(now.function)}, arguments "
                    f"{told(now.args, 200)}) is not in the journal, which has {was}; build the "
                    "same graph to resume, or give resume=True to run what has changed"
                )
        left = [row for row in self._open(ROOTS) if row.id not in kept]
        if left:
            raise InvalidValue(
                f"the journal has task {left[0].id} ({left[0].name}), the graph has not; "
                "build the same graph to resume, or give resume=True to go on without it"
            )

    def leave_unmatched(self) -> None:
        """Record which tasks the run had before, and has not any more."""
        kept = {row.id for row in self._row_of.values()}
        for row in self._rows.values():
            if row.id not in kept and row.id not in self._copied:
                self._journal.leave(row.id)

    def _open(self, pool: str) -> list[TaskRow]:
        """The rows of a pool, without those of attempts that are over."""
        over = self._attempts.get(pool, (0, 0))[1]
        return [row for row in self._children[pool] if row.seq > over]

    # ---- a task that was added -----------------------------------------------------------------

    def admit(self, node: Node) -> None:
        """Find the row of a new task, or note the task as new."""
        mark = self._journal.mark(node)
        if not self._rows:
            self._journal.name(node)
            self._journal.added(node, mark)
        elif not self._match(node, mark):
            self._journal.name(node)
            self._note(node, mark)

    def _match(self, node: Node, mark: str) -> bool:
        parent = ROOTS if node.parent is None else node.parent.id
        for pool in self._pools.get(parent, ()):
            rows = self._index.get((pool, _name(node.settings.key, mark)))
            if rows:
                row = next((row for row in rows if row.name == node.name), rows[0])
                rows.remove(row)
                self._take(node, row, mark)
                return True
        return False

    def _take(self, node: Node, row: TaskRow, mark: str) -> None:
        self._row_of[node.id] = row
        self._node_of[row.id] = node
        self._pools[node.id] = [row.id] if row.donor is None else [row.id, row.donor]
        own = node.parent is None or row.parent == self._journal.key(node.parent.id)
        if own and row.mark == mark:
            self._journal.known_as(node, row.id)
        else:  # it stands elsewhere now, or its key has other arguments
            self._journal.name(node)
            self._journal.added(node, mark, row.id)
        if row.mark != mark:
            self._changed.add(node.id)

    def _donor(self, node: Node) -> TaskRow | None:
        """The row in whose place a changed task stands; None if it is new."""
        parent = ROOTS if node.parent is None else node.parent.id
        if node.parent is not None and parent not in self._changed:
            return None
        name = function_name(node.function)
        for pool in self._pools.get(parent, ()):
            for row in self._open(pool):
                same = row.function == name and row.key == node.settings.key
                if same and row.id not in self._node_of:
                    return row
        return None

    def _note(self, node: Node, mark: str) -> None:
        donor = self._donor(node)
        self._new[ROOTS if node.parent is None else node.parent.id].append(node)
        self._changed.add(node.id)
        self._journal.added(node, mark, None if donor is None else donor.id)
        if donor is not None:
            self._node_of[donor.id] = node
            self._pools[node.id] = [donor.id]
            self._charge(node, donor)

    def restore(self, node: Node) -> None:
        """Give a task that was added again the end that it had, if it had one and may keep it."""
        row = self._row_of.get(node.id)
        if row is None:
            return
        self._charge(node, row)
        self._link_lacking(row.id, node)
        result = self._results.get(row.id)
        if result is None:
            if node.id not in self._changed:
                self._go_on(node, row)
        elif node.ended or not self._valid(node, result) or not self._end(node, row, result):
            self._journal.reopen(self._journal.key(node.id))
        else:
            self._revive_below(node, row, ended=True)

    def _valid(self, node: Node, result: ResultRow) -> bool:
        """Whether a result still holds: nothing that it came from has changed or runs again."""
        if result.state in self._again or result.state == "skipped" or node.id in self._changed:
            return False  # what is skipped follows from others
        return all(self._unchanged(edge.source) for edge in node.inbound)

    def _unchanged(self, source: Node) -> bool:
        row = self._row_of.get(source.id)
        return source.id in self._kept or (row is not None and row.id not in self._results)

    def _charge(self, node: Node, row: TaskRow | None) -> None:
        """Count what was spent in earlier processes."""
        while row is not None and node.budget is not None:
            node.budget.restore(self._spends.get(row.id, {}))
            row = self._rows.get(row.donor or "")

    def _go_on(self, node: Node, row: TaskRow) -> None:
        """Let a task that had not ended count its attempts and children from where it was."""
        attempt = self._attempts.get(row.id, (0, 0))[0]
        node.attempts = ((node.added_at, node.added_at, None),) * attempt
        self._revive_below(node, row, ended=False)

    def _end(self, node: Node, row: TaskRow, result: ResultRow) -> bool:
        """End a task as it had ended; false if its value can't be made again."""
        try:
            if result.value is not None:
                gone = isinstance(node.function, Gone)
                hint = None if gone else signature(node.function).returns
                node.value = from_json(result.value, hint)
            if result.error is not None:
                node.error = from_json(result.error)
        except ValueError:
            return False
        self._journal.carry(node, result.value)
        self._kept.add(node.id)
        node.work, node.clock, node.busy_s = result.work, result.clock, result.busy_us / 1e6
        now = node.added_at
        node.attempts = ((now, now, None),) * result.attempt
        node.scheduler.finish(node, result.state)
        self._journal.ended(node)
        return True

    # ---- children that nobody will add again ---------------------------------------------------

    def _revive_below(self, node: Node, row: TaskRow, *, ended: bool) -> None:
        """Put back the children of a task, and all below them: all, or those of past attempts."""
        over = self._attempts.get(row.id, (0, 0))[1]
        stack = [(node, child) for child in self._children[row.id] if ended or child.seq <= over]
        for parent, child in stack:  # grows while it is read
            revived = self._revive(parent, child)
            stack += [(revived, below) for below in self._children[child.id]]

    def _revive(self, parent: Node, row: TaskRow) -> Node:
        parent.spawned += 1
        call = Call(row.name, Gone(row), (), NO_KEYWORDS)
        node = self._run.structure.create(f"{parent.id}.{parent.spawned}", parent, call)
        self._row_of[node.id], self._node_of[row.id] = row, node
        if row.parent == self._journal.key(parent.id):
            self._journal.known_as(node, row.id)
        else:
            self._journal.name(node)
            self._journal.added(node, row.mark, row.id)
        try:
            edges = _edges.validate_json(row.edges)
        except ValueError as error:
            raise self._journal.damaged(f"the edges of task {row.id} can't be read") from error
        for edge in edges:
            if edge[0] in self._node_of:
                _link(self._node_of[edge[0]], node, edge)
            else:
                self._lacking[edge[0]].append((node, edge))
        self._link_lacking(row.id, node)
        node.scheduler.unfinished += 1
        self._charge(node, row)
        result = self._results.get(row.id)
        if result is None or not self._end(node, row, result):  # cancelled with its parent
            node.scheduler.finish(node, "cancelled")
        node.acknowledged = True  # by its parent, which was the one to look
        return node

    def _link_lacking(self, key: str, source: Node) -> None:
        for node, edge in self._lacking.pop(key, ()):
            _link(source, node, edge)


_Edge = tuple[str, EdgeKind, Condition]
_edges = TypeAdapter(list[_Edge])


def _link(source: Node, node: Node, edge: _Edge) -> None:
    found = Edge(source, node, "data" if edge[1] == "data" else "control", edge[2])
    found.resolved = True
    found.link()


def _name(key: str | None, mark: str) -> str:
    return mark if key is None else f"key {key}"


@dataclass(frozen=True)
class Gone:
    """Stands for the function of a task that was put back with its end, and does not run again."""

    row: TaskRow

    def __call__(self) -> Any:
        """Never called."""
        raise AssertionError("a task of an ended parent does not run again")
