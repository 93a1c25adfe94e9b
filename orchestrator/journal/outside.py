"""Values that come into a journal's file from outside: what is waited for, and what was given."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import threading
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from orchestrator.errors import AlreadyCompleted, InvalidValue
from orchestrator.journal.codec import (
    Unwritable,
    adapter,
    class_named,
    dumps,
    from_json,
    name_of_class,
    to_json,
    why,
)
from orchestrator.journal.tables import opened, sealed

_WAITS = "SELECT name, task, hint, since FROM waits ORDER BY rowid"
REFUSED = "refused"
"""Stands in the place of a value's form: what was given before does not count."""


@dataclass(frozen=True, kw_only=True)
class AwaitedValue:
    """A value that a run waits for.

    Attributes:
        name: What it is given by.
        task: The id of the task that waits for it.
        type: Its annotation; None if another process can't know it.
        since: When the wait began, in seconds since 1970.
    """

    name: str
    task: str
    type: Any
    since: float


def complete(journal: str | Path, name: str, value: Any) -> None:
    """Give a run a value that one of its tasks waits for, or will; see `TaskGraph.receive`.

    The run may be alive, here or in another process, or go on later.

    Raises:
        AlreadyCompleted: somebody was faster.
        InvalidValue: it does not fit the annotation.
        JournalUnusable: the file is no journal, or can't be written.
    """
    outside = Outside(Path(journal))
    for wait in outside.awaited(name):
        value = fitting(name, value, wait.type)
    outside.complete(name, value)


def complete_text(journal: str | Path, name: str, text: str) -> None:
    """Like `complete`, with a value in words: JSON, or else the text itself.

    Raises:
        AlreadyCompleted: somebody was faster.
        InvalidValue: it does not fit the annotation.
        JournalUnusable: the file is no journal, or can't be written.
    """
    outside = Outside(Path(journal))
    for wait in outside.awaited(name):
        text = _json_of(name, text, wait.type)
    outside.put(name, "json", _json_of(name, text, Any))


def awaited(journal: str | Path) -> list[AwaitedValue]:
    """What the run of a journal waits for and has not been given.

    Raises:
        JournalUnusable: the file is no journal.
    """
    return Outside(Path(journal)).awaited()


class Outside:
    """The tables of a journal that are written by whoever gives values, and by the run itself.

    Every call opens the file anew, as they are rare.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0
        self._lock = threading.Lock()

    def awaited(self, name: str | None = None) -> list[AwaitedValue]:
        """What is waited for and not given, under this name or any; each name once."""
        with opened(self._path) as db:
            given = {row[0] for row in self._given(db)}
            found = {}
            for wanted, task, hint, since in db.execute(
                "SELECT name, task, hint, since FROM waits"
            ):
                if wanted not in given and name in (None, wanted):
                    found[wanted] = AwaitedValue(
                        name=wanted, task=task, type=_read_hint(hint), since=since
                    )
            return list(found.values())

    def expect(self, name: str, task: str, hint: Any) -> float:
        """Note that a task waits for a value; return since when one has."""
        now, text = time.time(), _write_hint(hint)
        with opened(self._path, write=True) as db:
            rows = db.execute("SELECT since, hint FROM waits WHERE name = ?", (name,)).fetchall()
            if not rows or rows[-1][1] != text:
                db.execute(
                    "INSERT INTO waits VALUES (?, ?, ?, ?, ?)", sealed((name, task, text, now))
                )
        return float(rows[0][0]) if rows else now

    def complete(self, name: str, value: Any) -> None:
        """Write a value that fits, unless there is one.

        Raises:
            AlreadyCompleted: there is one.
            InvalidValue: it could not be read again.
        """
        self.put(name, "value", to_json(value, f"value {name!r}", kept="given"))

    def put(self, name: str, form: str, text: str) -> None:
        """Write a value as JSON of this form: ``json`` of another program, or ``value`` of ours."""
        with opened(self._path, write=True) as db:
            if any(row[0] == name for row in self._given(db)):
                raise AlreadyCompleted(f"{name!r} has its value already; the first one counts")
            row = sealed((name, form, text, time.time()))
            db.execute("INSERT INTO completions VALUES (?, ?, ?, ?, ?)", row)
            bells = db.execute("SELECT port FROM bells ORDER BY rowid DESC LIMIT 1").fetchall()
        for (port,) in bells:  # whoever listens there now looks at its file
            with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as ringing:
                ringing.sendto(b"", ("127.0.0.1", port))

    def refuse(self, name: str) -> None:
        """Let what was given not count, as it does not fit."""
        with opened(self._path, write=True) as db:
            row = sealed((name, REFUSED, "", time.time()))
            db.execute("INSERT INTO completions VALUES (?, ?, ?, ?, ?)", row)

    def note_bell(self, port: int) -> None:
        """Note at which port of this machine the run hears that there is something new."""
        with opened(self._path, write=True) as db:
            db.execute("INSERT INTO bells VALUES (?, ?)", sealed((port,)))

    def news(self) -> dict[str, Callable[[Any], Any]]:
        """What was given since this was last asked: by name, what reads it by an annotation."""
        with self._lock, opened(self._path) as db:
            rows = self._given(db)
            last = db.execute("SELECT coalesce(max(rowid), 0) FROM completions").fetchone()[0]
            seen, self._seen = self._seen, last
        return {name: _reader(name, form, text) for name, form, text, at in rows if at > seen}

    def _given(self, db: sqlite3.Connection) -> list[tuple[str, str, str, int]]:
        """Names, forms, texts and places of what was given and not refused."""
        found: dict[str, tuple[str, str, str, int]] = {}
        for row in db.execute("SELECT name, form, value, rowid FROM completions ORDER BY rowid"):
            if row[1] == REFUSED:
                found.pop(row[0], None)
            else:
                found.setdefault(row[0], row)
        return list(found.values())


# ---- values --------------------------------------------------------------------------------------


def fitting(name: str, value: Any, hint: Any) -> Any:
    """The value, if it fits an annotation; of JSON, what the annotation makes of it.

    Raises:
        InvalidValue: it does not fit.
    """
    found = None if hint is None or hint is Any else adapter(hint)
    if found is None:
        return value
    try:
        found.validate_python(value, strict=True)
        return value
    except ValueError as error:
        refused = error
    try:
        return found.validate_json(json.dumps(value), strict=True)
    except (TypeError, ValueError):
        raise InvalidValue(
            f"{name!r} is to be {_told(hint)}, and {value!r} does not fit ({why(refused)})"
        ) from None


def _json_of(name: str, text: str, hint: Any) -> str:
    """The text if it is JSON that fits, else itself as JSON, if that fits."""
    try:
        json.loads(text)
        forms = [text, dumps(text)]
    except ValueError:
        forms = [dumps(text)]
    found = None if hint is None or hint is Any else adapter(hint)
    if found is None:
        return forms[0]
    for form in forms:
        with contextlib.suppress(ValueError):
            found.validate_json(form, strict=True)
            return form
    try:
        found.validate_json(forms[0], strict=True)
    except ValueError as error:
        refused = why(error)
    raise InvalidValue(f"{name!r} is to be {_told(hint)}, and {text!r} does not fit ({refused})")


def _reader(name: str, form: str, text: str) -> Callable[[Any], Any]:
    def read(hint: Any) -> Any:
        if form == "value":
            return fitting(name, from_json(text), hint)
        return fitting(name, json.loads(text), hint)

    return read


def _told(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


# ---- annotations ---------------------------------------------------------------------------------


def _write_hint(hint: Any) -> str:
    try:
        return dumps(_plain(hint))
    except Unwritable:
        return "null"  # another process can't know it; the run will


def _read_hint(text: str) -> Any:
    try:
        return _hint(json.loads(text))
    except ValueError:  # a class of a program that is not this one
        return None


def _plain(hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is None or hint is Any:
        return "any" if hint is Any else "none"
    if hint is Ellipsis:
        return "..."
    if origin is Literal:
        return {"literal": list(args)}
    if origin in (Union, types.UnionType):
        return {"union": [_plain(arg) for arg in args]}
    if isinstance(origin, type):
        return {"of": _plain(origin), "args": [_plain(arg) for arg in args]}
    if hint is type(None):
        return "none"
    if not isinstance(hint, type):
        raise Unwritable(f"an annotation {hint!r}")
    return {"class": name_of_class(hint)}


def _hint(plain: Any) -> Any:
    match plain:
        case None:
            return None
        case "any":
            return Any
        case "...":
            return Ellipsis
        case "none":
            return type(None)
        case {"literal": args}:
            return Literal[tuple(args)]
        case {"union": args}:
            return reduce(or_, map(_hint, args))
        case {"of": origin, "args": args}:
            return _hint(origin)[tuple(map(_hint, args))]
        case {"class": name}:
            return class_named(name)
    raise ValueError("no annotation")
