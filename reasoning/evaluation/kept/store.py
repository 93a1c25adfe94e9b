"""The file of an evaluation: every sample is there as soon as it has ended, and is never lost."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why
from reasoning.evaluation.kept.records import (
    SCHEMA,
    EvalHeader,
    QuestionRecord,
    Record,
    SampleRecord,
    StrategyRun,
)
from reasoning.evaluation.questions import EvalQuestion

HEADER_START, RECORD_START = f'{{"schema":"{SCHEMA}"'.encode(), b'{"kind":"'
"""How the first line begins, and each other one."""
LOCK_S = 2.0
"""How long a process that was killed may still have the file."""
_KINDS: dict[str, type[QuestionRecord | SampleRecord | StrategyRun]] = {
    "question": QuestionRecord,
    "sample": SampleRecord,
    "run": StrategyRun,
}


def record_of(item: Any) -> QuestionRecord | Record:
    """The record that a line's value is.

    Raises:
        ValueError: it is none.
    """
    kind = _KINDS.get(str(item.get("kind"))) if isinstance(item, dict) else None
    if kind is None:
        raise ValueError("no question, sample or run")
    return kind.model_validate(item)


class StoredEval:
    """What the file of an evaluation holds.

    Attributes:
        questions: In their order, by id.
        samples: By question and number; of two of the same number the later one counts.
        runs: By arm and question.
        whole: How many bytes of the file are whole lines; what stands behind was cut by a crash.
    """

    def __init__(self) -> None:
        self.header = EvalHeader(model="")
        self.questions: dict[str, EvalQuestion] = {}
        self.samples: dict[str, dict[int, SampleRecord]] = {}
        self.runs: dict[str, dict[str, StrategyRun]] = {}
        self.whole = 0

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file of an evaluation, perhaps an unfinished one.

        Raises:
            InvalidValue: it can't be read, or is no such file.
        """
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise InvalidValue(f"{path}: {error.strerror}; give another file") from error

    @classmethod
    def parse(cls, content: bytes, name: str) -> Self:
        """The same from what the file holds.

        Raises:
            InvalidValue: it is no such file.
        """
        found = cls()
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            try:
                found.take(json.loads(line), number)
            except (ValueError, RecursionError) as error:
                said = why(error) if isinstance(error, ValidationError) else error
                what = "mend that line" if number > 1 else "give another file"
                raise InvalidValue(f"{name}: line {number}: {said}; {what}") from error
            found.whole += len(line) + 1
        return found

    def take(self, item: Any, number: int) -> None:
        """Take in the value of a line.

        Raises:
            ValueError: it is none of these.
        """
        if number == 1:
            if not isinstance(item, dict) or item.get("schema") != SCHEMA:
                raise ValueError("no file of reason eval")
            self.header = EvalHeader.model_validate(item)
            return
        self.add(record_of(item))

    def add(self, record: QuestionRecord | Record) -> None:
        """Take a record in."""
        if isinstance(record, QuestionRecord):
            values = record.model_dump(exclude={"kind"}) | {"gold": tuple(record.gold)}
            self.questions[record.id] = EvalQuestion(**values)
        elif isinstance(record, SampleRecord):
            self.samples.setdefault(record.question, {})[record.sample] = record
        else:
            self.runs.setdefault(record.arm, {})[record.question] = record

    def has_sample(self, question: str, sample: int) -> bool:
        """Whether a sample is there, and was not lost."""
        found = self.samples.get(question, {}).get(sample)
        return found is not None and found.lost is None

    def has_run(self, arm: str, question: str) -> bool:
        """The same of a run."""
        found = self.runs.get(arm, {}).get(question)
        return found is not None and found.lost is None


class EvalStore:
    """The file of an evaluation, open for more; one process at a time has it.

    with EvalStore(path, header) as store:
        store.ask(questions)
        store.add(record)
    """

    def __init__(self, path: Path, header: EvalHeader) -> None:
        """
        Raises:
            InvalidValue: the file holds another evaluation, or can't be used.
        """
        self.path = path
        try:
            self._file = open(path, "ab+", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InvalidValue(f"output: {path}: {error.strerror}; give another file") from error
        try:
            self._lock()
            self.stored = self._begun(header)
        except BaseException:
            self._file.close()
            raise

    def _begun(self, header: EvalHeader) -> StoredEval:
        self._file.seek(0)
        content = self._file.read()
        found = StoredEval.parse(content, str(self.path))
        rest = content[found.whole :]  # a line that a crash cut, and never a file of somebody else
        start = RECORD_START if found.whole else HEADER_START
        if not (rest.startswith(start) or start.startswith(rest)):
            raise InvalidValue(f"output: {self.path} is no file of reason eval; give another file")
        self._file.truncate(found.whole)
        if not found.whole:
            found.header = header
            self._write(header)
        elif differing := found.header.differs(header):
            raise InvalidValue(
                f"output: {self.path} was made with {differing}; say the same, or give another file"
            )
        return found

    def _lock(self) -> None:
        if os.name == "nt":
            return
        import fcntl

        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() > until:
                    raise InvalidValue(
                        f"output: {self.path} is being written by another process; wait for it, or "
                        "give another file"
                    ) from error
                time.sleep(LOCK_S / 100)
            else:
                return

    def ask(self, questions: Sequence[EvalQuestion]) -> None:
        """Note questions that are not there yet.

        Raises:
            InvalidValue: one of the same id is there with another text or right answer.
        """
        for question in questions:
            known = self.stored.questions.get(question.id)
            if known is None:
                values = {name: getattr(question, name) for name in ("id", "text", "domain")}
                fields = json.loads(json.dumps(dict(question.fields), default=str))
                record = QuestionRecord(**values, gold=list(question.gold), fields=fields)
                self.add(record)
            elif known != question:
                raise InvalidValue(
                    f"output: {self.path} has another question with the id {question.id!r}; "
                    "give another file"
                )

    def add(self, record: QuestionRecord | Record) -> None:
        """Write a record at once.

        Raises:
            InvalidValue: the disk is full, or the like.
        """
        self._write(record)
        self.stored.add(record)

    def _write(self, record: EvalHeader | QuestionRecord | Record) -> None:
        line = record.model_dump_json(by_alias=True).encode("utf-8", "surrogatepass") + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise InvalidValue(f"output: {self.path}: {error.strerror}; make room") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()
