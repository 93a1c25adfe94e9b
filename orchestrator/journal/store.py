"""An append-only record of a run in SQLite, from which a killed run goes on.

Rows are only inserted.  Each process that opens the file takes a new *epoch*; a commit checks, in
its own transaction, that its epoch is still the newest (fencing), so a process that was taken for
dead can't commit late.  A result is keyed by its task and epoch and names its attempt.

Commits are grouped: results queue, and a thread writes all that have come meanwhile in one
transaction, also while a function holds up the event loop.  They are written in the order in which
they happened, so a crash loses a tail of the run and never its middle.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import TaskGroup

from orchestrator.calls import signature
from orchestrator.errors import InvalidValue, JournalFenced, JournalUnusable, TaskAborted
from orchestrator.journal.codec import dumps, error_to_json, to_json
from orchestrator.journal.fingerprint import fingerprint, function_name
from orchestrator.journal.tables import (
    COLUMNS,
    PATIENCE_S,
    PLACES,
    SCHEMA,
    JournalTables,
    ResultRow,
    Row,
    TaskRow,
    sealed,
    trouble,
)
from orchestrator.node import Node
from orchestrator.scheduler.conditions import SUCCESS
from orchestrator.settings import PLAIN

if TYPE_CHECKING:
    from orchestrator.editing.patches import Patch

FLUSH_S = 0.05
"""How long a commit may stay in the file's WAL alone, so that a copy without it lacks little."""

AT_ONCE = 50
"""Rows of one statement: for each statement, SQLite lets go of the interpreter's lock once."""
_LARGEST = 2**63 - 1


class Journal(JournalTables):
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
        self._rows: list[tuple[str, list[Row]]] = []
        """What waits to be written, in order: rows of a table that came one after the other."""
        self._known: set[str] = set()
        self._keys: dict[str, str] = {}
        self._committed: set[str] = set()
        self._values: dict[str, str] = {}
        self._seq = 0
        self._since = time.time() - time.monotonic()
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._closed = self._failed = False
        self._unflushed = False
        copied = path.exists() and not Path(f"{path}-wal").exists()
        try:
            db = sqlite3.connect(
                path, timeout=PATIENCE_S, check_same_thread=False, isolation_level=None
            )
            super().__init__(path, db)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self.epoch = self._open(graph, resume)
            self._flush()
        except (sqlite3.Error, OSError) as error:
            raise JournalUnusable(f"journal {path} {trouble(error)}") from error
        _, self.run = self.about()
        self.cut_off = copied and self.epoch > 1 and self.epoch - 1 not in self._ended_epochs()

    def _open(self, graph: str, resume: bool) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                for table, columns in COLUMNS.items():
                    self._db.execute(f"CREATE TABLE {table} ({columns}, checksum)")
                self._insert("about", [(SCHEMA, graph)])
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
        name, _ = self.about()
        if resume and self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise self.damaged("its pages do not fit together")
        if name != graph:
            raise self._unusable(f"is of graph {name!r}, not {graph!r}; name another file")
        held = "SELECT 1 FROM tasks UNION SELECT 1 FROM notes"
        if not resume and self._db.execute(held).fetchone():
            raise self._unusable(
                "holds a run; go on with it (resume=True, --resume), or name another file"
            )

    # ---- writing -------------------------------------------------------------------------------

    def tasks(self) -> dict[str, TaskRow]:
        """See `JournalTables`; from now on their keys are taken."""
        found = super().tasks()
        self._known = set(found)
        self._seq = max((row.seq for row in found.values()), default=0)
        return found

    def results(self) -> dict[str, ResultRow]:
        """See `JournalTables`; from now on they count as committed."""
        found = super().results()
        self._committed = set(found)
        return found

    def reopen(self, task: str) -> None:
        """Let a task that has ended commit once more, because it will run again."""
        self._committed.discard(task)

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
            "" if node.settings is PLAIN else dumps(node.settings.described()),
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

    def leave(self, task: str) -> None:
        """Record that a task of an earlier epoch is none of this one."""
        self._put("left", (task, self.epoch))

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
        error, ended = node.error, node.ended_at or 0.0
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
            int(node.busy_s * 1e6),  # whole numbers are written faster
            int(((node.attempts[0][0] if node.attempts else ended) + self._since) * 1e6),
            int((ended + self._since) * 1e6),
        )
        self._committed.add(key)
        self._put("results", row)

    def _put(self, table: str, row: Row) -> None:
        with self._lock:
            groups = self._rows
            if groups and groups[-1][0] == table:
                groups[-1][1].append(row)
                return
            groups.append((table, [row]))
            if len(groups) == 1:
                self._news.set()

    async def start(self, group: TaskGroup) -> None:
        """Let a task of the group write what comes, in groups, until `close` was called.

        If that is cancelled, it goes on until then: what happened is kept.  It returns when the
        thread that writes runs, since the first task of a graph may hold up the event loop.
        """
        runs = anyio.Event()
        group.start_soon(self._write_in_thread, runs)
        await runs.wait()

    async def _write_in_thread(self, runs: anyio.Event) -> None:
        limiter = anyio.CapacityLimiter(1)
        await anyio.to_thread.run_sync(self._write, runs, limiter=limiter)

    def _write(self, runs: anyio.Event) -> None:
        anyio.from_thread.run_sync(runs.set)
        while not self._closed or self._rows:
            if not self._news.wait(FLUSH_S if self._unflushed else None):
                self._flush()
                continue
            with self._lock:
                self._news.clear()
                rows, self._rows = self._rows, []
            if rows:
                self._commit(rows)
            elif self._closed:
                return

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
        insert, places = f"INSERT INTO {table} VALUES ", PLACES[table]
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


def _within(number: float) -> float:
    """The number, or the nearest that SQLite can hold as a whole one."""
    return max(-_LARGEST, min(number, _LARGEST)) if type(number) is int else number


_WORDS = {None: "null", True: "true", False: "false"}
