"""Which format a file of traces has, and its questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.errors import InvalidValue, UnknownName
from pruning import Question, TracesError
from reasoning.evaluation.importers.chats import is_batch, is_chat, read_batch, read_chats
from reasoning.evaluation.importers.deepconf import is_deepconf, read_deepconf
from reasoning.evaluation.importers.gold import GoldFile
from reasoning.evaluation.importers.inspect_logs import is_inspect, read_inspect
from reasoning.evaluation.importers.lm_eval import is_lm_eval, read_lm_eval
from reasoning.evaluation.importers.own import (
    is_eval,
    is_own,
    is_solve,
    read_eval,
    read_own,
    read_solves,
)
from reasoning.evaluation.importers.samples import ImportedQuestion, as_question, with_keys
from reasoning.evaluation.importers.texts import is_texts, read_texts
from reasoning.evaluation.questions.content import StoredFile
from reasoning.problems.answers import AnswerFormat


@dataclass(frozen=True, kw_only=True)
class TracesFormat:
    """One format.

    Attributes:
        what: Who writes it, in a few words.
        fits: Whether a file is of it.
        own: Reads questions that are whole: one is in one file.
        foreign: Reads another program's samples, of which a question may have some in each file.
    """

    name: str
    what: str
    fits: Callable[[StoredFile], bool]
    own: Callable[[StoredFile], Iterator[Question]] | None = None
    foreign: Callable[[StoredFile], Iterator[ImportedQuestion]] | None = None


FORMATS = {
    one.name: one
    for one in (
        TracesFormat(name="traces", what="ours, docs/policies.md", fits=is_own, own=read_own),
        TracesFormat(name="eval", what="reason eval", fits=is_eval, own=read_eval),
        TracesFormat(name="solve", what="reason solve --json", fits=is_solve, own=read_solves),
        TracesFormat(
            name="lm-eval", what="lm_eval --log_samples", fits=is_lm_eval, foreign=read_lm_eval
        ),
        TracesFormat(
            name="inspect", what=".eval and .json logs", fits=is_inspect, foreign=read_inspect
        ),
        TracesFormat(name="deepconf", what="its pickles", fits=is_deepconf, foreign=read_deepconf),
        TracesFormat(
            name="batch", what="OpenAI's, vllm run-batch", fits=is_batch, foreign=read_batch
        ),
        TracesFormat(name="chat", what="messages and choices", fits=is_chat, foreign=read_chats),
        TracesFormat(
            name="texts", what="a question, a list of texts", fits=is_texts, foreign=read_texts
        ),
    )
}
"""By name; the first that fits a file is its format."""


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How files are read.

    Attributes:
        format: Of every file; None: each file's is told by what is in it.
        gold: A file with right answers, by id or question.
        normalise: Whether answers that say the same are equal; else only equal texts are.
        answer: How answers are read from texts; None: where the file has none, in any form.
        scored: The right answers are those that the file's own scorer found right.
    """

    format: str | None = None
    gold: str | None = None
    normalise: bool = True
    answer: AnswerFormat | None = None
    scored: bool = False


@dataclass(frozen=True, kw_only=True)
class ImportedFile:
    """One file of another program, as it was understood.

    Attributes:
        estimated: How many of its traces have no count of tokens.
        read: From how many texts an answer was read, because the file has none.
        empty: How many of its questions or requests have no sample, and are left out.
    """

    path: str
    format: str
    questions: int
    traces: int
    estimated: int
    read: int
    empty: int

    def __str__(self) -> str:
        counts = [f"{self.questions} question", f"{self.traces} trace"]
        said = ", ".join(one if one.startswith("1 ") else f"{one}s" for one in counts)
        parts = [f"{self.path}: {self.format}, {said}"]
        if self.estimated:
            parts.append(f"tokens estimated of {self.estimated}")
        if self.read:
            parts.append(f"answers read from {self.read} texts")
        if self.empty:
            parts.append(f"{self.empty} without an answer left out")
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class ImportedTraces:
    """The questions of all files, and what was understood of those of other programs.

    Attributes:
        scored: How many traces their files' own scorers judged.
        otherwise: How many of them otherwise than equality with a right answer does.
    """

    questions: list[Question]
    files: list[ImportedFile] = field(default_factory=list)
    scored: int = 0
    otherwise: int = 0

    def said(self) -> Iterator[str]:
        """What a reader should know, line by line."""
        yield from map(str, self.files)
        if self.otherwise:
            yield (
                f"the files' own scorers judge {self.otherwise} of {self.scored} traces otherwise "
                "than equality with the right answer; --scored takes theirs"
            )


def read_traces(paths: Sequence[str], settings: ImportSettings | None = None) -> list[Question]:
    """The questions of all files, in order; `import_traces` tells more.

    Raises:
        InvalidValue, UnknownName, ExtraMissing: as there.
    """
    return import_traces(paths, settings).questions


def import_traces(paths: Sequence[str], settings: ImportSettings | None = None) -> ImportedTraces:
    """The questions of all files, in order, and what was understood.

    Samples of one question in several files of another program are put together.

    Raises:
        UnknownName: there is no such format.
        InvalidValue: a file can't be read or told, or holds no usable traces, or a question twice.
        ExtraMissing: what reads a file is not installed.
    """
    importer = _Importer(settings or ImportSettings())
    for path in paths:
        try:
            importer.take(path)
        except TracesError as error:
            raise InvalidValue(f"{path}: {error}") from error
    if not importer.questions:
        raise InvalidValue(f"{', '.join(paths)}: no question; give JSON lines with traces")
    found = list(importer.questions.values())
    if importer.settings.normalise:
        found = [with_keys(question) for question in found]
    judged = [
        bool(trace.score) == (trace.answer in question.right)
        for question in found
        for trace in question.traces
        if trace.score is not None and question.id not in importer.whole
    ]
    return ImportedTraces(
        questions=found,
        files=importer.files,
        scored=len(judged),
        otherwise=judged.count(False),
    )


class _Importer:
    """Takes files in, one after the other.

    Attributes:
        whole: The ids of questions from our own files.
    """

    def __init__(self, settings: ImportSettings) -> None:
        self.settings = settings
        self.questions: dict[str, Question] = {}
        self.files: list[ImportedFile] = []
        self.whole: set[str] = set()
        self._contents: set[bytes] = set()
        self._gold = None if settings.gold is None else _gold(settings.gold)

    def take(self, path: str) -> None:
        """Add the questions of a file.

        Raises:
            TracesError: as `import_traces`.
        """
        file = StoredFile(path)
        format = told_format(file, self.settings.format)
        if format.own is not None:
            for question in format.own(file):
                self._add(question)
        elif format.foreign is not None:
            if file.data in self._contents:
                raise TracesError("it is there twice; give each file once")
            self._contents.add(file.data)
            self._import(path, format.name, list(format.foreign(file)))

    def _import(self, path: str, format: str, found: list[ImportedQuestion]) -> None:
        answered = [one for one in found if one.samples]
        if not answered:
            raise TracesError(f"{format}: none of {len(found)} questions has an answer; ask again")
        merged: dict[str, ImportedQuestion] = {}
        for question in answered if self._gold is None else map(self._gold.complete, answered):
            before = merged.get(question.id)
            merged[question.id] = question if before is None else _together(before, question)
        settings = self.settings
        read = [
            as_question(one, answer=settings.answer, scored=settings.scored)
            for one in merged.values()
        ]
        for one in read:
            self._add(one, whole=False)
        traces = [trace for one in read for trace in one.traces]
        self.files.append(
            ImportedFile(
                path=path,
                format=format,
                questions=len(read),
                traces=len(traces),
                estimated=sum(trace.estimated for trace in traces),
                read=sum(
                    settings.answer is not None or sample.answer is None
                    for one in merged.values()
                    for sample in one.samples
                ),
                empty=len(found) - len(answered),
            )
        )

    def _add(self, question: Question, *, whole: bool = True) -> None:
        # JSON may write half a character, which nothing can print.
        id = question.id.encode(errors="replace").decode()
        question = replace(question, id=id)
        before = self.questions.get(id)
        if before is None:
            self.questions[question.id] = question
            self.whole |= {question.id} if whole else set()
        elif whole or question.id in self.whole or before.words != question.words:
            raise TracesError(f"question {question.id!r} is there twice; give it once")
        else:
            right = before.right | question.right
            traces = before.traces + question.traces
            self.questions[question.id] = replace(before, right=right, traces=traces)


def _together(one: ImportedQuestion, other: ImportedQuestion) -> ImportedQuestion:
    """One question of which a file has samples in two places."""
    if one.words != other.words or one.gold != other.gold:
        raise TracesError(f"question {one.id!r} is there twice, and not the same; give it once")
    return replace(one, samples=one.samples + other.samples)


def _gold(path: str) -> GoldFile:
    try:
        return GoldFile.read(path)
    except TracesError as error:
        raise InvalidValue(f"gold: {path}: {error}") from error


def told_format(file: StoredFile, name: str | None) -> TracesFormat:
    """The format that is named, or that fits the file.

    Raises:
        UnknownName: there is no such format.
        TracesError: none fits.
    """
    if name is not None:
        if name not in FORMATS:
            raise UnknownName(f"format {name!r} does not exist; choose {', '.join(FORMATS)}")
        return FORMATS[name]
    found = next((one for one in FORMATS.values() if one.fits(file)), None)
    if found is None and (file.values or file.zipped):
        known = "; ".join(f"{one.name} ({one.what})" for one in FORMATS.values())
        raise TracesError(f"of no format that is known here; give one of {known}, or --format")
    return found or FORMATS["traces"]
