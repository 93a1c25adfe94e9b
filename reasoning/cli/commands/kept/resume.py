"""``reason runs resume``: go on with a run that was killed or interrupted."""

from __future__ import annotations

import os
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import InvalidValue
from reasoning.cli.options import (
    RunStoreOptions,
    argument,
    settings_class,
    settings_of,
)

if TYPE_CHECKING:
    from reasoning.runs.record import RecordedRun, RunJournal


@settings_class
class ResumeRunSettings:
    """A run with a journal."""

    run: str = argument(metavar="RUN", default="last")
    place: RunStoreOptions = field(default_factory=RunStoreOptions)


def go_on(run: RecordedRun) -> int:
    """Go on where a run was, in the folder where it was begun; returns the command's exit code.

    Raises:
        InvalidValue: it has no journal, or what it takes to go on is not kept or not there.
    """
    journal = _journal(run)
    os.chdir(journal.folder)
    if run.command == "plan":
        from reasoning.cli.commands.plan import PlanSettings, carry_out, plan

        return carry_out(replace(settings_of(PlanSettings, plan, run.settings), resume=True))
    from reasoning.cli.commands.eval import EvalCommand, EvalSettings, eval

    return EvalCommand(settings_of(EvalSettings, eval, run.settings)).run()


def _journal(run: RecordedRun) -> RunJournal:
    if run.journal is None:
        others = "reason plan has one with --journal FILE, reason eval always"
        raise InvalidValue(f"run {run.id} of reason {run.command} has no journal; {others}")
    if not Path(run.journal.file).exists():
        raise InvalidValue(f"run {run.id} can't go on: {run.journal.file} is gone; begin it anew")
    if not Path(run.journal.folder).is_dir():
        raise InvalidValue(
            f"run {run.id} can't go on: its folder {run.journal.folder} is gone; begin it anew"
        )
    if secret := _secrets(run):
        again = "--journal FILE --resume" if run.command == "plan" else "--output FILE"
        raise InvalidValue(
            f"run {run.id} was given {secret}, which is secret and not kept; give the command "
            f"again: reason {run.command} with it and {again}, FILE being {run.journal.file}"
        )
    return run.journal


def _secrets(run: RecordedRun) -> str:
    """The settings in which something is hidden."""
    from reasoning.runs.secrets import HIDDEN

    return ", ".join(name for name, value in run.settings.items() if HIDDEN in str(value))
