"""Where servers are: written out, listed in a file, or behind a name of the DNS."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from orchestrator.errors import InvalidValue
from reasoning.errors import BackendLost

logger = logging.getLogger(__name__)

DNS = "dns+"
FILE_S = 1.0
"""How often it is looked whether a file has changed, while requests come."""
LOOKUP_S = 15.0
"""The same of a name, which is looked up again."""


def address(url: str) -> str:
    """A server's address with its scheme, without an endpoint; ``/v1`` where it has no path.

    ``@FILE`` and ``dns+http://NAME:PORT/v1`` stand for several.

    Raises:
        ValueError: it is none of these.
    """
    url = url.strip()
    if url.startswith("@"):
        if not url[1:]:
            raise ValueError("@ names no file; write @servers.txt")
        return url
    if url.startswith(DNS):
        one = address(url.removeprefix(DNS))
        if urlsplit(one).scheme != "http":
            raise ValueError(f"{url!r}: a certificate is of a name; list the names in a file")
        return DNS + one
    return _complete(url)


def _complete(url: str) -> str:
    scheme, found, rest = url.rpartition("://")
    scheme = scheme.lower() if found else "http"
    rest = re.sub(r"/+((chat/)?completions/*)?$", "", rest)
    host, slash, path = rest.partition("/")
    with suppress(ValueError):
        host = f"[{ipaddress.IPv6Address(host)}]"
    complete = f"{scheme}://{host}{slash}{path}" if slash else f"{scheme}://{host}/v1"
    try:
        _ = urlsplit(complete).port
    except ValueError as error:
        raise ValueError(f"{url!r} is no address ({error})") from error
    unclear = re.search(r"[\s\x00-\x1f\x7f\ufeff]", complete) or re.match(r"@", host)
    if unclear or scheme not in ("http", "https") or not urlsplit(complete).hostname:
        raise ValueError(f"{url!r} is no http address")
    return complete


class Addresses:
    """The servers that are named, as they are now.

    Attributes:
        named: As ``--base-url`` has them, each by `address`.
        fixed: Whether they can't change.
    """

    def __init__(self, named: Sequence[str]) -> None:
        self.named = tuple(named)
        self.fixed = not any(one.startswith(("@", DNS)) for one in named)
        self._every = FILE_S if any(one.startswith("@") for one in named) else LOOKUP_S
        self._due = 0.0
        self._known: dict[str, tuple[str, ...]] = {}
        self._read: dict[str, object] = {}
        self._looked_up: dict[str, float] = {}

    def due(self) -> bool:
        """Whether it is time to look again; then it is not for a while."""
        if self.fixed or time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + self._every
        return True

    async def now(self) -> tuple[str, ...]:
        """Them all, each once.

        What can't be read or looked up any more is what it was before.

        Raises:
            InvalidValue: a file never had a server, or has a line that is none.
            BackendLost: a name was never found.
        """
        found: dict[str, None] = {}
        for one in self.named:
            found.update(dict.fromkeys(await self._of(one)))
        return tuple(found)

    async def _of(self, named: str) -> tuple[str, ...]:
        if not named.startswith(("@", DNS)):
            return (named,)
        before = self._known.get(named)
        try:
            if named.startswith("@"):
                self._known[named] = self._of_file(named)
            else:
                self._known[named] = await self._of_name(named)
        except (InvalidValue, BackendLost) as error:
            if before is None:
                raise
            logger.warning("%s; those that were known before are asked", error)
        return self._known[named]

    def _of_file(self, named: str) -> tuple[str, ...]:
        path = Path(named[1:])
        try:
            facts = path.stat()
            stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if self._read.get(named) == stamp:
                return self._known[named]
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            self._read.pop(named, None)
            raise InvalidValue(f"base-url: {path} can't be read ({error})") from error
        self._read[named] = stamp
        lines = [line.partition("#")[0].strip() for line in text.splitlines()]
        try:
            found = tuple(_complete(line) for line in lines if line)
        except ValueError as error:
            raise InvalidValue(f"base-url: {path}: {error}; mend that line") from error
        if not found:
            raise InvalidValue(f"base-url: {path} lists no server; give an address in each line")
        return found

    async def _of_name(self, named: str) -> tuple[str, ...]:
        last = self._looked_up.get(named)
        if last is not None and time.monotonic() < last + LOOKUP_S:
            return self._known[named]
        at = urlsplit(named.removeprefix(DNS))
        host, port = at.hostname or "", at.port or 80
        try:
            rows = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise BackendLost(f"base-url: {host} can't be looked up ({error})") from error
        self._looked_up[named] = time.monotonic()
        # A server that has both kinds of address is one server.
        ours = [row[4][0] for row in rows if row[0] == socket.AF_INET]
        ours = ours or [f"[{row[4][0]}]" for row in rows]
        return tuple(f"http://{one}:{port}{at.path}" for one in sorted(set(ours)))
