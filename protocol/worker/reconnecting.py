"""The side that dials: connects, comes again after each break, and resumes its session."""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from typing import Any

import anyio
from pydantic import TypeAdapter

from orchestrator.errors import InvalidValue
from protocol.errors import BadMessage, ConnectionRefused, HubUnreachable, first
from protocol.wire.channel import Channel
from protocol.wire.connection import (
    ConnectionLimits,
    Tls,
    WebSocket,
    check_url,
    frames,
    need_websockets,
    receive,
    refuse,
    say,
    write,
)
from protocol.wire.connection import (
    logger as quiet,
)
from protocol.wire.framing import Beat, DownFrame, Hello, Refused, UpFrame, Welcome
from protocol.wire.messages import MAX_FRAME

log = logging.getLogger(__name__)

WELCOME_S = 10.0
SILENT_BEATS = 3
"""So many beats without an answer, and the connection counts as dead."""


class ReconnectingConnection(ABC):
    """One side of a session whose other side is a hub; see `Worker` and `Client`.

    Attributes:
        id: What the hub calls this side, once it has said so.
        patience_s: How long it dials in vain before it gives up; None for ever.
        lease_s: How long the hub waits for it.
    """

    def __init__(
        self,
        url: str,
        token: str,
        adapter: TypeAdapter[Any],
        *,
        tls: Tls | None = None,
        insecure: bool = False,
        patience_s: float | None = None,
        slowest_s: float = 10.0,
        rng: random.Random | None = None,
    ) -> None:
        need_websockets()
        secure = check_url(url, insecure=insecure)
        if tls is not None and not secure:
            raise InvalidValue("tls: ws:// is plain text and takes no certificates; dial wss://")
        self._tls = (tls or Tls()).client() if secure else None
        self.url = url
        self._token = token
        self._adapter = adapter
        self.patience_s = patience_s
        self._slowest_s = slowest_s
        self._rng = rng or random.Random()
        self.channel = Channel()
        self.id = ""
        self.lease_s = 15.0
        self._beat_s = 5.0
        self._session: str | None = None
        self._epoch = 0
        self._heard = time.monotonic()
        self._asked = self.renewed = time.monotonic()
        self.connected = anyio.Event()
        self._linked = False

    # ---- what a subclass says and does ---------------------------------------------------------

    @abstractmethod
    def hello(self) -> Hello:
        """What to say first; session, numbers and epoch are filled in."""

    @abstractmethod
    def handle(self, message: Any) -> None:
        """Take one message."""

    @abstractmethod
    def joined(self, resumed: bool) -> None:
        """A connection is there; unless resumed, the hub knows nothing of this side."""

    # ---- life ----------------------------------------------------------------------------------

    async def dial(self) -> None:
        """Stay connected until cancelled.

        Raises:
            ConnectionRefused: the hub does not want this side, now or later.
            HubUnreachable: it was dialled in vain for ``patience_s``.
        """
        failures = 0
        last = time.monotonic()
        while True:
            why = "it is gone"
            try:
                await self._connect()
            except* ConnectionRefused:
                raise
            except* _gone() as group:
                why = str(first(group)) or type(first(group)).__name__
            if self._linked:
                self._linked, failures, last = False, 0, time.monotonic()
            failures += 1
            if self.patience_s is not None and time.monotonic() - last > self.patience_s:
                raise HubUnreachable(f"hub {self.url} can't be reached ({why}); is it running?")
            log.info("hub %s: %s; dialling again", self.url, why)
            longest = min(self._slowest_s, 0.05 * 2.0 ** min(failures, 20))
            await anyio.sleep(self._rng.uniform(0.02, longest))  # all at once would be a herd

    async def _connect(self) -> None:
        from websockets.asyncio.client import connect

        async with connect(
            self.url,
            ssl=self._tls,
            additional_headers={"Authorization": f"Bearer {self._token}"},
            user_agent_header=None,
            compression=None,
            proxy=None,
            open_timeout=WELCOME_S,
            ping_interval=None,
            close_timeout=1,
            max_size=MAX_FRAME,
            max_queue=64,
            logger=quiet,
        ) as socket:
            with anyio.fail_after(WELCOME_S):
                await self._greet(socket)
            self._linked = True
            await self._exchange(socket)

    async def _greet(self, socket: WebSocket) -> None:
        hello = self.hello().model_copy(
            update={"session": self._session, "ack": self.channel.received, "epoch": self._epoch}
        )
        self._asked = time.monotonic()
        await say(socket, hello)
        while not isinstance(welcome := await receive(socket, self._adapter), Welcome):
            if isinstance(welcome, Refused):
                self._refused(welcome)
        if welcome.epoch < self._epoch:
            raise OSError("a hub of an older epoch answered")
        self._epoch = welcome.epoch
        self.id, self._session = welcome.id, welcome.session
        self.lease_s, self._beat_s = welcome.lease_s, welcome.beat_s
        self._heard, self.renewed = time.monotonic(), self._asked
        if welcome.resumed:
            self.channel.acknowledge(welcome.ack)
            self.channel.rewind()
        else:
            self.channel.reset()
        self.joined(welcome.resumed)
        self.connected.set()

    async def _exchange(self, socket: WebSocket) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(write, socket, self.channel)
                group.start_soon(self._beat)
                async for message in frames(socket, self._adapter, ConnectionLimits(), self._hear):
                    self._take(message)
        except anyio.get_cancelled_exc_class():
            await refuse(socket, Refused(code="draining", message="it leaves"))
            raise

    def _take(self, message: Any) -> None:
        if isinstance(message, Refused):
            self._refused(message)
        elif isinstance(message, Beat):
            self.channel.heard(message)
            self.renewed = self._asked
        elif isinstance(message, (UpFrame, DownFrame)):
            for one in self.channel.accept(message.ack, message.seq, message.body):
                self.handle(one)

    def _refused(self, refused: Refused) -> None:
        if refused.retry:
            raise OSError(refused.message)
        raise ConnectionRefused(refused.code, refused.message)

    def _hear(self) -> None:
        self._heard = time.monotonic()

    async def _beat(self) -> None:
        """Renew the lease; a hub that does not answer has not heard it."""
        while True:
            await anyio.sleep(self._beat_s)
            if time.monotonic() - self._heard > SILENT_BEATS * self._beat_s:
                raise OSError("nothing is heard from it")
            self._asked = time.monotonic()
            self.channel.say(reply=True)


def _gone() -> tuple[type[Exception], ...]:
    from websockets.exceptions import WebSocketException

    return (WebSocketException, OSError, TimeoutError, BadMessage, EOFError)
