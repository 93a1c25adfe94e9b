"""Right answers, and questions, that stand in another file than the samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pruning import TracesError
from reasoning.evaluation.importers.completions import as_list, as_mapping, question_of
from reasoning.evaluation.importers.content import TracesFile
from reasoning.evaluation.importers.samples import ImportedQuestion
from reasoning.evaluation.questions.files import GOLD, IDS, WORDS

_IDS = ("custom_id", *IDS)
_GOLD = (*GOLD, "ground_truth", "reference")
_SAMPLE = re.compile(r"(?:[-_:/#.]+|[-_:/#.]*(?:sample|rep|try|trial|run|seed)[-_:/#.]*)\d+")
"""What stands behind a question's id in the id of one of its samples."""


@dataclass(frozen=True, kw_only=True)
class GoldFile:
    """What a file says of questions, by their ids and by their words.

    Attributes:
        name: The file's, for messages.
    """

    name: str
    by_id: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> GoldFile:
        """JSON lines with an id or the question, and the right answer.

        Raises:
            TracesError: it can't be read, or a line lacks one of these.
        """
        by_id, by_words = dict[str, Mapping[str, Any]](), dict[str, Mapping[str, Any]]()
        for one in TracesFile(path).values:
            row = as_mapping(one.value)
            id, words = _field(row, _IDS), _words(row)
            if _field(row, _GOLD) is None or (id is None and not words):
                raise TracesError(
                    f"{one.place}: give an id or the question, and gold: the right answer"
                )
            if id is not None:
                by_id[str(id)] = row
            if words:
                by_words[words] = row
        return cls(name=path, by_id=by_id, by_words=by_words)

    def complete(self, question: ImportedQuestion) -> ImportedQuestion:
        """The question with its words and right answers, and under its own id.

        Raises:
            TracesError: the file does not have it.
        """
        id = next((one for one in (question.id, _before(question.id)) if one in self.by_id), None)
        row = self.by_words.get(question.words) if id is None else self.by_id[id]
        if row is None:
            raise TracesError(f"{question.id}: not in {self.name}; give its id and gold there")
        gold = _field(row, _GOLD)
        return replace(
            question,
            id=question.id if id is None else id,
            words=_words(row) or question.words,
            gold=tuple(map(str, gold if isinstance(gold, list) else [gold])),
        )


def _before(id: str) -> str:
    """An id without the number of a sample at its end."""
    ends = [found.start() for found in _SAMPLE.finditer(id) if found.end() == len(id)]
    return id[: ends[0]] if ends else id


def _field(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _words(row: Mapping[str, Any]) -> str:
    """What is asked: a text of its own, or the messages of a request."""
    found = _field(row, WORDS)
    if isinstance(found, str):
        return found.strip()
    body = as_mapping(row.get("body")) or row
    prompt = body.get("prompt")
    return question_of(as_list(body.get("messages"))) or (prompt if isinstance(prompt, str) else "")
