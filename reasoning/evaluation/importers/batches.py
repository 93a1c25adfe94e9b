"""What a batch of requests came to, as OpenAI's batch interface and ``vllm run-batch`` write it."""

from __future__ import annotations

from collections.abc import Iterator

from pruning import TracesError
from reasoning.evaluation.importers.completions import as_mapping, completion_samples
from reasoning.evaluation.importers.samples import ImportedQuestion
from reasoning.evaluation.questions.content import StoredFile


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
