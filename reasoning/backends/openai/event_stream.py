"""Server-sent events, as the standard has them: only CR, LF and CRLF end a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Event = dict[str, Any]

MOST_BYTES = 2**25
"""Of one event; a longer one is malformed."""


class Malformed(Exception):
    """What a server did that is no part of an answer, to be said after its name."""


class ErrorEvent(Exception):
    """A server reports an error in place of an event: its ``status``, where it says one."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class EventParser:
    """Cuts bytes into events; a JSON object in place of a stream is one event.

    Attributes:
        done: Whether ``[DONE]`` came.
    """

    def __init__(self) -> None:
        self.done = False
        self._rest = b""
        self._data = b""
        self._kind = b""
        self._strange = b""
        self._began = self._after_cr = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that end in these bytes.

        Raises:
            Malformed: they are no events.
            ErrorEvent: the server reports an error.
        """
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = lines.pop() if lines and lines[-1][-1:] not in (b"\r", b"\n") else b""
        if len(self._rest) + len(self._data) + len(self._strange) > MOST_BYTES:
            raise Malformed(f"sent an event of more than {MOST_BYTES:,} bytes")
        for line in lines:
            found = self._line(line.rstrip(b"\r\n"))
            if found is not None:
                yield found

    def end(self) -> Iterator[Event]:
        """What is left when the stream has ended."""
        yield from self.feed(b"\n\n")
        if self._strange.startswith(b"{"):
            with suppress(ValueError):
                yield parsed(self._strange)
                self.done = True
                return
        if self._strange:
            raise Malformed(f"sent no event stream ({_shown(self._strange)})")

    def _line(self, line: bytes) -> Event | None:
        """The event that a line completes, which need not wait for the blank line behind it."""
        if self.done:
            return None
        if not self._began:
            line, self._began = line.removeprefix(b"\xef\xbb\xbf"), True
        if not line:
            kind, data = self._kind, self._data
            self._kind = self._data = b""
            if data.strip() and kind in (b"", b"message", b"error"):
                raise Malformed(f"sent a malformed event ({_shown(data)})")
            return None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._kind = value
        if name != b"data":
            if name not in (b"", b"event", b"id", b"retry"):
                self._strange += line
            return None
        self._strange = b""
        if value.strip() == b"[DONE]":
            self.done = True
            return None
        self._data = b"\n".join((self._data, value)) if self._data else value
        try:
            found = parsed(self._data)
        except ValueError:
            return None  # perhaps it goes on in another line
        self._data = b""
        return found


def parsed(data: bytes) -> Event:
    """The object in an event or a whole answer.

    Raises:
        ValueError: it is no JSON.
        Malformed: it is no object.
        ErrorEvent: it reports an error.
    """
    try:
        found = json.loads(data.decode("utf-8", "replace"), strict=False)
    except RecursionError as error:
        raise Malformed("sent an event that is nested too deeply") from error
    if not isinstance(found, dict):
        raise Malformed(f"sent {_shown(data)} as an event")
    failed = found if found.get("object") == "error" else found.get("error")
    if failed:
        message = failed.get("message", failed) if isinstance(failed, dict) else failed
        code = failed.get("code") if isinstance(failed, dict) else None
        raise ErrorEvent(str(message)[:500], code if isinstance(code, int) else 500)
    return found


def _shown(data: bytes) -> str:
    return repr(data[:60].decode("utf-8", "replace"))


def is_framed(headers: Any) -> bool:
    """Whether HTTP tells the end of the answer from a connection that broke."""
    return "chunked" in headers.get("transfer-encoding", "") or "content-length" in headers
