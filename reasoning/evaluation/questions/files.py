"""Questions to measure on: from a user's own file, or drawn by a seed."""

from __future__ import annotations

import csv
import json
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

from orchestrator.errors import InvalidValue, importing
from reasoning.evaluation.questions.drawn import DRAWN, draw_problems
from reasoning.evaluation.questions.word_problems import draw_word_problems
from reasoning.problems import Problem, pose
from reasoning.problems.answers import AUTO, AnswerFormat, read_answer
from reasoning.registry import convert, nearest

WORDS = ("question", "problem", "prompt", "input", "query", "instruction")
"""What the column of questions may be called, the likeliest first."""
GOLD = ("gold", "answer", "answers", "target", "expected", "label", "final_answer", "solution")
"""The same for right answers."""
IDS = ("id", "question_id", "unique_id", "task_id", "qid", "doc_id", "index")
DRAWN_COUNT = 100
"""How many problems are drawn where nothing says so."""


@dataclass(frozen=True, kw_only=True)
class EvalQuestion:
    """One question to measure on.

    Attributes:
        gold: Its right answers; empty where a domain's verifier, or a grader, knows them.
        domain: Whose problem the words state; None for any question.
        fields: Its whole row of the file, for graders.
    """

    id: str
    text: str
    gold: tuple[str, ...] = ()
    domain: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def posed(self, *, trained: bool, answer_format: AnswerFormat = AUTO) -> Problem:
        """The problem that a model is set; ``trained`` as in `pose`."""
        return pose(self.text, trained=trained, domain=self.domain, answer_format=answer_format)


@dataclass(frozen=True, kw_only=True)
class QuestionColumns:
    """Which columns of a file hold what; None for those that are usually called so.

    Attributes:
        template: The question with ``{column}`` in place of values, instead of one column.
    """

    question: str | None = None
    gold: str | None = None
    id: str | None = None
    template: str | None = None


def load_questions(
    source: str,
    columns: QuestionColumns | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    graded: bool = False,
) -> list[EvalQuestion]:
    """The questions of a file (JSON lines, CSV, Parquet), or drawn ones, as ``countdown``.

    Args:
        source: The file; or what is drawn, perhaps with a size: ``countdown:numbers=5``.
        limit: So many of the file's questions, chosen by the seed and in the file's order; a
            larger limit adds to them.
        graded: Whether a grader judges answers, so that right ones need not be there.

    Raises:
        InvalidValue: the file can't be read, or a question or right answer is missing.
    """
    if source.partition(":")[0] in DRAWN and not Path(source).exists():
        return _drawn(source, DRAWN_COUNT if limit is None else limit, seed)
    rows = _rows(Path(source))
    reader = _RowReader(source, columns or QuestionColumns(), rows, graded=graded)
    questions = [reader.question(number, row) for number, row in enumerate(rows, 1)]
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise InvalidValue(f"{source}: id {question.id!r} is there twice; give each its own")
        seen.add(question.id)
    return _limited(questions, limit, seed)


def _limited(questions: list[EvalQuestion], limit: int | None, seed: int) -> list[EvalQuestion]:
    if limit is None or limit >= len(questions):
        return questions
    order = list(range(len(questions)))
    Random(seed).shuffle(order)
    return [questions[place] for place in sorted(order[:limit])]


# ---- drawn ---------------------------------------------------------------------------------------


def _drawn(source: str, count: int, seed: int) -> list[EvalQuestion]:
    name, _, settings = source.partition(":")
    key, _, value = settings.partition("=")
    size = DRAWN[name]
    if settings and (key != "numbers" or size is None):
        raise InvalidValue(
            f"questions: {source!r}: give {name}"
            + ("" if size is None else f":numbers={size.usual}")
        )
    if name == "word-problems":
        return [
            EvalQuestion(id=f"{name}-{seed}-{at}", text=one.question, gold=(one.value,))
            for at, one in enumerate(draw_word_problems(count, seed=seed))
        ]
    numbers = 4 if size is None else size.usual
    if settings and size is not None:
        numbers = convert("numbers", value, int)
        if numbers not in size.allowed:
            low, high = size.allowed.start, size.allowed.stop - 1
            raise InvalidValue(f"numbers: {numbers} is out of range; give {low} to {high}")
    drawn = draw_problems(name, count, numbers=numbers, seed=seed)
    return [EvalQuestion(id=one.question, text=one.question, domain=name) for one in drawn]


# ---- files ---------------------------------------------------------------------------------------


def _rows(path: Path) -> list[Mapping[str, Any]]:
    """The rows of a file, by column.

    Raises:
        InvalidValue: it can't be read.
        ExtraMissing: it is Parquet, and what reads that is not installed.
    """
    try:
        if path.suffix == ".parquet":
            rows = _parquet(path)
        else:
            text = path.read_text(encoding="utf-8-sig")
            rows = _csv(text, path) if path.suffix in (".csv", ".tsv") else _json(text, path)
    except OSError as error:
        raise InvalidValue(f"{path}: {error.strerror}; give a file of questions") from error
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{path}: not UTF-8; give JSON lines, CSV or Parquet") from error
    if not rows:
        raise InvalidValue(f"{path}: no question; give at least one")
    return rows


def _parquet(path: Path) -> list[Mapping[str, Any]]:
    path.stat()
    with importing("eval", "a Parquet file"):
        from pyarrow import ArrowInvalid, parquet
    try:
        return list(parquet.read_table(path).to_pylist())
    except ArrowInvalid as error:
        raise InvalidValue(f"{path}: no Parquet file ({error}); give one") from error


def _csv(text: str, path: Path) -> list[Mapping[str, Any]]:
    head = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # spreadsheets of many countries write semicolons
    rows = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter)
    try:
        found: list[Mapping[str, Any]] = list(rows)
    except csv.Error as error:
        raise InvalidValue(f"{path}: line {rows.line_num}: {error}; give CSV") from error
    for number, row in enumerate(found, 2):
        if None in row:
            raise InvalidValue(f"{path}: row {number} has more cells than the header; quote commas")
    return found


def _json(text: str, path: Path) -> list[Mapping[str, Any]]:
    whole = text.lstrip().startswith("[")
    found = _array(text, path) if whole else list(_lines(text, path))
    for number, row in enumerate(found, 1):
        if not isinstance(row, dict):
            raise InvalidValue(f'{path}: row {number} is no object; give {{"question": …}}')
    return found


def _array(text: str, path: Path) -> list[Any]:
    try:
        return list(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"{path}: not JSON ({error}); give JSON lines or an array") from error


def _lines(text: str, path: Path) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):  # texts may hold other line breaks
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidValue(f"{path}: line {number}: not JSON ({error})") from error


class _RowReader:
    """Makes questions of rows, once it is known which columns hold what."""

    def __init__(
        self,
        source: str,
        columns: QuestionColumns,
        rows: Sequence[Mapping[str, Any]],
        *,
        graded: bool,
    ) -> None:
        self._source = source
        self._template = columns.template
        self._graded = graded
        known = list(dict.fromkeys(key for row in rows[:1000] for key in row))
        self._known = known
        words = None if columns.template else self._column("question", columns.question, WORDS)
        self._words = words
        gold = [one for one in GOLD if one != words]
        self._gold = self._column("gold", columns.gold, gold, needed=not graded)
        self._id = self._column("id", columns.id, IDS, needed=False)

    def _column(
        self, what: str, named: str | None, usual: Iterable[str], *, needed: bool = True
    ) -> str | None:
        if named is not None:
            if named not in self._known:
                raise InvalidValue(
                    f"{what}: {self._source} has no column {named!r}; "
                    f"{nearest(named, self._known)}it has {', '.join(self._known)}"
                )
            return named
        lower = {key.lower(): key for key in reversed(self._known)}
        found = next((lower[one] for one in usual if one in lower), None)
        if found is None and needed:
            raise InvalidValue(
                f"{what}: {self._source} has {', '.join(self._known)}; name the column by --{what}"
            )
        return found

    def question(self, number: int, row: Mapping[str, Any]) -> EvalQuestion:
        """The question of one row.

        Raises:
            InvalidValue: what is needed is not there.
        """
        text = self._filled(number, row) if self._template else row.get(self._words or "")
        if not isinstance(text, str) or not text.strip():
            raise InvalidValue(f"{self._source}: row {number} has no text as its question; mend it")
        gold = () if self._gold is None else tuple(_golds(row.get(self._gold), self._gold))
        if not gold and not self._graded:
            raise InvalidValue(
                f"{self._source}: row {number} has no right answer in {self._gold!r}; give one, "
                "or --grader"
            )
        named = None if self._id is None else row.get(self._id)
        id = str(number) if named in (None, "") else str(named)
        return EvalQuestion(id=id, text=text, gold=gold, fields=row)

    def _filled(self, number: int, row: Mapping[str, Any]) -> str:
        try:
            return string.Formatter().vformat(self._template or "", (), row)
        except (KeyError, IndexError, ValueError) as error:
            raise InvalidValue(
                f"template: row {number} has no {error}; it has {', '.join(row)}"
            ) from error


def _golds(value: Any, column: str) -> Iterator[str]:
    """The right answers in a cell: as they stand, or as a worked solution states them."""
    if isinstance(value, list):
        for one in value:
            yield from _golds(one, column)
    elif value is not None and not isinstance(value, dict):
        text = str(value).strip()
        worked = column.lower() == "solution" or "####" in text or "\\boxed" in text
        found = read_answer(text).answer if worked else None
        if found or text:
            yield found or text
