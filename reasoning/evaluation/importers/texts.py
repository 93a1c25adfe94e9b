"""Questions with a list of what was answered, as offline sampling and data sets store them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pruning import TracesError
from reasoning.evaluation.importers.completions import ENDS, as_count, as_list, as_mapping
from reasoning.evaluation.importers.samples import ImportedQuestion, ImportedSample, told_gold
from reasoning.evaluation.questions.content import JsonValue, StoredFile
from reasoning.evaluation.questions.rows import GOLD, IDS, WORDS, is_missing

ANSWERS = ("generations", "completions", "responses", "samples", "outputs", "solutions", "texts")
"""What the column of all that was answered may be called."""


def is_texts(file: StoredFile) -> bool:
    """Whether the first value has a question and a list of texts."""
    return _words(file.first) is not None and _samples(file.first) is not None


def read_texts(file: StoredFile) -> Iterator[ImportedQuestion]:
    """The samples of each question.

    Raises:
        TracesError: a value has no question, or no list of texts.
    """
    for number, one in enumerate(file.values, 1):
        yield _question(one, number)


def _question(one: JsonValue, number: int) -> ImportedQuestion:
    row = as_mapping(one.value)
    words, samples = _words(row), _samples(row)
    if words is None or samples is None:
        raise TracesError(f"{one.place}: no question, or no list of texts; give both")
    named = next((row[name] for name in IDS if not is_missing(row.get(name))), number)
    gold = (told_gold(row.get(name)) for name in GOLD)
    return ImportedQuestion(
        id=str(named), words=words, gold=next(filter(None, gold), ()), samples=samples
    )


def _words(row: Mapping[str, Any]) -> str | None:
    return next((row[name].strip() for name in WORDS if isinstance(row.get(name), str)), None)


def _samples(row: Mapping[str, Any]) -> tuple[ImportedSample, ...] | None:
    """The texts, bare or as ``{"text": …}``; None where no column is a list of them."""
    for values in (row[name] for name in ANSWERS if isinstance(row.get(name), list)):
        found = [as_mapping(one) or {"text": one} for one in values]
        if all(isinstance(one.get("text"), str) for one in found):
            return tuple(map(_sample, found))
    return None


def _sample(one: Mapping[str, Any]) -> ImportedSample:
    return ImportedSample(
        text=one["text"],
        tokens=as_count(len(as_list(one.get("token_ids")))),
        end=ENDS.get(str(one.get("finish_reason")), "own"),
    )
