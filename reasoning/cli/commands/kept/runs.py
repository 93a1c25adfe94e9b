"""``reason runs``: what was kept of earlier runs."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import InvalidValue
from reasoning.cli.commands.kept.resume import ResumeRunSettings, go_on
from reasoning.cli.commands.kept.samples import check_samples
from reasoning.cli.options import (
    Duration,
    RunStoreOptions,
    argument,
    json_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import one_line, print_json, say, visible

if TYPE_CHECKING:
    from reasoning.runs.record import RecordedRun
    from reasoning.runs.store import RunFilter, RunLine

SHOWN = 20
"""Runs of a list, where nothing else is asked for."""
SIGNS = {True: "✓", False: "✗", None: "·"}
LONGEST = 400
"""Characters of a branch that are shown without ``--full``."""


class ListedByDefault(click.Group):
    """A group that lists where no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ListedByDefault)
def runs() -> None:
    """Runs that were kept: list and search them, show, compare, go on, export and forget them.

    A run is named by the beginning of its id; last is the newest.  Without a command, they are
    listed.
    """


@settings_class
class FilterSettings:
    """Which runs are meant."""

    words: tuple[str, ...] = option(
        "A word in the question, an answer or what a branch wrote; may be repeated.",
        "--search",
        "-s",
        multiple=True,
        metavar="WORD",
    )
    strategy: str | None = option("Only runs of this strategy.", metavar="NAME")
    model: str | None = option("Only runs of models with this in their name.", metavar="TEXT")
    command: str | None = option("Only runs of this command, such as solve.", metavar="NAME")
    verified: bool | None = option(
        "Only those whose answer the verifier took, or refused.",
        "--verified/--rejected",
        default=None,
    )
    newer: float | None = option("Only runs of so long ago at most, as 2d.", type=Duration())
    older: float | None = option("Only runs of longer ago, as 30d.", type=Duration())

    @property
    def filter(self) -> RunFilter:
        """The filter of the store."""
        from reasoning.runs.store import RunFilter

        now = time.time()
        return RunFilter(
            words=self.words,
            strategy=self.strategy,
            model=self.model,
            command=self.command,
            verified=self.verified,
            since=None if self.newer is None else now - self.newer,
            before=None if self.older is None else now - self.older,
        )


@settings_class
class ListSettings:
    """Which runs are listed."""

    which: FilterSettings = field(default_factory=FilterSettings)
    most: int = option("So many at most, the newest.", type=click.IntRange(1), default=SHOWN)
    place: RunStoreOptions = field(default_factory=RunStoreOptions)
    as_json: bool = json_option("a list")


@runs.command("list")
@options(ListSettings)
def list_runs(settings: ListSettings) -> None:
    """List runs, the newest first: ✓ was verified, ✗ rejected, · could not be told.

    \b
    reason runs --search 50 --newer 7d
    """
    lines = settings.place.open().lines(settings.which.filter, settings.most)
    if settings.as_json:
        import json

        print_json(json.dumps([asdict(line) for line in lines], ensure_ascii=False, indent=2))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in lines:
        text = visible(_row(line))
        say(text if not width or len(text) < width else f"{text[: width - 2]}…", err=False)
    if not lines:
        say("no such run is kept", err=True)


def _row(line: RunLine) -> str:
    from reasoning.runs.record import called

    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(line.began))
    answer = "no answer" if line.answer is None else line.answer
    status = "" if line.status == "finished" else f" ({line.status})"
    parts = f"{line.branches} {called(line.command)}"
    return (
        f"{line.id}  {when}  {SIGNS[line.verified]} {line.command} {one_line(line.strategy)} of "
        f"{one_line(line.model)}  {parts}, {line.tokens:,} tokens, {line.wall_s:.1f} s{status}  "
        f"{_short(line.question)} → {_short(answer)}"
    )


def _short(text: str, most: int = 60) -> str:
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


@settings_class
class ShowRunSettings:
    """One run."""

    run: str = argument(metavar="RUN", default="last")
    full: bool = option("What branches wrote as a whole, not only its end.", is_flag=True)
    place: RunStoreOptions = field(default_factory=RunStoreOptions)


@runs.command()
@options(ShowRunSettings)
def show(settings: ShowRunSettings) -> None:
    """Show the question, the answer, the cost, and each branch: why it ended, what it wrote."""
    run = settings.place.open().find(settings.run)
    for line in _shown(run, LONGEST if not settings.full else None):
        say(line, err=False)


def _shown(run: RecordedRun, most: int | None) -> Iterator[str]:
    from reasoning.runs.record import verdict

    report, usage = run.report, run.report.usage
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.began))
    yield f"run {run.id}  {when}  reason {run.command}"
    yield f"question: {report.problem}"
    told = f"{report.answer}  ({verdict(run.command, report.verified)})"
    yield f"answer: {'none' if report.answer is None else told}"
    if report.votes:
        votes = " · ".join(f"{one_line(key)} ×{count}" for key, count in report.votes.items())
        yield f"votes: {votes}"
    yield (
        f"{report.strategy} of {report.model}, {run.status}: work {usage.work_tokens:,} tokens, "
        f"span {usage.span_tokens:,}, {report.wall_s:.2f} s"
    )
    if report.abstained:
        yield f"no answer: {report.abstained}"
    if run.journal is not None:
        yield f"goes on from: {run.journal.file}"
    if report.steering is not None:
        yield f"policy {report.steering.policy}: {report.steering.reason}"
    for name, pairs in {"settings": run.settings, "versions": run.versions}.items():
        if pairs:
            yield f"{name}: {', '.join(f'{key}={value}' for key, value in pairs.items())}"
    for thread, branch in zip(report.threads, run.branches, strict=True):
        indent = "  " * thread.id.count(".")
        found = "" if thread.answer is None else f" → {_short(thread.answer)}"
        name = one_line(thread.name)
        yield f"{indent}{thread.id}  {name}  {thread.tokens} tokens, {branch.why}{found}"
        text = thread.text if most is None else _end(thread.text, most)
        yield from (f"{indent}    {line}" for line in text.splitlines() if line.strip())


def _end(text: str, most: int) -> str:
    text = text.strip()
    return text if len(text) <= most else f"…{text[-most:]}"


@settings_class
class DiffRunsSettings:
    """Two runs."""

    first: str = argument(metavar="RUN")
    second: str = argument(metavar="OTHER")
    place: RunStoreOptions = field(default_factory=RunStoreOptions)


@runs.command()
@options(DiffRunsSettings)
def diff(settings: DiffRunsSettings) -> int:
    """Show how OTHER differs from RUN, a line each; exit 1 if it does.  Times do not count."""
    from reasoning.runs.compare import differences

    store = settings.place.open()
    lines = differences(store.find(settings.first), store.find(settings.second))
    for line in lines:
        say(one_line(line), err=False)
    return int(bool(lines))


@runs.command()
@options(ResumeRunSettings)
def resume(settings: ResumeRunSettings) -> int:
    """Go on with RUN where it was killed or interrupted: a plan with a journal, or an evaluation.

    It goes on in the folder where it was begun, with the settings that it was given; what is done
    is not done again.

    \b
    reason runs --command eval
    reason runs resume 3f2a
    """
    return go_on(settings.place.open().find(settings.run))


@settings_class
class ExportSettings:
    """Runs, and the form in which they are written."""

    names: tuple[str, ...] = argument(nargs=-1, required=True, metavar="RUN...")
    traces: bool = option(
        "Write what reason replay reads: what reason solve --json prints, a line a run.",
        is_flag=True,
    )
    out: str | None = option("A file; by default stdout.", "--out", "-o", metavar="FILE")
    place: RunStoreOptions = field(default_factory=RunStoreOptions)


@runs.command()
@options(ExportSettings)
def export(settings: ExportSettings) -> None:
    """Write runs as JSON, one a line where there are several or for replay.

    \b
    reason runs export last --traces -o run.jsonl
    reason replay run.jsonl --policy async:k=3
    """
    store = settings.place.open()
    found = [store.find(name) for name in settings.names]
    for run in found if settings.traces else ():
        check_samples(run)
    alone = len(found) == 1 and not settings.traces
    texts = [
        run.report.model_dump_json(by_alias=True)
        if settings.traces
        else run.to_json(indent=2 if alone else None)
        for run in found
    ]
    if settings.out is None:
        for text in texts:
            print_json(text)
        return
    try:
        Path(settings.out).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    except OSError as error:
        reason = error.strerror
        raise InvalidValue(f"out: {settings.out}: {reason}; give another file") from error


@settings_class
class PruneSettings:
    """Which runs are forgotten."""

    which: FilterSettings = field(default_factory=FilterSettings)
    most_mb: int | None = option(
        "Forget the oldest beyond so many MiB.", "--to-mb", type=click.IntRange(0)
    )
    everything: bool = option("Forget all.", "--all", is_flag=True)
    place: RunStoreOptions = field(default_factory=RunStoreOptions)


@runs.command()
@options(PruneSettings)
def prune(settings: PruneSettings) -> None:
    """Forget runs, and print how many.

    \b
    reason runs prune --older 30d
    """
    from reasoning.runs.store import RunFilter

    which = settings.which.filter
    chosen = which != RunFilter()
    if settings.everything == (chosen or settings.most_mb is not None):
        raise InvalidValue("prune: say which are forgotten: --older 30d, --to-mb 50, or --all")
    most = None if settings.most_mb is None else settings.most_mb << 20
    count = settings.place.open().prune(
        which if chosen or settings.everything else None, most_bytes=most
    )
    say(f"{count} forgotten", err=False)
