"""Long JSON texts, in parts and checked by SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from protocol.errors import BadMessage
from protocol.wire.bounded import Allowance, BoundedTable
from protocol.wire.channel import Channel
from protocol.wire.messages import (
    INLINE,
    MAX_TEXT,
    PART,
    Payload,
    PayloadPart,
    Result,
    TaskMessage,
)

MOST = 65_536
"""Payloads that are kept in one session."""

MOST_UNDER_WAY = 64
"""Payloads of which a part is missing; with more, the oldest is forgotten."""


def pack(text: str) -> tuple[str | Payload, bytes]:
    """The text itself if it is short; otherwise what stands for it, and its bytes."""
    if len(text) <= INLINE // 4:
        return text, b""
    data = text.encode()
    if len(data) <= INLINE:
        return text, b""
    return Payload(sha256=hashlib.sha256(data).hexdigest(), size=len(data)), data


def parts(payload: Payload, data: bytes) -> Iterator[PayloadPart]:
    """The pieces of a payload, in order."""
    view = memoryview(data)
    for offset in range(0, len(data), PART):
        yield PayloadPart(
            sha256=payload.sha256,
            offset=offset,
            size=payload.size,
            data=bytes(view[offset : offset + PART]),
        )


def put_whole(channel: Channel, message: TaskMessage | Result) -> bool:
    """Queue a message whose text is long, behind the parts of the text; False if it is short."""
    field = "arguments" if isinstance(message, TaskMessage) else "value"
    text = message.arguments if isinstance(message, TaskMessage) else message.value
    if not isinstance(text, str):
        return False
    value, data = pack(text)
    if isinstance(value, str):
        return False
    channel.put_lazily((*parts(value, data), message.model_copy(update={field: value})))
    return True


class Payloads:
    """What arrived in parts: under way, and the latest that are complete.

    Attributes:
        most_bytes: Of what is under way, and of what is kept; the oldest go first.
    """

    def __init__(self, most_bytes: int = MAX_TEXT, allowance: Allowance | None = None) -> None:
        """Keep at most so much, and no more than the allowance that others share."""
        self.most_bytes = most_bytes
        self._under_way: BoundedTable[bytearray] = BoundedTable(
            MOST_UNDER_WAY, most_bytes, allowance
        )
        self._kept: BoundedTable[bytes] = BoundedTable(MOST, most_bytes, allowance)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._kept

    def clear(self) -> None:
        """Forget all."""
        self._under_way.clear()
        self._kept.clear()

    def add(self, part: PayloadPart) -> None:
        """Take a piece.

        Raises:
            BadMessage: it is out of order, too much, or not what its digest says.
        """
        name = part.sha256[:8]
        got = self._under_way.get(part.sha256) if part.offset else bytearray()
        self._under_way.drop(part.sha256)
        if got is None or part.offset != len(got) or len(part.data) < min(part.size, 1):
            raise BadMessage(
                f"a part at {part.offset} of payload {name} came empty or out of order; send parts "
                "in their order, from 0"
            )
        got += part.data
        if len(got) > part.size or part.size > self.most_bytes:
            raise BadMessage(
                f"payload {name} is longer than it says or than {self.most_bytes} bytes; send less"
            )
        if len(got) < part.size:
            self._under_way.add(part.sha256, got, len(got))
        elif hashlib.sha256(got).hexdigest() != part.sha256:
            raise BadMessage(f"payload {name} has another digest than its name; send it again")
        else:
            self._kept.add(part.sha256, bytes(got), len(got))

    def text(self, value: str | Payload) -> str:
        """The text that a message carries or refers to.

        Raises:
            BadMessage: its parts did not come, or were dropped.
        """
        if isinstance(value, str):
            return value
        data = self._kept.get(value.sha256)
        if data is None:
            raise BadMessage(f"payload {value.sha256[:8]} is not here; send its parts first")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise BadMessage(f"payload {value.sha256[:8]} is not UTF-8; send JSON") from error

    def whole(self, result: Result) -> Result:
        """A result with its value as text; the payload is not needed again.

        Raises:
            BadMessage: its parts did not come.
        """
        if not isinstance(result.value, Payload):
            return result
        text = self.text(result.value)
        self._kept.drop(result.value.sha256)
        return result.model_copy(update={"value": text})
