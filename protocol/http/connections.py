"""One connection of the HTTP server, within limits of number and time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from protocol.wire.gate import ConnectionGate

HEAD_S = 10.0
"""Seconds for the head of a request, from its first byte or from the connection's beginning."""

MOST_HEAD = 32 << 10
"""Bytes of a request's head."""


class BoundedHttpProtocol(H11Protocol):
    """Ends a connection that is one too many, or whose next request does not come in time.

    What follows an answer without being a request, such as the rest of a body that was refused,
    counts as a head that is late.
    """

    gate: ConnectionGate
    _let_in = False
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._let_in = self.gate.enter(self._address)
        if self._let_in:
            self._expect_head()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._let_in:
            self.gate.leave(self._address)
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before: Any = self.cycle
        super().data_received(data)
        if self.cycle is before and (before is None or before.response_complete):
            self._expect_head()
        else:
            self._forget_head()

    def _expect_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.transport.abort)

    def _forget_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
