"""Logs of chats, and what batches of requests came to, in the shapes of OpenAI's interfaces.

Batches are those of OpenAI's batch interface and of ``vllm run-batch``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

from pruning import TracesError
from reasoning.evaluation.importers.completions import (
    as_list,
    as_mapping,
    completion_samples,
    message_text,
    question_of,
)
from reasoning.evaluation.importers.samples import ImportedQuestion, ImportedSample, told_gold
from reasoning.evaluation.questions.content import StoredFile

_IDS = ("question_id", "custom_id", "task_id", "qid")
_GOLD = ("gold", "target", "expected", "ground_truth", "reference", "label")
_LONGEST_ID = 80


def is_chat(file: StoredFile) -> bool:
    """Whether the first value has messages."""
    return bool(as_list(_request(file.first).get("messages")))


def read_chats(file: StoredFile) -> Iterator[ImportedQuestion]:
    """The samples of each conversation: its choices, or the assistant's answers at its end.

    Raises:
        TracesError: a value has no answer.
    """
    for one in file.values:
        line = as_mapping(one.value)
        request, response = _request(line), as_mapping(line.get("response")) or line
        messages = as_list(request.get("messages"))
        answers = [*takewhile(_answered, map(as_mapping, reversed(messages)))][::-1]
        asked = messages[: len(messages) - len(answers)]
        samples = completion_samples(as_mapping(response.get("body")) or response) or [
            ImportedSample(text=message_text(message)) for message in answers
        ]
        if not samples or not asked:
            raise TracesError(f"{one.place}: no messages, or no answer; give both in each object")
        words = question_of(asked)
        yield ImportedQuestion(
            id=_id(line, repr(asked), words), words=words, gold=_gold(line), samples=tuple(samples)
        )


def _request(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the messages stand."""
    nested = as_mapping(line.get("request")) or as_mapping(line.get("body"))
    return as_mapping(nested.get("body")) or nested or line


def _answered(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "assistant"


def _id(line: Mapping[str, Any], asked: str, words: str) -> str:
    """The id that is stored, or the question's words, so that equal conversations are one."""
    named = next((line[name] for name in _IDS if line.get(name) is not None), None)
    if named is not None:
        return str(named)
    digest = hashlib.sha256(asked.encode(errors="replace")).hexdigest()[:8]
    return f"{' '.join(words.split())[:_LONGEST_ID]} [{digest}]"


def _gold(line: Mapping[str, Any]) -> tuple[str, ...]:
    """The right answers, where the log or its metadata has them."""
    places = (line, as_mapping(line.get("metadata")))
    found = (told_gold(at.get(name)) for at in places for name in _GOLD)
    return next(filter(None, found), ())


# Batches


def is_batch(file: StoredFile) -> bool:
    """Whether the first line is a batch's response."""
    return {"custom_id", "response"} <= file.first.keys()


def read_batch(file: StoredFile) -> Iterator[ImportedQuestion]:
    """The samples of each request that was answered; the questions stand in another file.

    Raises:
        TracesError: a line is no response.
    """
    for one in file.values:
        line = as_mapping(one.value)
        if "custom_id" not in line:
            raise TracesError(f"{one.place}: no custom_id; give what a batch came to")
        response = as_mapping(line.get("response"))
        samples = completion_samples(as_mapping(response.get("body")))
        if not samples and line.get("error") is None and response.get("status_code") in (None, 200):
            raise TracesError(
                f"{one.place}: no choices in response.body; give chats or completions"
            )
        yield ImportedQuestion(id=str(line["custom_id"]), words="", gold=(), samples=tuple(samples))
