"""Tokens of workers and clients: shown once, kept as hashes, with scopes, an end, and rotation."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from orchestrator.errors import InvalidValue, UnknownName
from protocol.errors import ConnectionRefused

Scope = Literal["function", "tool", "thread", "submit"]
"""Kinds of tasks that a worker may be given, and whether tasks may be submitted."""

SCOPES: tuple[Scope, ...] = get_args(Scope)
WORKING: frozenset[Scope] = frozenset({"function", "tool", "thread"})
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
PREFIX = "rt"

_TABLES = """
CREATE TABLE IF NOT EXISTS tokens (
    name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, hash BLOB NOT NULL, scopes TEXT NOT NULL,
    created REAL NOT NULL, expires REAL, revoked REAL);
CREATE TABLE IF NOT EXISTS former (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, key BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS epochs (epoch INTEGER PRIMARY KEY, opened REAL NOT NULL);
CREATE TABLE IF NOT EXISTS present (worker TEXT NOT NULL, epoch INTEGER NOT NULL,
    PRIMARY KEY (worker, epoch));
"""


@dataclass(frozen=True, kw_only=True)
class TokenRecord:
    """What is known of a token; not the token itself.

    Attributes:
        name: Whom it names: the worker's or client's id at the hub.
        created: Seconds since 1970, as are the others.
        expires: None for never.
        revoked: None for not.
    """

    name: str
    scopes: frozenset[Scope]
    created: float
    expires: float | None
    revoked: float | None


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a valid token allows; ``token`` is its public part."""

    name: str
    token: str
    scopes: frozenset[Scope]


class TokenStore:
    """Tokens in an SQLite file that only its owner can read, or in memory.

    A token has 256 random bits, so a plain SHA-256 of it can't be reversed.  Its public part is
    looked up, its secret part compared in constant time.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open or make the file.

        Raises:
            InvalidValue: it can't be used.
        """
        self.path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            name = ":memory:" if path is None else path
            self._db = sqlite3.connect(name, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise InvalidValue(
                f"tokens: {path} can't be used ({error}); name another file"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ---- which workers are there, for a later hub --------------------------------------------

    def note_worker(self, worker: str, epoch: int, *, here: bool) -> None:
        """Note that a worker came to the hub of an epoch, or left it.

        A crash of the machine may lose the note, one of the process does not: it waits for no disk.
        """
        word = "INSERT OR IGNORE INTO present VALUES (?, ?)"
        if not here:
            word = "DELETE FROM present WHERE worker = ? AND epoch = ?"
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(word, (worker, epoch))
        self._db.execute("PRAGMA synchronous = FULL")

    def left_behind(self, epoch: int) -> frozenset[str]:
        """The workers of earlier hubs that did not end by themselves; they are told of once."""
        rows = self._db.execute(
            "DELETE FROM present WHERE epoch < ? RETURNING worker", (epoch,)
        ).fetchall()
        return frozenset(worker for (worker,) in rows)

    def forget_workers(self, epoch: int) -> None:
        """The hub of an epoch has ended by itself."""
        self._db.execute("DELETE FROM present WHERE epoch = ?", (epoch,))

    def create(
        self,
        name: str,
        *,
        scopes: Iterable[str] = ("function", "tool", "thread"),
        expires_s: float | None = None,
    ) -> str:
        """Make a token and return it; it can't be had again.

        Raises:
            InvalidValue: the name is taken or can't be used, or a scope does not exist.
        """
        wanted = set(scopes)
        if not NAME.fullmatch(name):
            raise InvalidValue(f"name: {name!r} can't be used; give letters, digits, . _ and -")
        if not wanted or wanted - set(SCOPES):
            raise InvalidValue(f"scopes: choose from {', '.join(SCOPES)}")
        if expires_s is not None and not expires_s > 0:
            raise InvalidValue(f"expires: {expires_s:g} is not a time; give seconds above 0")
        now = time.time()
        token, id, digest = _new()
        end = None if expires_s is None else now + expires_s
        try:
            self._db.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (name, id, digest, " ".join(sorted(wanted)), now, end),
            )
        except sqlite3.IntegrityError as error:
            raise InvalidValue(f"name: {name!r} has a token; rotate or revoke it") from error
        return token

    def rotate(self, name: str, *, grace_s: float = 0.0) -> str:
        """Make a new token in place of the old, which is valid for ``grace_s`` more seconds.

        Then connections that use the old one end, too.

        Raises:
            UnknownName: there is none of that name.
        """
        row = self._db.execute("SELECT id, hash FROM tokens WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise _unknown(name)
        token, id, digest = _new()
        with closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("DELETE FROM former WHERE name = ?", (name,))
            if grace_s > 0:
                cursor.execute(
                    "INSERT INTO former VALUES (?, ?, ?, ?)",
                    (row[0], name, row[1], time.time() + grace_s),
                )
            cursor.execute(
                "UPDATE tokens SET id = ?, hash = ?, revoked = NULL WHERE name = ?",
                (id, digest, name),
            )
            cursor.execute("COMMIT")
        return token

    def revoke(self, name: str) -> None:
        """Make a token invalid at once; connections that use it end within seconds.

        Raises:
            UnknownName: there is none of that name.
        """
        found = self._db.execute(
            "UPDATE tokens SET revoked = coalesce(revoked, ?) WHERE name = ?", (time.time(), name)
        )
        if not found.rowcount:
            raise _unknown(name)
        self._db.execute("DELETE FROM former WHERE name = ?", (name,))

    def list(self) -> list[TokenRecord]:
        """All tokens, by name."""
        rows = self._db.execute(
            "SELECT name, scopes, created, expires, revoked FROM tokens ORDER BY name"
        )
        return [
            TokenRecord(
                name=name,
                scopes=_scopes(scopes),
                created=created,
                expires=expires,
                revoked=revoked,
            )
            for name, scopes, created, expires, revoked in rows
        ]

    def verify(self, token: str) -> Grant:
        """What a token allows.

        Raises:
            ConnectionRefused: it is unknown, over, or revoked; which, is not said.
        """
        _, _, rest = token.partition("_")
        id, _, _ = rest.partition("_")
        now = time.time()
        row = self._db.execute(
            "SELECT name, hash, scopes, expires, revoked FROM tokens WHERE id = ? UNION ALL "
            "SELECT f.name, f.hash, t.scopes, min(f.until, coalesce(t.expires, f.until)), "
            "t.revoked FROM former f JOIN tokens t ON t.name = f.name WHERE f.id = ?",
            (id, id),
        ).fetchone()
        name, digest, scopes, expires, revoked = row or ("", bytes(32), "", None, None)
        same = hmac.compare_digest(digest, _digest(token))
        over = expires is not None and expires <= now
        if row is None or not same or over or revoked is not None:
            raise ConnectionRefused("bad-token", "not a valid token; see reason token create")
        return Grant(name=name, token=id, scopes=_scopes(scopes))

    def grants(self) -> frozenset[Grant]:
        """What all tokens allow that are neither over nor revoked, nor rotated too long ago."""
        now = time.time()
        rows = self._db.execute(
            "WITH valid AS (SELECT * FROM tokens WHERE revoked IS NULL AND "
            "(expires IS NULL OR expires > ?)) SELECT name, id, scopes FROM valid UNION ALL "
            "SELECT f.name, f.id, v.scopes FROM former f JOIN valid v ON v.name = f.name "
            "WHERE f.until > ?",
            (now, now),
        )
        return frozenset(
            Grant(name=name, token=id, scopes=_scopes(scopes)) for name, id, scopes in rows
        )

    def key(self) -> bytes:
        """A secret that all hubs of this file share."""
        self._db.execute(
            "INSERT OR IGNORE INTO keys VALUES ('proof', ?)", (secrets.token_bytes(32),)
        )
        row = self._db.execute("SELECT key FROM keys WHERE name = 'proof'").fetchone()
        return bytes(row[0])

    def next_epoch(self) -> int:
        """A number larger than that of any hub that was started from this file before."""
        row = self._db.execute(
            "INSERT INTO epochs SELECT coalesce(max(epoch), 0) + 1, ? FROM epochs RETURNING epoch",
            (time.time(),),
        ).fetchone()
        return int(row[0])


def _new() -> tuple[str, str, bytes]:
    id = secrets.token_hex(4)
    token = f"{PREFIX}_{id}_{secrets.token_urlsafe(32)}"
    return token, id, _digest(token)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _scopes(text: str) -> frozenset[Scope]:
    return frozenset(scope for scope in SCOPES if scope in text.split())


def _unknown(name: str) -> UnknownName:
    return UnknownName(f"token {name!r} does not exist; see reason token list")
