"""A file as it stands on the disk: bytes, JSON values one after the other, or rows of a table."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.errors import importing
from pruning import TracesError, json_lines

MOST_BYTES = 1 << 30  # of one file, unpacked; a longer one is refused by its length
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_PARQUET = b"PAR1"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SPACE = re.compile(r"\s*")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")


@dataclass(frozen=True, kw_only=True)
class JsonValue:
    """One JSON value of a file, and where it stands, as ``line 3``."""

    place: str
    value: Any


class StoredFile:
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
        except (OSError, EOFError, ValueError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or "damaged"
            raise TracesError(f"{reason}; give a file that can be read") from error
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
    def endings(self) -> set[str]:
        """Those of its name, in small letters: ``.csv`` and ``.gz``."""
        return {one.lower() for one in Path(self.path).suffixes}

    @property
    def zipped(self) -> bool:
        return self.data.startswith(_ZIP)

    @property
    def pickled(self) -> bool:
        return _PICKLE.match(self.data) is not None or bool({".pkl", ".pickle"} & self.endings)

    @property
    def parquet(self) -> bool:
        return self.data.startswith(_PARQUET) or ".parquet" in self.endings

    @cached_property
    def text(self) -> str:
        """Its text, without a mark of its encoding and spaces around it.

        Raises:
            TracesError: it is neither UTF-8 nor UTF-16 with a mark, or no text.
        """
        marked = self.data.startswith(_UTF_16)
        try:
            text = self.data.decode("utf-16" if marked else "utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise TracesError("not UTF-8; save it as UTF-8, plain or gzipped") from error
        if "\0" in text:
            raise TracesError("no text, as it has NUL bytes; save it as UTF-8, plain or gzipped")
        return text

    @cached_property
    def values(self) -> list[JsonValue]:
        """Its JSON values or rows of Parquet; none in a zip file or a pickle.

        JSON stands on lines, in one array, or one after the other.

        Raises:
            TracesError: one is no JSON, with its place, or the file is neither UTF-8 nor Parquet.
            ExtraMissing: what reads Parquet is not installed.
        """
        if self.zipped or self.pickled:
            return []
        return parquet_rows(self.data) if self.parquet else list(json_values(self.text))

    @property
    def first(self) -> dict[str, Any]:
        """The first JSON value where it is an object, else an empty one."""
        value = self.values[0].value if self.values else None
        return value if isinstance(value, dict) else {}


def parquet_rows(data: bytes) -> list[JsonValue]:
    """The rows of a table.

    Raises:
        TracesError: it is damaged, or has two columns of one name.
        ExtraMissing: what reads it is not installed.
    """
    with importing("eval", "a Parquet file"):
        from pyarrow import ArrowException, BufferReader, parquet
    try:
        table = parquet.ParquetFile(BufferReader(data)).read()
        names, rows = table.column_names, table.to_pylist()
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise TracesError(f"no Parquet file that can be read ({reason}); write it anew") from error
    check_names(names)
    return [JsonValue(place=f"row {number}", value=row) for number, row in enumerate(rows, 1)]


def check_names(names: Sequence[str]) -> None:
    """Raise `TracesError` if two columns have one name; nameless ones may be many."""
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise TracesError(f"column {twice[0]!r} is there twice; rename one")


def json_values(text: str) -> Iterator[JsonValue]:
    r"""JSON values on lines, which ``\n`` alone ends; in one array; or broken over lines.

    Raises:
        TracesError: one is no JSON, with its place.
    """
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
        lines = text.split("\n")  # a string may hold other line breaks
        yield from (JsonValue(place=place, value=value) for place, value in json_lines(lines))


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
