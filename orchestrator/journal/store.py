"""An append-only record of a run in SQLite, from which a killed run goes on.

Rows are only inserted.  Each process that opens the file takes a new *epoch*; a commit checks, in
its own transaction, that its epoch is still the newest (fencing), so a process that was taken for
dead can't commit late.  A result is keyed by its task and epoch and names its attempt.

Commits are grouped: results queue, and a thread writes all that have come meanwhile in one
transaction.  They are written in the order in which they happened, so a crash loses a tail of the
run and never its middle.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from orchestrator.errors import InvalidValue, JournalFenced, JournalUnusable
from orchestrator.journal.codec import to_json
from orchestrator.node import Node
from orchestrator.views.record import FINAL, TaskState

if TYPE_CHECKING:
    from orchestrator.editing.patches import Patch

SCHEMA = "orchestrator.journal/3"

_TABLES = """
CREATE TABLE about (schema TEXT NOT NULL, graph TEXT NOT NULL);
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, opened REAL NOT NULL);
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, parent TEXT, name TEXT NOT NULL,
    function TEXT NOT NULL, edges TEXT NOT NULL);
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY, task TEXT NOT NULL, attempt INTEGER NOT NULL,
    spawned INTEGER NOT NULL);
CREATE TABLE patches (version INTEGER PRIMARY KEY, patch TEXT NOT NULL);
CREATE TABLE notes (seq INTEGER PRIMARY KEY, note TEXT NOT NULL);
CREATE TABLE results (
    task TEXT NOT NULL, epoch INTEGER NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL,
    value TEXT, error TEXT, work INTEGER NOT NULL, clock INTEGER NOT NULL, busy_s REAL NOT NULL,
    PRIMARY KEY (task, epoch)) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A task as it was added."""

    id: str
    parent: str | None
    name: str
    function: str
    edges: str


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """How a task ended; ``value`` is JSON."""

    task: str
    attempt: int
    state: TaskState
    value: str | None
    error: str | None
    work: int
    clock: int
    busy_s: float


class Journal:
    """One journal file, open for one process.

    Attributes:
        epoch: This process's turn at the file, from 1.
        run: Names the run that the file records.
    """

    def __init__(self, path: Path, graph: str, *, resume: bool) -> None:
        """Open or make the file.

        Raises:
            JournalUnusable: it is not a journal, is damaged, belongs to another graph, or holds
                a run although ``resume`` is false.
        """
        self.path = path
        self._rows: list[tuple[str, tuple[Any, ...]]] = []
        self._known: set[str] = set()
        self._committed: set[str] = set()
        self._texts: dict[str, str] = {}
        self._news = anyio.Event()
        self._closed = False
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self.epoch = self._open(graph, resume)
            began = self._db.execute("SELECT min(opened) FROM epochs").fetchone()[0]
            self.run = f"{graph}-{began!r}"
        except (sqlite3.Error, OSError) as error:
            raise JournalUnusable(
                f"journal {path} can't be used ({error}); name another file, or delete it"
            ) from error

    def _open(self, graph: str, resume: bool) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            names = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master")}
            if not names:
                for statement in _TABLES.split(";"):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO about VALUES (?, ?)", (SCHEMA, graph))
            elif "about" not in names or "epochs" not in names:
                raise self._unusable("is a database of something else; name another file")
            else:
                self._check(graph, resume)
            epoch: int = self._db.execute(
                "SELECT coalesce(max(epoch), 0) + 1 FROM epochs"
            ).fetchone()[0]
            self._db.execute("INSERT INTO epochs VALUES (?, ?)", (epoch, time.time()))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.close()
            raise
        return epoch

    def _check(self, graph: str, resume: bool) -> None:
        about = self._db.execute("SELECT schema, graph FROM about").fetchone()
        if about is None:
            raise self.damaged("it does not say of which graph it is")
        if resume and self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise self.damaged("its pages do not fit together")
        schema, name = about
        if schema != SCHEMA:
            raise self._unusable(f"has format {schema}, not {SCHEMA}; name another file")
        if name != graph:
            raise self._unusable(f"is of graph {name!r}, not {graph!r}; name another file")
        held = "SELECT 1 FROM tasks UNION SELECT 1 FROM notes"
        if not resume and self._db.execute(held).fetchone():
            raise self._unusable(
                "holds a run; go on with it (resume=True, --resume), or name another file"
            )

    def _unusable(self, why: str) -> JournalUnusable:
        return JournalUnusable(f"journal {self.path} {why}")

    # ---- reading -------------------------------------------------------------------------------

    def tasks(self) -> dict[str, TaskRow]:
        """All tasks of earlier epochs by id, in the order in which they were added."""
        query = "SELECT id, parent, name, function, edges FROM tasks ORDER BY seq"
        rows = {
            id: TaskRow(id=id, parent=parent, name=name, function=function, edges=edges)
            for id, parent, name, function, edges in self._read(query)
        }
        self._known = set(rows)
        return rows

    def results(self) -> dict[str, ResultRow]:
        """How tasks ended, by id."""
        query = (
            "SELECT task, attempt, state, value, error, work, clock, busy_s FROM results "
            "ORDER BY epoch"
        )
        found = {}
        for task, attempt, state, value, error, work, clock, busy_s in self._read(query):
            found[task] = ResultRow(
                task=task,
                attempt=attempt,
                state=state,
                value=value,
                error=error,
                work=work,
                clock=clock,
                busy_s=busy_s,
            )
            numbers = all(isinstance(n, (int, float)) for n in (attempt, work, clock, busy_s))
            if state not in FINAL or not numbers:
                raise self.damaged(f"the end of task {task} can't be read")
        self._committed = set(found)
        return found

    def reopen(self, task: str) -> None:
        """Let a task that has ended commit anew, because it will run again."""
        self._committed.discard(task)

    def attempts(self) -> dict[str, tuple[int, int]]:
        """The last attempt of each task whose children were cancelled with it, and how many
        children the task had added by then.
        """
        query = "SELECT task, attempt, spawned FROM attempts ORDER BY seq"
        return {task: (attempt, spawned) for task, attempt, spawned in self._read(query)}

    def patches(self) -> list[Patch]:
        """The patches of earlier epochs, in order."""
        from orchestrator.editing.patches import Patch

        texts = [row[0] for row in self._read("SELECT patch FROM patches ORDER BY version")]
        try:
            return [Patch.parse(text) for text in texts]
        except InvalidValue as error:
            raise self.damaged("a patch can't be read") from error

    def notes(self) -> list[str]:
        """What was noted in earlier epochs, in order."""
        return [row[0] for row in self._read("SELECT note FROM notes ORDER BY seq")]

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query).fetchall()
        except sqlite3.Error as error:
            raise self.damaged(str(error)) from error

    def damaged(self, why: str) -> JournalUnusable:
        """What to raise for a file that says what can't be."""
        return self._unusable(f"is damaged ({why}); name another file")

    # ---- writing -------------------------------------------------------------------------------

    def added(self, node: Node) -> None:
        """Note a new task; one known from an earlier epoch is noted already."""
        if node.id not in self._known:
            self._known.add(node.id)
            parent = None if node.parent is None else node.parent.id
            row = (node.id, parent, node.name, function_name(node), edges_text(node))
            self._put("INSERT INTO tasks VALUES (NULL, ?, ?, ?, ?, ?)", row)

    def attempted(self, node: Node, number: int) -> None:
        """Note that an attempt is over and its children go with it, before any of them ends.

        A later process must not take their ends for those of the children of its own attempt.
        """
        self._put("INSERT INTO attempts VALUES (NULL, ?, ?, ?)", (node.id, number, node.spawned))

    def patched(self, version: int, patch: Patch) -> None:
        """Note an applied patch."""
        self._put("INSERT INTO patches VALUES (?, ?)", (version, patch.model_dump_json()))

    def noted(self, note: str) -> None:
        """Keep a text, in order with what else happens."""
        self._put("INSERT INTO notes VALUES (NULL, ?)", (note,))

    def prepare(self, node: Node) -> None:
        """Write a result that is about to be committed as JSON.

        Raises:
            InvalidValue: that can't be done.
        """
        self._texts[node.id] = to_json(node.value, node.id)

    def ended(self, node: Node) -> None:
        """Note how a task ended, unless an earlier epoch has."""
        if node.id in self._committed:
            return
        row = (
            node.id,
            self.epoch,
            len(node.attempts),
            node.state,
            self._texts.pop(node.id, None),
            node.error_line,
            node.work,
            node.clock,
            node.busy_s,
        )
        self._put("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _put(self, statement: str, row: tuple[Any, ...]) -> None:
        self._rows.append((statement, row))
        if not self._news.is_set():
            self._news.set()

    async def write(self) -> None:
        """Write what comes, in groups, until `close` is called and all is written."""
        while not self._closed or self._rows:
            await self._news.wait()
            self._news = anyio.Event()
            rows, self._rows = self._rows, []
            with anyio.CancelScope(shield=True):  # what happened is kept, also when cancelled
                await anyio.to_thread.run_sync(self._commit, rows)

    def close(self) -> None:
        """Let `write` end when all is written."""
        self._closed = True
        self._news.set()

    def shut(self) -> None:
        """Write what is left, and close the file."""
        try:
            self._commit(self._rows)
        finally:
            self._rows = []
            self._db.close()

    def _commit(self, rows: list[tuple[str, tuple[Any, ...]]]) -> None:
        if not rows:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                newest = self._db.execute("SELECT max(epoch) FROM epochs").fetchone()[0]
                if newest != self.epoch:
                    raise JournalFenced(
                        f"journal {self.path} was taken over by a later process (epoch {newest}, "
                        f"this is {self.epoch}); nothing more is written; stop this one"
                    )
                for statement, group in _runs(rows):
                    self._db.executemany(statement, group)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise JournalUnusable(
                f"journal {self.path} can't be written ({error}); free space or name another file"
            ) from error


def _runs(rows: list[tuple[str, tuple[Any, ...]]]) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
    """Neighbours with the same statement together; their order is kept."""
    start = 0
    for index in range(1, len(rows) + 1):
        if index == len(rows) or rows[index][0] is not rows[start][0]:
            yield rows[start][0], [row for _, row in rows[start:index]]
            start = index


def function_name(node: Node) -> str:
    """The name under which a task's function is recognised again."""
    function = node.function
    module = getattr(function, "__module__", "")
    return f"{module}:{getattr(function, '__qualname__', type(function).__name__)}"


def edges_text(node: Node) -> str:
    """A task's edges as JSON: source, kind, and condition."""
    edges: list[Mapping[str, str]] = [
        {"source": edge.source.id, "kind": edge.kind, "when": str(edge.when)}
        for edge in node.inbound
    ]
    return json.dumps(edges)
