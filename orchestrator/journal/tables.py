"""The tables of a journal's file, and reading them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from orchestrator.errors import InvalidValue, JournalUnusable
from orchestrator.views.record import FINAL, TaskState

if TYPE_CHECKING:
    from orchestrator.editing.patches import Patch

SCHEMA = "orchestrator.journal/5"
PATIENCE_S = 60.0
"""How long another process may hold the file's lock."""
COLUMNS = {
    "about": "schema, graph",
    "epochs": "epoch, opened",
    "closed": "epoch",
    "tasks": "seq, id, parent, name, function, mark, key, edges, donor, options",
    "attempts": "task, attempt, tasks",
    "spends": "task, field, amount",
    "patches": "version, patch",
    "notes": "note",
    "left": "task, epoch",
    "waits": "name, task, hint, since",
    "completions": "name, form, value, at",
    "bells": "port",
    "results": "task, epoch, attempt, state, value, error, work, clock, "
    "busy_us, started_us, ended_us",
}
"""Each table has a checksum of its row besides, and each row is written once.  There is no index:
all rows are read together, in the order in which they were written."""
PLACES = {
    table: f"({', '.join('?' * (columns.count(',') + 2))})" for table, columns in COLUMNS.items()
}
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
        options: Its options as JSON; empty without any.
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
    options: str


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """How a task ended; ``value`` and ``error`` are JSON, times are microseconds since 1970."""

    task: str
    epoch: int
    attempt: int
    state: TaskState
    value: str | None
    error: str | None
    work: int
    clock: int
    busy_us: int
    started_us: int
    ended_us: int


class JournalTables:
    """The rows of a journal's file, read from an open connection."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db

    def about(self) -> tuple[str, str]:
        """The name of the graph, and what names the run.

        Raises:
            JournalUnusable: it is no journal of this version.
        """
        try:
            names = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master")}
            if not {"about", "epochs"} <= names:
                raise self._unusable("is a database of something else; name another file")
            found = self._db.execute("SELECT schema, graph FROM about").fetchone()
            began = self._db.execute("SELECT opened FROM epochs ORDER BY epoch").fetchone()
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        if found is None:
            raise self.damaged("it does not say of which graph it is")
        if found[0] != SCHEMA:
            raise self._unusable(f"has format {found[0]}, not {SCHEMA}; name another file")
        return found[1], f"{found[1]}-{began[0]!r}"

    def _trouble(self, error: Exception) -> JournalUnusable:
        """What to raise for an error of SQLite: what happened, and what to do."""
        return self._unusable(trouble(error))

    def _unusable(self, why: str) -> JournalUnusable:
        return JournalUnusable(f"journal {self.path} {why}")

    def tasks(self) -> dict[str, TaskRow]:
        """All tasks of earlier epochs by key, in the order in which they were added."""
        names = COLUMNS["tasks"].split(", ")
        rows = [TaskRow(**dict(zip(names, row, strict=True))) for row in self._read("tasks")]
        rows.sort(key=lambda row: row.seq)
        return {row.id: row for row in rows}

    def results(self) -> dict[str, ResultRow]:
        """How tasks ended, by key; what the newest epoch says."""
        names = COLUMNS["results"].split(", ")
        rows = [ResultRow(**dict(zip(names, row, strict=True))) for row in self._read("results")]
        found = {row.task: row for row in sorted(rows, key=lambda row: row.epoch)}
        for row in rows:
            if row.state not in FINAL:
                raise self.damaged(f"the end of task {row.task} can't be read")
        return found

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

    def left(self) -> set[str]:
        """Tasks of earlier epochs that the newest did not have any more."""
        newest = max((row[0] for row in self._read("epochs")), default=0)
        return {task for task, epoch in self._read("left") if epoch == newest}

    def _ended_epochs(self) -> set[int]:
        return {row[0] for row in self._read("closed")}

    def _read(self, table: str) -> list[Row]:
        try:
            query = f"SELECT {COLUMNS[table]}, checksum FROM {table} ORDER BY rowid"
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


@contextmanager
def opened(path: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """A journal's file that is there, within one transaction.

    Raises:
        JournalUnusable: it is not there, is no journal, or can't be used.
    """
    if not path.exists():
        raise JournalUnusable(f"journal {path} is not there; name the file of a run")
    wal = Path(f"{path}-wal")
    whole = wal.exists()
    try:
        with contextlib.closing(_connect(path)) as db:
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            JournalTables(path, db).about()
            yield db
            db.execute("COMMIT")
        if whole and not wal.exists():  # nobody else had it open, so SQLite has merged the two
            with contextlib.closing(_connect(path)) as db:
                epoch = db.execute("SELECT max(epoch) FROM epochs").fetchone()
                db.execute("INSERT INTO closed VALUES (?, ?)", sealed(epoch))
    except sqlite3.Error as error:
        raise JournalUnusable(f"journal {path} {trouble(error)}") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)


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


def _checksum(row: Row) -> int:
    return crc32(repr(row).encode())


def trouble(error: Exception) -> str:
    """What an error of SQLite means for a journal, and what to do."""
    text = str(error)
    for sign, what in _TROUBLES:
        if sign in text:
            return what.format(error=text)
    return f"can't be used ({text}); name another file"


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
