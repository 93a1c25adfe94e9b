"""``reason view``: a kept run as a page."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

import click

from reasoning.cli.options import (
    RunStoreOptions,
    argument,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import say


@settings_class
class ViewSettings:
    """A run, and where its page is written."""

    run: str = argument(metavar="RUN", default="last")
    out: str | None = option(
        "The page; by default run-ID.html, here.", "--out", "-o", metavar="FILE"
    )
    opened: bool = option("Show it in the browser.", "--open", is_flag=True)
    place: RunStoreOptions = field(default_factory=RunStoreOptions)


@click.command()
@options(ViewSettings)
def view(settings: ViewSettings) -> None:
    """Write RUN as one page of HTML that needs nothing but itself, and print its name.

    RUN is the beginning of an id, last (the default), or a file of reason runs export.  The page
    has the question and the answer with its votes, and each branch on one axis of tokens: who
    spawned it, where it joined, why it ended, and what it wrote.

    \b
    reason view
    reason view 3f2a --out page.html
    """
    from orchestrator.errors import InvalidValue
    from reasoning.runs.page import run_page
    from reasoning.runs.record import RecordedRun

    file = Path(settings.run)
    if file.suffix == ".json":
        try:
            run = RecordedRun.from_json(file.read_bytes())
        except OSError as error:
            raise InvalidValue(f"run: {file} can't be read ({error.strerror})") from error
    else:
        run = settings.place.open().find(settings.run)
    target = Path(settings.out or f"run-{run.id}.html")
    try:
        target.write_text(run_page(run), encoding="utf-8")
    except OSError as error:
        raise InvalidValue(f"out: {target}: {error.strerror}; give another file") from error
    say(str(target), err=False)
    if settings.opened:
        click.launch(target.resolve().as_uri())
