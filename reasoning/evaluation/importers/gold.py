"""Right answers, and questions, that stand in another file than the samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pruning import TracesError, answer_texts
from reasoning.evaluation.importers.completions import as_list, as_mapping, question_of
from reasoning.evaluation.importers.samples import ImportedQuestion
from reasoning.evaluation.questions.rows import GOLD, IDS, WORDS, TableRow, is_missing, read_rows

_IDS = ("custom_id", *IDS)
_SAMPLE = re.compile(r"(?:[-_:/#.]+|[-_:/#.]*(?:sample|rep|try|trial|run|seed)[-_:/#.]*)\d+")
"""What stands behind a question's id in the id of one of its samples."""


@dataclass(frozen=True, kw_only=True)
class GoldAnswer:
    """What a row says of one question; ``words`` are empty where it only has an id."""

    place: str
    words: str
    right: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GoldFile:
    """What a file says of questions, by their ids and by their words.

    Attributes:
        name: The file's, for messages.
    """

    name: str
    by_id: dict[str, GoldAnswer] = field(default_factory=dict)
    by_words: dict[str, GoldAnswer] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> GoldFile:
        """Rows of JSON, CSV or Parquet with an id or the question, and the right answer.

        Raises:
            TracesError: it can't be read, a row lacks one of these, or two contradict each other.
            ExtraMissing: it is Parquet, and what reads that is not installed.
        """
        file = cls(name=path)
        for row in read_rows(path):
            try:
                file.take(row)
            except TracesError as error:
                raise TracesError(f"{row.place}: {error}") from error
        return file

    def take(self, row: TableRow) -> None:
        """Add what a row says.

        Raises:
            TracesError: it lacks the answer or whose it is, or an earlier row says otherwise.
        """
        id, words = _field(row.cells, _IDS), _words(row.cells)
        right = tuple(answer_texts(_field(row.cells, GOLD)))
        if not right or (id is None and not words):
            raise TracesError("give an id or the question, and gold: the right answer")
        found = GoldAnswer(place=row.place, words=words, right=right)
        keys = [(self.by_id, str(id))] if id is not None else []
        for known, key in (*keys, *([(self.by_words, words)] if words else [])):
            before = known.setdefault(key, found)
            if before.right != right:
                raise TracesError(
                    f"{key[:80]!r} has another right answer in {before.place}; give one"
                )

    def complete(self, question: ImportedQuestion) -> ImportedQuestion:
        """The question with its words and right answers, and under its own id.

        Raises:
            TracesError: the file does not have it.
        """
        id = next((one for one in (question.id, _before(question.id)) if one in self.by_id), None)
        found = self.by_words.get(question.words) if id is None else self.by_id[id]
        if found is None:
            raise TracesError(f"{question.id}: not in {self.name}; give its id and gold there")
        return replace(
            question,
            id=question.id if id is None else id,
            words=found.words or question.words,
            gold=found.right,
        )


def _before(id: str) -> str:
    """An id without the number of a sample at its end."""
    ends = [found.start() for found in _SAMPLE.finditer(id) if found.end() == len(id)]
    return id[: ends[0]] if ends else id


def _field(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if not is_missing(row.get(name))), None)


def _words(row: Mapping[str, Any]) -> str:
    """What is asked: a text of its own, or the messages of a request."""
    found = _field(row, WORDS)
    if isinstance(found, str):
        return found.strip()
    body = as_mapping(row.get("body")) or row
    prompt = body.get("prompt")
    return question_of(as_list(body.get("messages"))) or (prompt if isinstance(prompt, str) else "")
