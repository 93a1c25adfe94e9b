"""Pickles of DeepConf (facebookresearch/deepconf): one question, its traces and confidences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pruning import TracesError
from reasoning.evaluation.importers.completions import as_count, as_mapping, as_numbers
from reasoning.evaluation.importers.samples import (
    ImportedQuestion,
    ImportedSample,
    SampleEnd,
    told_gold,
)
from reasoning.evaluation.importers.unpickling import plain_pickle
from reasoning.evaluation.questions.content import StoredFile

_ENDS: dict[str, SampleEnd] = {"length": "length", "gconf_threshold": "stopped"}


def is_deepconf(file: StoredFile) -> bool:
    """Whether it is a pickle; what is in it is not looked at yet."""
    return file.pickled


def read_deepconf(file: StoredFile) -> Iterator[ImportedQuestion]:
    """The one question of a pickle, or the several in a list.

    Raises:
        TracesError: it names more than plain data, is damaged, or is none of DeepConf's.
        ExtraMissing: it needs numpy.
    """
    held = plain_pickle(file.data)
    for result in held if isinstance(held, list) else [held]:
        yield _question(as_mapping(result), file.stem)


def _question(result: Mapping[str, Any], stem: str) -> ImportedQuestion:
    traces = _several(result.get("all_traces") or result.get("traces"))
    if not traces:
        raise TracesError("no all_traces; give what DeepConf's examples write")
    qid = result.get("qid", result.get("question_id"))
    return ImportedQuestion(
        id=stem if qid is None else str(qid),
        words=str(result.get("question") or ""),
        gold=told_gold(_plain(result.get("ground_truth"))),
        samples=tuple(_sample(as_mapping(trace)) for trace in traces),
    )


def _sample(trace: Mapping[str, Any]) -> ImportedSample:
    answer, confidences = trace.get("extracted_answer"), trace.get("confs")
    tokens = _plain(trace.get("num_tokens")) or len(_several(trace.get("token_ids")))
    return ImportedSample(
        text=str(trace.get("text") or ""),
        answer="" if answer is None else str(answer),
        tokens=as_count(tokens),
        end=_ENDS.get(str(trace.get("stop_reason")), "own"),
        confidences=as_numbers([_plain(one) for one in _several(confidences)], "confs"),
    )


def _several(value: Any) -> Sequence[Any]:
    """The items of a list, a tuple or an array."""
    value = _plain(value)
    return value if isinstance(value, list | tuple) else []


def _plain(value: Any) -> Any:
    """A value without numpy: a number, or a list of an array's."""
    return value.tolist() if hasattr(value, "tolist") else value
