"""A file of traces as it stands on the disk: bytes, or JSON values one after the other."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pruning import TracesError

MOST_BYTES = 1 << 30  # of one file, unpacked; a longer one is refused by its length
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_SPACE = re.compile(r"\s*")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")


@dataclass(frozen=True, kw_only=True)
class JsonValue:
    """One JSON value of a file, and where it stands, as ``line 3``."""

    place: str
    value: Any


class TracesFile:
    """What a file holds; it is read once, so that it may be a pipe.

    Attributes:
        path: As it was given.
        data: Its bytes, unpacked where they were gzipped.
    """

    def __init__(self, path: str) -> None:
        """Read the file.

        Raises:
            TracesError: it can't be read, or is too long.
        """
        self.path = path
        try:
            with open(path, "rb") as raw:
                packed = raw.peek(2)[:2] == _GZIP
                self.data = (gzip.GzipFile(fileobj=raw) if packed else raw).read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or "damaged"
            raise TracesError(f"{reason}; give a file of traces") from error
        if len(self.data) > MOST_BYTES:
            raise TracesError(f"longer than {MOST_BYTES} bytes; split it")

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return Path(self.path).name

    @property
    def stem(self) -> str:
        """The file's name without endings."""
        return self.name.partition(".")[0]

    @property
    def zipped(self) -> bool:
        return self.data.startswith(_ZIP)

    @property
    def pickled(self) -> bool:
        return _PICKLE.match(self.data) is not None

    @cached_property
    def values(self) -> list[JsonValue]:
        """Its JSON values: on lines, in one array, or one after the other; none in a binary file.

        Raises:
            TracesError: one is no JSON, with its place, or the file is not UTF-8.
        """
        return [] if self.zipped or self.pickled else list(json_values(self.data))

    @property
    def first(self) -> dict[str, Any]:
        """The first JSON value where it is an object, else an empty one."""
        value = self.values[0].value if self.values else None
        return value if isinstance(value, dict) else {}


def json_values(data: bytes) -> Iterator[JsonValue]:
    r"""JSON values on lines, which ``\n`` alone ends; in one array; or broken over lines.

    Raises:
        TracesError: one is no JSON, with its place.
    """
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise TracesError("not UTF-8; give JSON lines, plain or gzipped") from error
    line = text.partition("\n")[0]
    broken = text.startswith(("[", "{")) and line != text and _parsed(line) is None
    found = _parsed(text) if broken or text.startswith("[") else None
    if found is not None and len(found) == 1 and isinstance(found[0], list):
        for number, item in enumerate(found[0], 1):
            yield JsonValue(place=f"item {number}", value=item)
    elif broken and found is not None:
        for number, value in enumerate(found, 1):
            yield JsonValue(place=f"value {number}", value=value)
    else:
        yield from _lines(text)


def _parsed(text: str) -> list[Any] | None:
    """JSON values that follow each other in a text, however it is broken; None where one fails."""
    decoder, found, at = json.JSONDecoder(), list[Any](), 0
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        found.append(value)
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
    return found


def _lines(text: str) -> Iterator[JsonValue]:
    for number, line in enumerate(text.split("\n"), 1):  # a string may hold other line breaks
        if line.strip():
            try:
                yield JsonValue(place=f"line {number}", value=json.loads(line))
            except RecursionError as error:
                raise TracesError(f"line {number}: nested too deeply; give JSON lines") from error
            except ValueError as error:
                raise TracesError(f"line {number}: not JSON ({error}); give JSON lines") from error
