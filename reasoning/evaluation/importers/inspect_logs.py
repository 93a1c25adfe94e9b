"""Logs of Inspect (inspect_ai): ``.eval`` files, which are zipped, and ``.json`` ones."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any

from orchestrator.errors import importing
from pruning import TracesError
from reasoning.evaluation.importers.completions import (
    as_count,
    as_list,
    as_mapping,
    message_text,
    question_of,
)
from reasoning.evaluation.importers.samples import (
    ImportedQuestion,
    ImportedSample,
    shares,
    told_gold,
)
from reasoning.evaluation.questions.content import MOST_BYTES, StoredFile

_ATTACHED = "attachment://"
_ZSTANDARD = 93
_VERDICTS = {"C": True, "I": False, "N": False, 1: True, 0: False}
_LENGTH = ("max_tokens", "model_length")


def is_inspect(file: StoredFile) -> bool:
    """Whether it is a log of Inspect."""
    if file.zipped:
        with suppress(zipfile.BadZipFile):
            return "header.json" in zipfile.ZipFile(BytesIO(file.data)).namelist()
    return {"eval", "status"} <= file.first.keys()


def read_inspect(file: StoredFile) -> Iterator[ImportedQuestion]:
    """A question for each sample id; its epochs are its samples.

    Raises:
        TracesError: the log is damaged, or is none of Inspect's.
        ExtraMissing: what unpacks it is not installed.
    """
    log, samples = _zipped(file.data) if file.zipped else _plain(file.first)
    task = as_mapping(log.get("eval")).get("task") or file.stem
    found: dict[str, list[Mapping[str, Any]]] = {}
    for sample in sorted(samples, key=_order):
        found.setdefault(str(sample.get("id")), []).append(sample)
    if not found:
        raise TracesError("no sample; give a log of a task that was run, with its samples")
    for id, epochs in found.items():
        yield _question(f"{task}/{id}", epochs)


def _order(sample: Mapping[str, Any]) -> tuple[str, int]:
    return str(sample.get("id")), as_count(sample.get("epoch")) or 0


def _plain(log: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    return log, [as_mapping(one) for one in as_list(log.get("samples"))]


def _zipped(data: bytes) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """The log's header and its samples, from a zip file."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if any(one.compress_type == _ZSTANDARD for one in archive.infolist()):
                with importing("eval", "a log of Inspect (Zstandard)"):
                    import zipfile_zstd  # noqa: F401  # teaches zipfile to unpack it
            return _unpacked(archive)
    except TracesError:
        raise
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RecursionError) as error:
        raise TracesError(f"damaged ({error}); give a log of Inspect") from error


def _unpacked(archive: zipfile.ZipFile) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    names = [one for one in archive.namelist() if one.startswith("samples/")]
    if sum(archive.getinfo(name).file_size for name in names) > MOST_BYTES:
        raise TracesError(f"longer than {MOST_BYTES} bytes unpacked; split it")
    header = as_mapping(json.loads(archive.read("header.json")))
    return header, [as_mapping(json.loads(archive.read(name))) for name in names]


def _question(id: str, epochs: Sequence[Mapping[str, Any]]) -> ImportedQuestion:
    first = epochs[0]
    asked = first.get("input")
    words = question_of(as_list(asked)) if isinstance(asked, list) else str(asked or "")
    return ImportedQuestion(
        id=id,
        words=_attached(first, words),
        gold=told_gold(first.get("target")),
        samples=tuple(sample for epoch in epochs for sample in _samples(epoch)),
    )


def _samples(epoch: Mapping[str, Any]) -> Iterator[ImportedSample]:
    """The choices of one epoch's last output; none where the epoch failed."""
    output = as_mapping(epoch.get("output"))
    choices = [as_mapping(one) for one in as_list(output.get("choices"))]
    texts = [_attached(epoch, message_text(as_mapping(one.get("message")))) for one in choices]
    answer, right = _scored(epoch, texts[0] if texts else "")
    parts = shares(_tokens(epoch, output), texts)
    for at, (choice, text, (tokens, counted)) in enumerate(zip(choices, texts, parts, strict=True)):
        yield ImportedSample(
            text=text,
            answer=None if at else answer,  # the first choice alone is scored
            right=None if at else right,
            tokens=tokens,
            counted=counted,
            end="length" if choice.get("stop_reason") in _LENGTH else "own",
        )


def _tokens(epoch: Mapping[str, Any], output: Mapping[str, Any]) -> int | None:
    """What all calls of the model wrote for a sample."""
    usages = [as_mapping(one) for one in as_mapping(epoch.get("model_usage")).values()]
    usages = usages or [as_mapping(output.get("usage"))]
    counts = [as_count(one.get("output_tokens")) for one in usages]
    return as_count(sum(filter(None, counts)))


def _scored(epoch: Mapping[str, Any], text: str) -> tuple[str | None, bool | None]:
    """The answer that the first scorer extracted, and whether it was right, where it says so."""
    scores = list(as_mapping(epoch.get("scores")).values())
    score = as_mapping(scores[0]) if scores else {}
    answer, value = score.get("answer"), score.get("value")
    whole = not isinstance(answer, str) or not answer.strip() or answer.strip() == text.strip()
    return None if whole else answer, _VERDICTS.get(value) if _plain_value(value) else None


def _plain_value(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _attached(epoch: Mapping[str, Any], text: str) -> str:
    """A text, or what it stands for where it names an attachment."""
    if not text.startswith(_ATTACHED):
        return text
    return str(as_mapping(epoch.get("attachments")).get(text.removeprefix(_ATTACHED), text))
