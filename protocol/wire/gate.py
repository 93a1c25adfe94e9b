"""How many sockets a server holds, and how much it logs: neither is up to those who connect."""

from __future__ import annotations

import logging
import time
from collections import Counter
from ipaddress import IPv6Address, ip_network

BURST, PERIOD_S = 5, 10.0
"""So many records of one text are logged in so many seconds."""


def descriptors() -> int:
    """How many files and sockets this process may have open."""
    try:
        from resource import RLIMIT_NOFILE, getrlimit  # not on Windows
    except ImportError:
        return 512
    soft = getrlimit(RLIMIT_NOFILE)[0]
    return soft if 0 < soft < 1 << 20 else 1 << 20


def backlog() -> int:
    """How many connections may be accepted at once; all of them take a descriptor unserved."""
    return max(8, min(128, descriptors() // 8))


class ConnectionGate:
    """Counts connections, so that files can still be opened and no address has all of them."""

    def __init__(self, most: int, per_address: int | None = None) -> None:
        """Let ``most`` in, but leave a part of the process's descriptors free."""
        self._most = min(most, max(descriptors() // 2, descriptors() - 128))
        self._per_address = per_address or most
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Let a connection in, if there is room; who is not let in does not leave."""
        address = _network(address)
        if self._open.total() >= self._most or self._open[address] >= self._per_address:
            return False
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was let in has ended."""
        address = _network(address)
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


def _network(address: str) -> str:
    """What one party can have all addresses of: of IPv6, the first 64 bits."""
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ip_network((found, 64), strict=False))


class LogLimit(logging.Filter):
    """Lets through a few records of each text in a while, and says how many it held back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged."""
        text = record.msg[:80] if isinstance(record.msg, str) else type(record.msg)
        now = time.monotonic()
        since, count = self._seen.get(text, (now, 0))
        if now - since > PERIOD_S:
            if count > BURST:
                record.msg = f"{record.msg} ({count - BURST} more like this were not logged)"
            since, count = now, 0
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[text] = since, count + 1
        return count < BURST


_limit = LogLimit()


def limit_logs() -> None:
    """Bound what is logged of connections, by the loop, by the servers and by this package."""
    names = ("asyncio", "uvicorn.error", "protocol.hub.sessions", "protocol.hub.task_handles")
    for name in (*names, "protocol.hub.dispatcher", "protocol.hub.timers", "protocol.http.errors"):
        logging.getLogger(name).addFilter(_limit)
