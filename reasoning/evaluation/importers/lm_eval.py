"""What lm-eval (the Evaluation Harness) writes with ``--log_samples``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pruning import TracesError
from reasoning.evaluation.importers.completions import as_list, as_mapping, question_of
from reasoning.evaluation.importers.samples import ImportedQuestion, ImportedSample, told_gold
from reasoning.evaluation.questions.content import JsonValue, StoredFile
from reasoning.evaluation.questions.rows import WORDS

_FILE = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d\d-\d\dT.*")
_NOTHING_FOUND = "[invalid]"


def is_lm_eval(file: StoredFile) -> bool:
    """Whether the first line is one of lm-eval's samples."""
    return {"doc_id", "doc", "resps"} <= file.first.keys()


def read_lm_eval(file: StoredFile) -> Iterator[ImportedQuestion]:
    """A question for each document; each filter has a line of it, with the same responses.

    Raises:
        TracesError: a line has no texts, or is none of lm-eval's.
    """
    lines: dict[str, list[JsonValue]] = {}
    for one in file.values:
        line = as_mapping(one.value)
        if not {"doc_id", "resps"} <= line.keys():
            raise TracesError(f"{one.place}: no doc_id and resps; give one file of lm-eval")
        lines.setdefault(str(line["doc_id"]), []).append(one)
    found = _FILE.fullmatch(file.name)
    task = found["task"] if found else file.stem
    for id, several in lines.items():
        yield _question(f"{task}/{id}", several)


def _question(id: str, lines: Sequence[JsonValue]) -> ImportedQuestion:
    line = as_mapping(lines[0].value)
    texts = _texts(line, lines[0].place)
    for other in lines[1:]:
        if as_mapping(other.value).get("resps") != line["resps"]:
            raise TracesError(
                f"{other.place}: document {line['doc_id']} has other responses than in "
                f"{lines[0].place}; give each run's file by itself"
            )
    # Of several filters nobody knows which one is meant; the texts are read instead.
    filtered = as_list(line.get("filtered_resps")) if len(lines) == 1 else []
    stored = filtered if len(filtered) == len(texts) and filtered != texts else [None] * len(texts)
    verdict = _verdict(line) if len(lines) == len(texts) == 1 else None
    return ImportedQuestion(
        id=id,
        words=_words(line),
        gold=told_gold(line.get("target")),
        samples=tuple(
            ImportedSample(text=text, answer=_answer(answer), right=verdict)
            for text, answer in zip(texts, stored, strict=True)
        ),
    )


def _texts(line: Mapping[str, Any], place: str) -> list[str]:
    """The responses of all repeats."""
    texts = [text for several in as_list(line["resps"]) for text in as_list(several)]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise TracesError(
            f"{place}: log-likelihoods and no texts; give the samples of a generate_until task"
        )
    return texts


def _answer(filtered: Any) -> str | None:
    """What a filter extracted; empty where it found nothing."""
    if filtered is None:
        return None
    return "" if filtered == _NOTHING_FOUND else str(filtered)


def _verdict(line: Mapping[str, Any]) -> bool | None:
    """What the task's first measure said, where it is a yes or no."""
    names = as_list(line.get("metrics"))
    value = line.get(str(names[0])) if names else None
    return bool(value) if value in (0, 1) else None


def _words(line: Mapping[str, Any]) -> str:
    """What was asked: a field of the document, or else what the model was given."""
    document = as_mapping(line.get("doc"))
    named = next((document[name] for name in WORDS if isinstance(document.get(name), str)), None)
    if named is not None:
        return str(named).strip()
    given = as_mapping(as_mapping(line.get("arguments")).get("gen_args_0")).get("arg_0")
    text = str(given[0] if isinstance(given, list) and given else given or "")
    try:
        return question_of(as_list(json.loads(text))) or text
    except ValueError:
        return text
