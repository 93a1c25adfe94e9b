"""An append-only record of a run in SQLite, from which a killed run goes on.

Rows are only inserted.  Each process that opens the file takes a new *epoch*; a commit checks, in
its own transaction, that its epoch is still the newest (fencing), so a process that was taken for
dead can't commit late.  A result is keyed by its task and epoch and names its attempt.

Commits are grouped: results queue, and a thread writes all that have come meanwhile in one
transaction.  They are written in the order in which they happened, so a crash loses a tail of the
run and never its middle.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import anyio
import anyio.to_thread

from orchestrator.calls import signature
from orchestrator.errors import InvalidValue, JournalFenced, JournalUnusable, TaskAborted
from orchestrator.journal.codec import dumps, error_to_json, to_json
from orchestrator.journal.fingerprint import fingerprint, function_name
from orchestrator.node import Node
from orchestrator.scheduler.conditions import SUCCESS
from orchestrator.views.record import FINAL, TaskState

if TYPE_CHECKING:
    from orchestrator.editing.patches import Patch

SCHEMA = "orchestrator.journal/5"
PATIENCE_S = 60.0
"""How long another process may hold the file's lock."""
FLUSH_S = 0.05
"""How long a commit may stay in the file's WAL alone, so that a copy without it lacks little."""

_COLUMNS = {
    "about": "schema, graph",
    "epochs": "epoch, opened",
    "closed": "epoch",
    "tasks": "seq, id, parent, name, function, mark, key, edges, donor",
    "attempts": "task, attempt, tasks",
    "spends": "task, field, amount",
    "patches": "version, patch",
    "notes": "note",
    "waits": "name, task, hint, since",
    "completions": "name, form, value, at",
    "bells": "port",
    "results": "task, epoch, attempt, state, value, error, work, clock, busy_s",
}
"""Each table has a checksum of its row besides, and each row is written once.  There is no index:
all rows are read together, in the order in which they were written."""
_PLACES = {
    table: f"({', '.join('?' * (columns.count(',') + 2))})" for table, columns in _COLUMNS.items()
}
AT_ONCE = 50
"""Rows of one statement: for each statement, SQLite lets go of the interpreter's lock once."""
_LARGEST = 2**63 - 1
Row = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A task as it was added.

    Attributes:
        seq: Its place among all tasks, in the order in which they were added.
        id: Its key in the file: its id, with an epoch if an earlier task has that.
        mark: Its fingerprint.
        key: The option ``key``.
        donor: The row of an earlier epoch that it was copied from, or stands for.
    """

    seq: int
    id: str
    parent: str | None
    name: str
    function: str
    mark: str
    key: str | None
    edges: str
    donor: str | None


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """How a task ended; ``value`` and ``error`` are JSON."""

    task: str
    epoch: int
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
        epoch: How often the file was opened, this time included; only the newest may commit.
        run: Names the run that the file records.
        cut_off: Whether the last process was killed, and the file has no ``-wal`` beside it, as
            if it had been copied alone.
    """

    def __init__(self, path: Path, graph: str, *, resume: bool) -> None:
        """Open or make the file.

        Raises:
            JournalUnusable: it is not a journal, is damaged, belongs to another graph, or holds
                a run although ``resume`` is false.
        """
        self.path = path
        self._rows: list[tuple[str, list[Row]]] = []
        """What waits to be written, in order: rows of a table that came one after the other."""
        self._known: set[str] = set()
        self._keys: dict[str, str] = {}
        self._committed: set[str] = set()
        self._values: dict[str, str] = {}
        self._seq = 0
        self._news = anyio.Event()
        self._closed = self._failed = False
        self._unflushed = False
        copied = path.exists() and not Path(f"{path}-wal").exists()
        try:
            self._db = sqlite3.connect(
                path, timeout=PATIENCE_S, check_same_thread=False, isolation_level=None
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self.epoch = self._open(graph, resume)
            self._flush()
            began = self._db.execute("SELECT min(opened) FROM epochs").fetchone()[0]
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error
        self.run = f"{graph}-{began!r}"
        self.cut_off = copied and self.epoch > 1 and self.epoch - 1 not in self._ended_epochs()

    def _open(self, graph: str, resume: bool) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            names = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master")}
            if not names:
                for table, columns in _COLUMNS.items():
                    self._db.execute(f"CREATE TABLE {table} ({columns}, checksum)")
                self._insert("about", [(SCHEMA, graph)])
            elif "about" not in names or "epochs" not in names:
                raise self._unusable("is a database of something else; name another file")
            else:
                self._check(graph, resume)
            epoch: int = self._db.execute(
                "SELECT coalesce(max(epoch), 0) + 1 FROM epochs"
            ).fetchone()[0]
            self._insert("epochs", [(epoch, time.time())])
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

    def _trouble(self, error: Exception) -> JournalUnusable:
        """What to raise for an error of SQLite: what happened, and what to do."""
        return self._unusable(trouble(error))

    # ---- reading -------------------------------------------------------------------------------

    def tasks(self) -> dict[str, TaskRow]:
        """All tasks of earlier epochs by key, in the order in which they were added."""
        names = _COLUMNS["tasks"].split(", ")
        rows = [TaskRow(**dict(zip(names, row, strict=True))) for row in self._read("tasks")]
        rows.sort(key=lambda row: row.seq)
        self._known = {row.id for row in rows}
        self._seq = rows[-1].seq if rows else 0
        return {row.id: row for row in rows}

    def results(self) -> dict[str, ResultRow]:
        """How tasks ended, by key; what the newest epoch says."""
        names = _COLUMNS["results"].split(", ")
        rows = [ResultRow(**dict(zip(names, row, strict=True))) for row in self._read("results")]
        found = {row.task: row for row in sorted(rows, key=lambda row: row.epoch)}
        for row in rows:
            if row.state not in FINAL:
                raise self.damaged(f"the end of task {row.task} can't be read")
        self._committed = set(found)
        return found

    def reopen(self, task: str) -> None:
        """Let a task that has ended commit once more, because it will run again."""
        self._committed.discard(task)

    def attempts(self) -> dict[str, tuple[int, int]]:
        """The last attempt of each task whose children were cancelled with it, and how many
        tasks there were by then.
        """
        return {task: (attempt, tasks) for task, attempt, tasks in self._read("attempts")}

    def spends(self) -> dict[str, dict[str, float]]:
        """What each task has spent of its budgets, by field."""
        found: dict[str, dict[str, float]] = {}
        for task, field, amount in self._read("spends"):
            spent = found.setdefault(task, {})
            spent[field] = spent.get(field, 0) + amount
        return found

    def patches(self) -> list[Patch]:
        """The patches of earlier epochs, in order."""
        from orchestrator.editing.patches import Patch

        try:
            return [Patch.parse(text) for _, text in sorted(self._read("patches"))]
        except InvalidValue as error:
            raise self.damaged("a patch can't be read") from error

    def notes(self) -> list[str]:
        """The texts that `noted` recorded in earlier epochs, in order."""
        return [row[0] for row in self._read("notes")]

    def _ended_epochs(self) -> set[int]:
        return {row[0] for row in self._read("closed")}

    def _read(self, table: str) -> list[Row]:
        try:
            query = f"SELECT {_COLUMNS[table]}, checksum FROM {table} ORDER BY rowid"
            rows = self._db.execute(query).fetchall()
        except sqlite3.Error as error:
            raise self.damaged(str(error)) from error
        for row in rows:
            if _checksum(row[:-1]) != row[-1]:
                raise self.damaged(f"a row of its {table} has changed")
        return [row[:-1] for row in rows]

    def damaged(self, why: str) -> JournalUnusable:
        """The error for a file whose contents can't be true."""
        return self._unusable(f"is damaged ({why}); restore a copy of it, or name another file")

    # ---- writing -------------------------------------------------------------------------------

    def key(self, id: str) -> str:
        """The key of the task with an id."""
        return self._keys.get(id, id)

    def mark(self, node: Node) -> str:
        """The task's fingerprint."""
        return fingerprint(node, self.key)

    def known_as(self, node: Node, key: str) -> None:
        """The task is the one that an earlier epoch noted under a key."""
        if key != node.id:
            self._keys[node.id] = key

    def name(self, node: Node) -> None:
        """Give a new task a key of its own."""
        key = node.id
        while key in self._known:
            key += f"@{self.epoch}"
        self.known_as(node, key)
        self._known.add(key)

    def added(self, node: Node, mark: str, donor: str | None = None) -> None:
        """Record a new task, which has a key."""
        self._seq += 1
        row = (
            self._seq,
            self.key(node.id),
            None if node.parent is None else self.key(node.parent.id),
            node.name,
            function_name(node.function),
            mark,
            node.settings.key,
            self._edges(node),
            donor,
        )
        self._put("tasks", row)

    def _edges(self, node: Node) -> str:
        """A task's edges as JSON: source, kind, and condition."""
        if not node.inbound:
            return "[]"
        keys = self._keys
        texts = [  # by hand: they are many
            f'["{keys.get(e.source.id, e.source.id)}","{e.kind}","success"]'
            for e in node.inbound
            if e.when is SUCCESS
        ]
        if len(texts) == len(node.inbound):
            return f"[{','.join(texts)}]"
        return dumps([(self.key(e.source.id), e.kind, str(e.when)) for e in node.inbound])

    def attempted(self, node: Node, number: int) -> None:
        """Record that an attempt is over, before the children that are cancelled with it end.

        The next attempt has children of its own; their ends must not be mistaken for these.
        """
        self._put("attempts", (self.key(node.id), number, self._seq))

    def spent(self, node: Node, amounts: Mapping[str, float]) -> None:
        """Note what a task has spent, as it spends it: a crash must not forget it."""
        for field, amount in amounts.items():
            if amount:
                self._put("spends", (self.key(node.id), field, _within(amount)))

    def patched(self, version: int, patch: Patch) -> None:
        """Record an applied patch."""
        self._put("patches", (version, patch.model_dump_json()))

    def noted(self, note: str) -> None:
        """Record a text of the program's own, in order with all other rows."""
        self._put("notes", (note,))

    def prepare(self, node: Node) -> None:
        """Write a result that is about to be committed as JSON.

        Raises:
            InvalidValue: that can't be done.
        """
        value = node.value
        if value is None or type(value) is bool:
            self._values[node.id] = _WORDS[value]
            return
        try:
            self._values[node.id] = to_json(value, node.id)
        except InvalidValue:
            hint = signature(node.function).returns
            self._values[node.id] = to_json(value, node.id, hint)

    def carry(self, node: Node, value: str | None) -> None:
        """Let a result of an earlier epoch be committed as this task's."""
        if value is not None:
            self._values[node.id] = value

    def ended(self, node: Node) -> None:
        """Record how a task ended, unless an earlier epoch did."""
        key = self.key(node.id)
        error = node.error
        value = self._values.pop(node.id, None)
        if key in self._committed or (node.state == "failed" and isinstance(error, TaskAborted)):
            return  # who leaves by SystemExit wants to go on later
        row = (
            key,
            self.epoch,
            len(node.attempts),
            node.state,
            value,
            None if error is None else error_to_json(error),
            min(node.work, _LARGEST),
            min(node.clock, _LARGEST),
            node.busy_s,
        )
        self._committed.add(key)
        self._put("results", row)

    def _put(self, table: str, row: Row) -> None:
        groups = self._rows
        if groups and groups[-1][0] == table:
            groups[-1][1].append(row)
            return
        if not groups:
            self._news.set()
        groups.append((table, [row]))

    async def write(self) -> None:
        """Write what comes, in groups, until `close` is called and all is written."""
        while not self._closed or self._rows:
            with anyio.move_on_after(FLUSH_S if self._unflushed else None):
                await self._news.wait()
            if not self._news.is_set():
                await anyio.to_thread.run_sync(self._flush)
                continue
            self._news = anyio.Event()
            rows, self._rows = self._rows, []
            with anyio.CancelScope(shield=True):  # what happened is kept, also when cancelled
                await anyio.to_thread.run_sync(self._commit, rows)

    def close(self) -> None:
        """Let `write` end when all is written."""
        self._closed = True
        self._news.set()

    def abandon(self) -> None:
        """Close the file without what is left to be written."""
        self._rows = []
        self.shut()

    def shut(self) -> None:
        """Write what is left, and close the file."""
        rows = [] if self._failed else self._rows
        told = contextlib.suppress(*[JournalUnusable] * self._failed)  # why, once
        try:
            with told:
                self._commit([*rows, ("closed", [(self.epoch,)])])
        finally:
            self._rows = []
            self._db.close()

    def _commit(self, groups: list[tuple[str, list[Row]]]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                newest = self._db.execute("SELECT max(epoch) FROM epochs").fetchone()[0]
                if newest != self.epoch:
                    raise JournalFenced(
                        f"journal {self.path} was taken over by a later process (epoch {newest}, "
                        f"this is {self.epoch}); nothing more is written; stop this one"
                    )
                for table, rows in groups:
                    self._insert(table, rows)
                self._db.execute("COMMIT")
                self._unflushed = True
            except BaseException:
                self._failed = True
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def _insert(self, table: str, rows: list[Row]) -> None:
        insert, places = f"INSERT INTO {table} VALUES ", _PLACES[table]
        whole = len(rows) - len(rows) % AT_ONCE
        for start in range(0, whole, AT_ONCE):
            some = map(sealed, rows[start : start + AT_ONCE])
            self._db.execute(
                insert + ", ".join([places] * AT_ONCE), list(chain.from_iterable(some))
            )
        self._db.executemany(insert + places, map(sealed, rows[whole:]))

    def _flush(self) -> None:
        """Move what is committed from the WAL into the file itself, if nobody reads it now."""
        self._unflushed = False
        with contextlib.suppress(sqlite3.Error):  # it stays where it is, and is not lost
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")


def sealed(row: Row) -> Row:
    """The row as SQLite can hold it, and its checksum."""
    text = repr(row)
    if not text.isascii() or "\\ud" in text:
        row = tuple(map(_storable, row))
        text = repr(row)
    return (*row, crc32(text.encode()))


def _storable(item: Any) -> Any:
    """A text without lone surrogates; anything else as it is."""
    return item.encode("utf-8", "backslashreplace").decode() if type(item) is str else item


def _within(number: float) -> float:
    """The number, or the nearest that SQLite can hold as a whole one."""
    return max(-_LARGEST, min(number, _LARGEST)) if type(number) is int else number


def _checksum(row: Row) -> int:
    return crc32(repr(row).encode())


def trouble(error: Exception) -> str:
    """What an error of SQLite means for a journal, and what to do."""
    text = str(error)
    for sign, what in _TROUBLES:
        if sign in text:
            return what.format(error=text)
    return f"can't be used ({text}); name another file"


_WORDS = {None: "null", True: "true", False: "false"}
_TROUBLES = (
    (
        "locked",
        "is locked by another process for more than a minute; end that process, and resume",
    ),
    ("full", "can't be written ({error}); free space on its disk, and resume"),
    ("readonly", "can't be written ({error}); make the file and its folder writable, and resume"),
    ("unable to open", "can't be opened ({error}); make its folder, and see who may write there"),
    ("disk I/O", "can't be read or written ({error}); see to its disk, and resume"),
    ("malformed", "is damaged ({error}); restore a copy of it, or name another file"),
    ("not a database", "is damaged, or no journal ({error}); name another file"),
)
