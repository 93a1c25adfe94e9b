"""Questions to measure on: from a user's own file, or drawn by a seed."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from orchestrator.errors import InvalidValue
from pruning import TracesError, answer_texts
from reasoning.evaluation.questions.drawn import DRAWN, draw_problems
from reasoning.evaluation.questions.rows import GOLD, IDS, WORDS, TableRow, is_missing, read_rows
from reasoning.evaluation.questions.word_problems import draw_word_problems
from reasoning.problems import Problem, pose
from reasoning.problems.answers import AUTO, AnswerFormat, read_answer
from reasoning.registry import convert, nearest

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

    A part of a column that has objects is named with a dot: ``answer.value``.
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
    try:
        rows = read_rows(source)
    except TracesError as error:
        raise InvalidValue(f"{source}: {error}") from error
    reader = _RowReader(source, columns or QuestionColumns(), rows, graded=graded)
    questions = [reader.question(number, row) for number, row in enumerate(rows, 1)]
    places: dict[str, str] = {}
    for question, row in zip(questions, rows, strict=True):
        if question.id in places:
            raise InvalidValue(
                f"{source}: {row.place}: id {question.id!r} is that of {places[question.id]} too; "
                "give each its own"
            )
        places[question.id] = row.place
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


class _RowReader:
    """Makes questions of rows, once it is known which columns hold what."""

    def __init__(
        self, source: str, columns: QuestionColumns, rows: Sequence[TableRow], *, graded: bool
    ) -> None:
        self._source = source
        self._template = columns.template
        self._graded = graded
        known = list(dict.fromkeys(key for row in rows[:1000] for key in row.cells))
        self._known = known
        words = None if columns.template else self._column("question", columns.question, WORDS)
        self._words = words
        gold = [one for one in GOLD if one != words]
        self._gold = self._column("gold", columns.gold, gold, needed=not graded)
        self._id = self._column("id", columns.id, IDS, needed=False)

    def _column(
        self, what: str, named: str | None, usual: Iterable[str], *, needed: bool = True
    ) -> str | None:
        has = ", ".join(self._known).replace("\n", "\\n")
        if named is not None:
            if not {named, named.partition(".")[0]} & set(self._known):
                raise InvalidValue(
                    f"{what}: {self._source} has no column {named!r}; "
                    f"{nearest(named, self._known)}it has {has}"
                )
            return named
        lower = {key.lower(): key for key in reversed(self._known)}
        found = next((lower[one] for one in usual if one in lower), None)
        if found is None and needed:
            raise InvalidValue(f"{what}: {self._source} has {has}; name the column by --{what}")
        return found

    def question(self, number: int, row: TableRow) -> EvalQuestion:
        """The question of one row.

        Raises:
            InvalidValue: what is needed is not there.
        """
        text = self._filled(row) if self._template else self._text(row)
        gold = () if self._gold is None else tuple(self._golds(row, self._gold))
        if not gold and not self._graded:
            raise self._wrong(row, f"no right answer in {self._gold!r}; give one, or --grader")
        try:
            "".join((text, *gold)).encode()
        except UnicodeEncodeError as error:
            raise self._wrong(row, "half a character (a lone surrogate); mend the text") from error
        named = None if self._id is None else _cell(row, self._id)
        id = str(number) if is_missing(named) else str(named)
        return EvalQuestion(id=id, text=text, gold=gold, fields=row.cells)

    def _wrong(self, row: TableRow, what: str) -> InvalidValue:
        return InvalidValue(f"{self._source}: {row.place}: {what}")

    def _text(self, row: TableRow) -> str:
        column = self._words or ""
        found = _cell(row, column)
        if isinstance(found, list | dict):
            raise self._wrong(
                row,
                f"{column!r} is no text but has parts; take one by --template "
                f"'{{{column}{_inside(found)}}}'",
            )
        if not isinstance(found, str) or not found.strip():
            raise self._wrong(row, f"no text in {column!r}; give the question there")
        return found

    def _golds(self, row: TableRow, column: str) -> Iterator[str]:
        """The right answers in a cell: as they stand, or as a worked solution states them."""
        found = _cell(row, column)
        try:
            texts = answer_texts(found)
        except TracesError as error:
            inside = next(iter(found), "") if isinstance(found, dict) else "FIELD"
            raise self._wrong(
                row, f"{column}: {error}; name a part of it by --gold {column}.{inside}"
            ) from error
        for text in texts:
            worked = column.lower() == "solution" or "####" in text or "\\boxed" in text
            yield (read_answer(text).answer if worked else None) or text

    def _filled(self, row: TableRow) -> str:
        try:
            text = string.Formatter().vformat(self._template or "", (), row.cells)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            said = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidValue(
                f"template: {self._source}: {row.place}: {said}; it has {', '.join(row.cells)}"
            ) from error
        if not text.strip():
            raise self._wrong(row, "the template is empty here; name a column that has text")
        return text


def _inside(value: Any) -> str:
    """How a template writes the first text in a value that has parts."""
    path = ""
    while isinstance(value, list | dict) and value:
        parts = dict(enumerate(value)) if isinstance(value, list) else value
        key = "content" if "content" in parts else next(iter(parts))
        path, value = f"{path}[{key}]", parts[key]
    return path


def _cell(row: TableRow, column: str) -> Any:
    """What stands in a column, or in a part of it: ``answer.value``."""
    if column in row.cells:
        return row.cells[column]
    found: Any = row.cells
    for part in column.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
