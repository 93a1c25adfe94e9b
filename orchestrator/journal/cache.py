"""Results by function and arguments, kept for other tasks, runs and processes."""

from __future__ import annotations

import copy
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import anyio.to_thread

from orchestrator.calls import signature
from orchestrator.errors import InvalidValue, told
from orchestrator.journal.codec import from_json, to_json
from orchestrator.journal.fingerprint import call_print
from orchestrator.node import Node
from orchestrator.options import check_kind
from orchestrator.waiting.wakeup import Wakeup

PATIENCE_S = 60.0
"""How long another process may hold the file's lock."""
SCHEMA = "orchestrator.cache/1"


class ResultCache:
    """Keeps the results of tasks by what they call, in memory or in an SQLite file::

        cache = ResultCache("answers.db", seconds=86_400)
        graph.add(ask, "why?", cache=cache)

    A task is known by what a journal knows it by: its function's module, name and code (or
    ``version=``), and its arguments, those included that come from other tasks.  Equal tasks that
    run at the same time run once.  Errors are not kept.  In a file, values are kept as a journal
    keeps them; in memory, as copies.

    Attributes:
        hits: How often a result was found.
        misses: How often it was not.
    """

    def __init__(self, path: str | Path | None = None, *, seconds: float | None = None) -> None:
        """Make a cache; ``seconds`` is how long a result counts, for ever by default.

        Raises:
            InvalidValue: the file can't be used.
        """
        check_kind("cache", "path", path, (str, os.PathLike, type(None)), "a path")
        check_kind("cache", "seconds", seconds, (int, float, type(None)), "a number of seconds")
        self.hits = self.misses = 0
        self._seconds = seconds
        self._lock = threading.Lock()
        self._memory: dict[str, tuple[float, Any]] = {}
        self._running: dict[str, list[Wakeup]] = {}
        self._path = None if path is None else Path(path)
        self._db = None if path is None else self._open(Path(path))

    def __repr__(self) -> str:
        return f"ResultCache({'' if self._path is None else repr(str(self._path))})"

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(
                path, timeout=PATIENCE_S, check_same_thread=False, isolation_level=None
            )
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("CREATE TABLE IF NOT EXISTS results (key PRIMARY KEY, value, at)")
            db.execute("SELECT key, value, at FROM results LIMIT 1")
        except sqlite3.Error as error:
            raise self._unusable(path, error) from error
        return db

    def _unusable(self, path: Path | None, error: Exception) -> InvalidValue:
        return InvalidValue(
            f"cache {path} can't be used ({error}); see to its disk, or name another file"
        )

    async def value(
        self,
        node: Node,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        call: Callable[[], Awaitable[Any]],
    ) -> Any:
        """The result that is kept for these arguments; else that of the call, which is then kept.

        Raises:
            InvalidValue: the result can't be kept.
        """
        key = call_print(node.function, node.settings.version, args, kwargs)
        here = f"{threading.get_ident()} {key}"
        while here in self._running:  # an equal task of this event loop is at it
            waiting = Wakeup(node.graph)
            self._running[here].append(waiting)
            await waiting.wait(timed=True)
        self._running[here] = []
        try:
            found = await self._get(node, key)
            if found is not _NONE:
                self.hits += 1
                node.cached = True
                return found
            self.misses += 1
            value = await call()
            await self._put(node, key, value)
            return value
        finally:
            for waiting in self._running.pop(here):
                waiting.set()

    async def _get(self, node: Node, key: str) -> Any:
        if self._db is None:
            kept = self._memory.get(key)
            return _NONE if kept is None or not self._counts(kept[0]) else copy.deepcopy(kept[1])
        row = await anyio.to_thread.run_sync(self._read, key)
        if row is None or not self._counts(row[1]):
            return _NONE
        try:
            return from_json(row[0], signature(node.function).returns)
        except ValueError:  # its class has changed
            return _NONE

    async def _put(self, node: Node, key: str, value: Any) -> None:
        if self._db is not None:
            text = to_json(value, node.id, signature(node.function).returns, "cached")
            await anyio.to_thread.run_sync(self._write, key, text)
            return
        try:
            self._memory[key] = (time.time(), copy.deepcopy(value))
        except Exception as error:
            raise InvalidValue(
                f"the result of {node.label} can't be cached ({told(error, 200)}); "
                "return what can be copied, or leave out cache="
            ) from error

    def _counts(self, at: float) -> bool:
        return self._seconds is None or time.time() - at < self._seconds

    def _read(self, key: str) -> Any:
        assert self._db is not None
        with self._lock:
            query = "SELECT value, at FROM results WHERE key = ?"
            return self._execute(query, key).fetchone()

    def _write(self, key: str, text: str) -> None:
        with self._lock:
            self._execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", key, text, time.time())

    def _execute(self, query: str, *values: Any) -> sqlite3.Cursor:
        assert self._db is not None
        try:
            return self._db.execute(query, values)
        except (sqlite3.Error, UnicodeError) as error:
            raise self._unusable(self._path, error) from error


def cache_of(given: object) -> ResultCache:
    """The cache that an option means: itself, or the one of a file.

    Raises:
        InvalidValue: it means none.
    """
    if isinstance(given, ResultCache):
        return given
    check_kind("option", "cache", given, (str, os.PathLike), "ResultCache() or a path")
    return _at(Path(str(given)).absolute())


@lru_cache(maxsize=64)
def _at(path: Path) -> ResultCache:
    return ResultCache(path)


_NONE = object()
