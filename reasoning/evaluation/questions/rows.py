"""Rows of a table, whatever it is written as: JSON, CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

from pruning import TracesError
from reasoning.evaluation.questions.content import MOST_BYTES, StoredFile, check_names

WORDS = ("question", "problem", "prompt", "input", "query", "instruction")
"""What the column of questions may be called, the likeliest first."""
GOLD = (
    *("gold", "answer", "answers", "target", "expected", "label", "final_answer", "solution"),
    *("ground_truth", "reference"),
)
"""The same for right answers."""
IDS = ("id", "question_id", "unique_id", "task_id", "qid", "doc_id", "index")
_USUAL = {*WORDS, *GOLD, *IDS}
_CSV = {".csv", ".tsv"}
_JSON = {".json", ".jsonl", ".ndjson"}


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row by column, and where it stands, as ``line 3``."""

    place: str
    cells: Mapping[str, Any]


def read_rows(path: str) -> list[TableRow]:
    """The rows of a file: JSON lines or an array of objects, CSV, or Parquet; plain or gzipped.

    Raises:
        TracesError: it can't be read, with the place, or has no rows.
        ExtraMissing: it is Parquet, and what reads that is not installed.
    """
    file = StoredFile(path)
    if file.zipped or file.pickled:
        raise TracesError("a zip file or a pickle; give JSON lines, CSV or Parquet")
    rows = list(_csv(file.text)) if _is_csv(file) else list(_objects(file))
    if not rows:
        raise TracesError("no question; give at least one")
    return rows


def is_missing(cell: Any) -> bool:
    """Whether nothing stands in a cell; NaN is what tables write for nothing."""
    return cell is None or cell == "" or cell != cell


def _is_csv(file: StoredFile) -> bool:
    if file.parquet or file.endings & _JSON:
        return False
    return bool(file.endings & _CSV) or not file.text.startswith(("{", "["))


def _objects(file: StoredFile) -> Iterator[TableRow]:
    for one in file.values:
        if not isinstance(one.value, dict):
            raise TracesError(f'{one.place}: no object; give {{"question": …}}')
        yield TableRow(place=one.place, cells=one.value)


def _csv(text: str) -> Iterator[TableRow]:
    csv.field_size_limit(MOST_BYTES)
    delimiter, text = _delimiter(text)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    head: list[str] = []
    try:
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue  # as spreadsheets write at the end
            if not head:
                head = [name.strip() for name in cells]
                check_names(head)
                continue
            place = f"line {reader.line_num}"
            if any(map(str.strip, cells[len(head) :])):
                raise TracesError(f"{place} has more cells than the header; quote commas")
            cells += [""] * (len(head) - len(cells))
            yield TableRow(place=place, cells=dict(zip(head, cells, strict=False)))
    except csv.Error as error:
        raise TracesError(f"line {reader.line_num}: {error}; mend the quotes") from error


def _delimiter(text: str) -> tuple[str, str]:
    """What stands between cells, and the text without the line in which spreadsheets say so."""
    first, _, rest = text.partition("\n")
    if first.startswith("sep=") and len(first.strip()) == len("sep=;"):
        return first[4], rest

    def known(delimiter: str) -> tuple[int, int]:
        head = next(csv.reader(StringIO(text, newline=""), delimiter=delimiter), [])
        names = [name.strip().lower() for name in head]
        return len(_USUAL.intersection(names)), len(names)

    return max(",;\t|", key=known), text  # those of many countries write semicolons
