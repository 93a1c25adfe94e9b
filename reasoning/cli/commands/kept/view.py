"""``reason view``: a kept run as a page."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import InvalidValue
from reasoning.cli.options import (
    RunStoreOptions,
    argument,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import say

if TYPE_CHECKING:
    from reasoning.runs.record import RecordedRun

NEWEST = "last"


@settings_class
class ViewSettings:
    """Runs, and where their page is written."""

    names: tuple[str, ...] = argument(nargs=-1, metavar="[RUN] [OTHER]")
    out: str | None = option(
        "The page; by default run-ID.html, here.", "--out", "-o", metavar="FILE"
    )
    opened: bool = option("Show it in the browser.", "--open", is_flag=True)
    live: bool = option(
        "Show all runs, those of reason solve as they happen, until Ctrl-C.", is_flag=True
    )
    port: int = option("Of --live; 0 takes a free one.", type=click.IntRange(0, 65535), default=0)
    place: RunStoreOptions = field(default_factory=RunStoreOptions)


@click.command()
@options(ViewSettings)
def view(settings: ViewSettings) -> None:
    """Write RUN, or two runs, as one page of HTML that needs nothing but itself; print its name.

    RUN is the beginning of an id, last (the default), or a file of reason runs export.  The page
    has the question and the answer with its votes, and each branch on one axis of tokens: who
    spawned it, where it joined, why it ended, and what it wrote.

    \b
    reason view
    reason view 3f2a last --out both.html
    reason view --live --open
    """
    if settings.live:
        from reasoning.cli.commands.kept.live import show_live

        if settings.names or settings.out is not None:
            raise InvalidValue("live: it shows all runs on a page that it serves; name none")
        show_live(settings.place.open(), port=settings.port, opened=settings.opened)
        return
    from reasoning.runs.beside import compared_page
    from reasoning.runs.page import run_page

    if len(settings.names) > 2:
        raise InvalidValue("run: one page has two runs at most; name fewer")
    runs = [_found(name, settings.place) for name in settings.names or (NEWEST,)]
    text = run_page(runs[0]) if len(runs) == 1 else compared_page(runs[0], runs[1])
    target = Path(settings.out or f"run-{'-'.join(run.id for run in runs)}.html")
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidValue(f"out: {target}: {error.strerror}; give another file") from error
    say(str(target), err=False)
    if settings.opened:
        click.launch(target.resolve().as_uri())


def _found(name: str, place: RunStoreOptions) -> RecordedRun:
    """A run that is kept, or stands in a file.

    Raises:
        UnknownName: it is not kept.
        InvalidValue: the file can't be read.
    """
    from reasoning.runs.record import RecordedRun

    file = Path(name)
    if file.suffix != ".json":
        return place.open().find(name)
    try:
        return RecordedRun.from_json(file.read_bytes())
    except OSError as error:
        raise InvalidValue(f"run: {file} can't be read ({error.strerror})") from error
