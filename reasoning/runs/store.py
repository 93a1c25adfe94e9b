"""Where runs are kept: a file of SQLite in the user's folder, which forgets the oldest first."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import InvalidValue, UnknownName
from reasoning.runs.record import RecordedRun

MOST_MB = 256
PATIENCE_S = 5.0
"""How long another process may hold the file."""
NEWEST = "last"

_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, began REAL, command TEXT, question TEXT, answer TEXT, verified INTEGER,
    status TEXT, strategy TEXT, model TEXT, branches INTEGER, tokens INTEGER, wall_s REAL,
    size INTEGER, run BLOB);
CREATE INDEX IF NOT EXISTS by_time ON runs (began);
"""
_LISTED = "id, began, command, question, answer, verified, status, strategy, model, branches, tokens, wall_s, size"  # noqa: E501


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """What a list shows of a run.

    Attributes:
        began: In seconds since 1970.
        tokens: Given and generated.
        size: Bytes that it takes in the file.
    """

    id: str
    began: float
    command: str
    question: str
    answer: str | None
    verified: bool | None
    status: str
    strategy: str
    model: str
    branches: int
    tokens: int
    wall_s: float
    size: int


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs are meant; what is None does not matter.

    Attributes:
        words: Each stands in the question, an answer or what a branch wrote, in whatever case.
        since: In seconds since 1970; ``before`` as well.
    """

    words: tuple[str, ...] = ()
    strategy: str | None = None
    model: str | None = None
    command: str | None = None
    verified: bool | None = None
    since: float | None = None
    before: float | None = None


class RunStore:
    """The runs of a file, which is made when the first is kept."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_MB << 20) -> None:
        """``most_bytes`` is what all runs may take; beyond it, the oldest are forgotten."""
        self.path = path
        self.most_bytes = most_bytes

    def add(self, run: RecordedRun) -> None:
        """Keep a run, in place of its record so far; forget the oldest that have no room beside it.

        Raises:
            InvalidValue: it is larger than all may be, or the file can't be written.
        """
        packed = zlib.compress(run.to_json().encode())
        if len(packed) > self.most_bytes:
            raise InvalidValue(
                f"it takes {len(packed) / 2**20:.1f} MiB, and all runs together may take "
                f"{self.most_bytes / 2**20:.0f}; raise --keep-mb"
            )
        report = run.report
        row = {
            "id": run.id,
            "began": run.began,
            "command": run.command,
            "question": report.problem,
            "answer": report.answer,
            "verified": report.verified,
            "status": run.status,
            "strategy": report.strategy,
            "model": report.model,
            "branches": len(report.threads),
            "tokens": report.usage.work_tokens,
            "wall_s": report.wall_s,
            "size": len(packed),
            "run": packed,
        }
        with self._open(makes=True) as db, db:
            places = ", ".join(f":{name}" for name in row)
            db.execute(f"INSERT OR REPLACE INTO runs ({', '.join(row)}) VALUES ({places})", row)
            self._trim(db, self.most_bytes)

    def lines(self, which: RunFilter | None = None, most: int | None = None) -> list[RunLine]:
        """The newest runs first.

        Raises:
            InvalidValue: the file can't be read.
        """
        which = which or RunFilter()
        found: list[RunLine] = []
        with self._open() as db:
            where, values = _where(which)
            packed = ", run" if which.words else ""
            rows = db.execute(
                f"SELECT {_LISTED}{packed} FROM runs {where} ORDER BY began DESC, id", values
            )
            for row in rows:
                if most is not None and len(found) == most:
                    break
                if not which.words or _has(row["run"], which.words):
                    found.append(_line(row))
        return found

    def find(self, id: str) -> RecordedRun:
        """The run whose id begins so, or with ``last`` the newest.

        Raises:
            UnknownName: there is none, or several.
            InvalidValue: the file can't be read.
        """
        with self._open() as db:
            if id == NEWEST:
                rows = db.execute("SELECT id, run FROM runs ORDER BY began DESC LIMIT 1").fetchall()
            else:
                begin = id.lower()
                rows = db.execute(
                    "SELECT id, run FROM runs WHERE substr(id, 1, ?) = ? LIMIT 3",
                    (len(begin), begin),
                ).fetchall()
        if len(rows) > 1:
            raise UnknownName(f"run {id!r} is the beginning of several; write more of its id")
        if not rows:
            raise UnknownName(f"run {id!r} is not kept; reason runs lists those that are")
        return RecordedRun.from_json(_unpacked(rows[0]["run"]))

    def prune(self, which: RunFilter | None, *, most_bytes: int | None = None) -> int:
        """Forget the runs that are meant, and the oldest beyond so many bytes; returns how many.

        Raises:
            InvalidValue: the file can't be written.
        """
        ids = [] if which is None else [(line.id,) for line in self.lines(which)]
        with self._open() as db:
            before = db.execute("SELECT count(*) FROM runs").fetchone()[0]
            with db:
                db.executemany("DELETE FROM runs WHERE id = ?", ids)
                if most_bytes is not None:
                    self._trim(db, most_bytes)
            after: int = db.execute("SELECT count(*) FROM runs").fetchone()[0]
            db.execute("VACUUM")
        return int(before) - after

    def _trim(self, db: sqlite3.Connection, most: int) -> None:
        """Forget the oldest runs beyond ``most`` bytes."""
        db.execute(
            "DELETE FROM runs WHERE id IN (SELECT id FROM (SELECT id, sum(size) OVER "
            "(ORDER BY began DESC, id ROWS UNBOUNDED PRECEDING) AS total FROM runs) "
            "WHERE total > ?)",
            (most,),
        )

    @contextmanager
    def _open(self, *, makes: bool = False) -> Iterator[sqlite3.Connection]:
        """The file, which only its user may read; without ``makes`` an empty one if it is missing.

        Raises:
            InvalidValue: it can't be used.
        """
        try:
            if makes:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            place = self.path if self.path.exists() else ":memory:"
            with closing(sqlite3.connect(place, timeout=PATIENCE_S)) as db:
                db.row_factory = sqlite3.Row
                db.executescript(_TABLE)
                yield db
        except (sqlite3.Error, OSError) as error:
            raise InvalidValue(
                f"runs: {self.path} can't be used ({error}); mend it, or move it away"
            ) from error


def _where(which: RunFilter) -> tuple[str, dict[str, Any]]:
    """The condition of a filter, its words aside."""
    tests = {
        "strategy": "strategy = :strategy",
        "model": "instr(lower(model), lower(:model)) > 0",
        "command": "command = :command",
        "verified": "verified IS :verified",
        "since": "began >= :since",
        "before": "began < :before",
    }
    values = {name: getattr(which, name) for name in tests}
    given = [test for name, test in tests.items() if values[name] is not None]
    return (f"WHERE {' AND '.join(given)}" if given else ""), values


def _line(row: sqlite3.Row) -> RunLine:
    values = {name: row[name] for name in RunLine.__dataclass_fields__}
    verified = values["verified"]
    return RunLine(**{**values, "verified": None if verified is None else bool(verified)})


def _has(packed: bytes, words: tuple[str, ...]) -> bool:
    """Whether each of the words stands in the question, an answer or a branch."""
    report = json.loads(_unpacked(packed))["report"]
    texts = [report["problem"], report["answer"] or ""]
    texts += [one[part] or "" for one in report["threads"] for part in ("name", "text", "answer")]
    all_of_it = "\0".join(texts).casefold()
    return all(word.casefold() in all_of_it for word in words)


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompress(packed)
    except zlib.error as error:
        raise InvalidValue(
            f"the run is damaged ({error}); forget it by reason runs prune"
        ) from error
