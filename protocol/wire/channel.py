"""Messages that arrive once and in order over connections that break; no I/O in here.

Each side numbers what it sends and keeps it until it is acknowledged.  A new connection of the
same session begins with what was not.  What arrives twice is dropped; what arrives too early is
dropped as well and asked for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import anyio

from protocol.errors import BadMessage, Congested
from protocol.wire.framing import Beat
from protocol.wire.messages import MAX_MESSAGE, Message, PayloadPart, shown

M = TypeVar("M")

FRAME = 256 << 10
"""Bytes after which a frame is sent and another begun."""

WINDOW = 2 << 20
"""Bytes of payloads' parts that may be on their way."""


class Channel:
    """One direction out and one in, of one session.

    Attributes:
        news: Set when there is something to send.
        received: The number of the last message received.
    """

    __slots__ = (
        "_acked",
        "_acknowledged",
        "_asked",
        "_backlog",
        "_bytes",
        "_kept",
        "_next",
        "_owed",
        "_owed_bytes",
        "_sent",
        "beat",
        "most_bytes",
        "most_messages",
        "news",
        "received",
    )

    def __init__(self, *, most_messages: int = 16_384, most_bytes: int = 32 << 20) -> None:
        self.most_messages = most_messages
        self.most_bytes = most_bytes
        self.news = anyio.Event()
        self._acknowledged: anyio.Event | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew, as both sides do when a session can't be resumed."""
        self.received = 0
        self.beat: Beat | None = None
        self._kept: deque[bytes] = deque()  # not acknowledged, numbered from _acked + 1
        self._bytes = 0
        self._acked = 0
        self._sent = 0  # the highest number that was ever given out
        self._next = 1  # the number to be given out next
        self._owed_bytes = 0
        self._owed = 0  # messages received since the last acknowledgement went out
        self._asked = False
        self._backlog: deque[Iterator[Message]] = deque()
        self._note_acknowledgement()

    # ---- out -----------------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Queue a message.

        Raises:
            BadMessage: it is too long.
            Congested: the other side has not acknowledged too much already.
        """
        if self.full:
            raise Congested(
                f"{len(self._kept)} messages ({self._bytes} bytes) are not acknowledged; the other "
                "side is too slow, give it less at once"
            )
        self._keep(message)

    def put_anyway(self, message: Message) -> None:
        """Queue a message, if there is no room as soon as there is."""
        try:
            self.put(message)
        except Congested:
            self.put_lazily([message])

    def put_lazily(self, messages: Iterable[Message]) -> None:
        """Queue messages that are made only when there is room for them, in their order."""
        self._backlog.append(iter(messages))
        self.wake()

    async def room(self) -> None:
        """Wait until the queue is at most half full."""
        while 2 * len(self._kept) > self.most_messages or 2 * self._bytes > self.most_bytes:
            await self._acknowledgement()

    async def settle(self) -> None:
        """Wait until all that was queued was acknowledged."""
        while self._kept or self._backlog:
            await self._acknowledgement()

    def wake(self) -> None:
        """Let whoever sends look again."""
        self.news.set()

    def take(self) -> bytes | None:
        """The next frame to be sent, or None if there is nothing to say."""
        if self.beat is not None:
            beat, self.beat = self.beat, None
            return beat.model_dump_json().encode()
        self._fill()
        first, size = self._next, 0
        body: list[bytes] = []
        for text in _from(self._kept, first - self._acked - 1):
            if body and size + len(text) > FRAME:
                break
            body.append(text)
            size += len(text)
        if not body:
            return None
        self._next += len(body)
        self._sent = max(self._sent, self._next - 1)
        self._owed = self._owed_bytes = 0
        head = b'{"type":"frame","ack":%d,"seq":%d,"body":[' % (self.received, first)
        return head + b",".join(body) + b"]}"

    def say(self, *, reply: bool = False) -> None:
        """Send a beat next."""
        self.beat = Beat(ack=self.received, sent=self._next - 1, resend=self._asked, reply=reply)
        self._owed = self._owed_bytes = 0
        self.wake()

    def rewind(self) -> None:
        """Send again all that was not acknowledged."""
        self._next = self._acked + 1
        self._asked = False
        self.beat = None
        self.wake()

    @property
    def full(self) -> bool:
        """Whether the other side has not acknowledged too much already."""
        return len(self._kept) >= self.most_messages or self._bytes >= self.most_bytes

    @property
    def unacknowledged(self) -> int:
        """How many messages are kept."""
        return len(self._kept)

    def _keep(self, message: Message) -> None:
        text = encoded(message)
        self._kept.append(text)
        self._bytes += len(text)
        self.news.set()

    def _fill(self) -> None:
        """Make what was put lazily, as far as there is room."""
        while self._backlog and self._bytes < WINDOW:
            message = next(self._backlog[0], None)
            if message is None:
                self._backlog.popleft()
            else:
                self._keep(message)

    # ---- in ------------------------------------------------------------------------------------

    def accept(self, ack: int, seq: int, body: Sequence[M]) -> Sequence[M]:
        """Take a frame; returns what is new of it, in order.

        Raises:
            BadMessage: it acknowledges what was never sent.
        """
        self.acknowledge(ack)
        if seq > self.received + 1:
            self._ask()
            return ()
        new = body[self.received + 1 - seq :]
        if new:
            self._asked = False
            self.received += len(new)
            self._owed += len(new)
            self._owed_bytes += sum(len(one.data) for one in new if isinstance(one, PayloadPart))
            much = 8 * self._owed > self.most_messages or 4 * self._owed_bytes > WINDOW
            if much and self._next > self._acked + len(self._kept):
                self.say()
        return new

    def heard(self, beat: Beat) -> None:
        """Take a beat.

        Raises:
            BadMessage: it acknowledges what was never sent.
        """
        self.acknowledge(beat.ack)
        if beat.resend:
            self.rewind()
        if beat.sent > self.received:
            self._asked = False  # the earlier question may be lost
            self._ask()
        if beat.reply:
            self.say()

    def acknowledges(self, ack: int) -> bool:
        """Whether another side that has received so much can go on."""
        return self._acked <= ack <= self._sent

    def acknowledge(self, ack: int) -> None:
        """Drop what the other side has.

        Raises:
            BadMessage: it was never sent.
        """
        if ack > self._sent:
            raise BadMessage(f"message {ack} was acknowledged, {self._sent} were sent; say hello")
        while self._acked < ack:
            self._bytes -= len(self._kept.popleft())
            self._acked += 1
        self._next = max(self._next, self._acked + 1)
        if self._backlog:
            self.wake()
        self._note_acknowledgement()

    def _note_acknowledgement(self) -> None:
        if self._acknowledged is not None:
            self._acknowledged.set()
            self._acknowledged = None

    async def _acknowledgement(self) -> None:
        if self._acknowledged is None:
            self._acknowledged = anyio.Event()
        await self._acknowledged.wait()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self.say()


def encoded(message: Message) -> bytes:
    """The message as JSON, without what is as it would be anyway.

    Raises:
        BadMessage: it is too long, or can't be written.
    """
    try:
        rest = message.model_dump_json(exclude_defaults=True).encode()
    except ValueError as error:
        raise BadMessage(f"a {message.type} can't be sent ({shown(str(error))})") from error
    if len(rest) > MAX_MESSAGE:
        raise BadMessage(
            f"a {message.type} of {len(rest)} bytes is longer than {MAX_MESSAGE}; send less"
        )
    return b'{"type":"%s"%s' % (message.type.encode(), b"}" if rest == b"{}" else b"," + rest[1:])


def _from(kept: deque[bytes], start: int) -> Iterator[bytes]:
    """Items from an index on; deques have no slices."""
    if start == 0:
        yield from kept
        return
    for index in range(start, len(kept)):
        yield kept[index]
