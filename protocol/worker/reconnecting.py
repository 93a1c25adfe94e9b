"""The side that connects to a hub, connects again after each break, and resumes its session."""

from __future__ import annotations

import errno
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from orchestrator.errors import InvalidValue
from protocol.errors import BadMessage, ConnectionRefused, HubUnreachable, first
from protocol.settings import ConnectionSettings
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
from protocol.wire.framing import (
    Beat,
    DownFrame,
    FrameReader,
    Hello,
    Refused,
    Unreadable,
    UpFrame,
    Welcome,
)
from protocol.wire.messages import MAX_FRAME, VERSION

log = logging.getLogger(__name__)

WELCOME_S = 10.0
TOLD_S = 2.0
"""People are told of a hub that has not been reached for so long."""
SILENT_BEATS = 3
"""After so many beats without an answer the connection counts as dead."""
GRACE = 1 / 4
"""Of a lease: so soon a worker whose connection was closed has to be back; hubs wait a third."""
_REFUSED = f"[Errno {errno.ECONNREFUSED}]"


@dataclass(frozen=True, kw_only=True)
class SessionSide:
    """What a worker or a client says and does in its session.

    Attributes:
        reader: Reads what the hub sends.
        hello: Gives what is said first; session, numbers and epoch are filled in.
        joined: Called when a connection is there, with whether the session was resumed; if not,
            the hub knows nothing of this side.
        handle: Takes one message.
        refuse: Tells the owner of a message that it is not taken, and why.
    """

    reader: FrameReader[Any]
    hello: Callable[[], Hello]
    joined: Callable[[bool], None]
    handle: Callable[[Any], None]
    refuse: Callable[[Any, str], None]


class ReconnectingConnection:
    """A session with a hub, over as many connections as it takes.

    Attributes:
        channel: What is sent, and what was received.
        id: What the hub calls this side, once it has said so.
        lease_s: Seconds that the hub waits for this side.
        renewed: When the lease was last renewed, as far as the hub has said.
        lost: When its connection was closed, unless it is there again or nobody listens there.
        lease_news: Set when the lease may have changed.
        heard: When something last came from the hub.
        connected: Set once a hub has taken this side in.
        linked: Whether there is a connection now.
    """

    def __init__(
        self,
        url: str,
        token: str,
        side: SessionSide,
        settings: ConnectionSettings,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare a connection; ``rng`` draws its pauses.

        Raises:
            ExtraMissing: the package for WebSockets is not installed.
            InvalidValue: the URL or a certificate can't be used.
        """
        need_websockets()
        secure = check_url(url, insecure=settings.insecure)
        if settings.tls is not None and not secure:
            raise InvalidValue("tls: ws:// is plain text and takes no certificates; give wss://")
        self._tls = (settings.tls or Tls()).client() if secure else None
        self._url = url
        self._token = token
        self._side = side
        self._settings = settings
        self._rng = rng or random.Random()
        self.channel = Channel()
        self.id = ""
        self.lease_s = 15.0
        self.connected = anyio.Event()
        self.linked = False
        self.lost: float | None = None
        self.lease_news = anyio.Event()
        self._beat_s = 5.0
        self._session: str | None = None
        self._epoch = 0
        self.heard = self.renewed = self._asked = time.monotonic()

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises:
            ConnectionRefused: the hub does not want this side, now or later.
            HubUnreachable: it could not be reached for ``patience_s``.
        """
        failures, told = 0, False
        last = time.monotonic()
        while True:
            why = "it is gone"
            try:
                await self._connect(last + self._patience_s - time.monotonic())
            except* ConnectionRefused:
                raise
            except* _gone() as group:
                why = str(first(group)) or type(first(group)).__name__
                if isinstance(first(group), BadMessage):
                    self._session = None  # what can't be read would be sent again
            if self.linked:
                self.linked, failures, last, told = False, 0, time.monotonic(), False
                self.lost = last
            if _REFUSED in why:  # a hub that is down gives nothing to others
                self.lost = None
            self.lease_news.set()
            failures += 1
            silent_s = time.monotonic() - last
            if silent_s >= self._patience_s:
                raise HubUnreachable(f"hub {self._url} can't be reached ({why}); is it running?")
            say = log.warning if silent_s > TOLD_S and not told else log.info
            told = told or silent_s > TOLD_S
            say("hub %s can't be reached (%s); connecting again", self._url, why)
            longest = min(self._settings.slowest_s, 0.05 * 2.0 ** min(failures, 20))
            await anyio.sleep(self._rng.uniform(0.02, longest))  # all at once would be a herd

    @property
    def _patience_s(self) -> float:
        """How long the hub may be unreachable."""
        found = self._settings.patience_s
        if not self.connected.is_set() and self._settings.first_s is not None:
            found = self._settings.first_s
        return math.inf if found is None else found

    @property
    def lease_left_s(self) -> float:
        """Seconds until the hub may have given this side's tasks to others."""
        ends = self.renewed + self.lease_s
        if self.lost is not None:
            ends = min(ends, self.lost + self.lease_s * GRACE)
        return ends - time.monotonic()

    async def _connect(self, left_s: float) -> None:
        """Connect, if it is possible in so many seconds, and serve the connection to its end."""
        from websockets.asyncio.client import connect

        most_s = max(0.1, min(WELCOME_S, left_s))
        async with connect(
            self._url,
            ssl=self._tls,
            additional_headers={"Authorization": f"Bearer {self._token}"},
            user_agent_header=None,
            compression=None,
            proxy=None,
            open_timeout=most_s,
            ping_interval=None,
            close_timeout=1,
            max_size=MAX_FRAME,
            max_queue=64,
            logger=quiet,
        ) as socket:
            with anyio.fail_after(most_s):
                await self._greet(socket)
            self.linked = True
            await self._exchange(socket)

    async def _greet(self, socket: WebSocket) -> None:
        hello = self._side.hello().model_copy(
            update={"session": self._session, "ack": self.channel.received, "epoch": self._epoch}
        )
        self._asked = time.monotonic()
        await say(socket, hello)
        while not isinstance(welcome := await receive(socket, self._side.reader), Welcome):
            if isinstance(welcome, Refused):
                _raise(welcome)
        if welcome.version != VERSION:
            raise ConnectionRefused("bad-version", f"the hub speaks version {welcome.version}")
        if welcome.epoch < self._epoch:
            raise OSError("a hub of an older epoch answered")
        self._epoch = welcome.epoch
        self.id, self._session = welcome.id, welcome.session
        self.lease_s, self._beat_s = welcome.lease_s, welcome.beat_s
        self.heard, self.renewed = time.monotonic(), self._asked
        if welcome.resumed:
            self.channel.acknowledge(welcome.ack)
            self.channel.rewind()
        else:
            self.channel.reset()
        self.lost = None
        self._side.joined(welcome.resumed)
        self.lease_news.set()
        self.connected.set()

    async def _exchange(self, socket: WebSocket) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(write, socket, self.channel)
                group.start_soon(self._beat)
                limits = ConnectionLimits()
                async for message in frames(socket, self._side.reader, limits, self._hear):
                    self._take(message)
        except anyio.get_cancelled_exc_class():
            await refuse(socket, Refused(code="draining", message="it leaves"))
            raise

    def _take(self, message: Any) -> None:
        if isinstance(message, Refused):
            _raise(message)
        elif isinstance(message, Beat):
            self.channel.heard(message)
            self.renewed = self._asked
        elif isinstance(message, (UpFrame, DownFrame)):
            for one in self.channel.accept(message.ack, message.seq, message.body):
                self._take_one(one)

    def _take_one(self, message: Any) -> None:
        """Take one message; one that can't be taken is refused by itself."""
        try:
            if isinstance(message, Unreadable):
                self._side.refuse(message, message.why)
            else:
                self._side.handle(message)
        except BadMessage as error:
            self._side.refuse(message, str(error))
        except Exception as error:
            log.exception("a message of the hub could not be taken")
            self._side.refuse(message, f"what failed here ({type(error).__name__})")

    def _hear(self) -> None:
        self.heard = time.monotonic()

    async def _beat(self) -> None:
        """Renew the lease; a hub that does not answer has not heard it."""
        while True:
            await anyio.sleep(self._beat_s)
            if time.monotonic() - self.heard > SILENT_BEATS * self._beat_s:
                raise OSError("nothing is heard from it")
            self._asked = time.monotonic()
            self.channel.say(reply=True)


def _raise(refused: Refused) -> None:
    if refused.retry:
        raise OSError(refused.message)
    raise ConnectionRefused(refused.code, refused.message)


def _gone() -> tuple[type[Exception], ...]:
    from websockets.exceptions import WebSocketException

    return (WebSocketException, OSError, BadMessage, EOFError)
