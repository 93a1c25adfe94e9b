"""The samples of a kept run, for commands that take files of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import InvalidValue

if TYPE_CHECKING:
    from reasoning.cli.options import RunStoreOptions
    from reasoning.runs.record import RecordedRun

_RUN = re.compile("last|[0-9a-f]{1,8}")


def run_called(name: str, place: RunStoreOptions) -> RecordedRun | None:
    """The kept run that a name means; None where it is that of a file.

    Raises:
        UnknownName: no such run is kept.
    """
    if Path(name).exists() or not _RUN.fullmatch(name):
        return None
    return place.open().find(name)


def answers_of(run: RecordedRun) -> Path:
    """The file of an evaluation's answers.

    Raises:
        InvalidValue: the run is no evaluation's.
    """
    if run.command != "eval" or run.journal is None:
        raise InvalidValue(f"run {run.id} is of reason {run.command}; name one of reason eval")
    return Path(run.journal.file)


def check_samples(run: RecordedRun) -> None:
    """Refuse a run without samples of one question.

    Raises:
        InvalidValue: it is a plan's, or an evaluation's, which has them in its file.
    """
    if run.command == "plan":
        raise InvalidValue(f"run {run.id} is a plan, which has no samples; name another run")
    if run.command == "eval":
        raise InvalidValue(f"run {run.id} is an evaluation; its samples are in {answers_of(run)}")
