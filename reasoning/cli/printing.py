"""What commands print: one-line errors, objects, tables and progress."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from orchestrator.errors import ReasonError, leaf
from reasoning.foreign import in_our_place

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.table import Table

WIDTH = 110
"""Columns of a table that is not printed to a terminal."""


def print_error(error: Exception, *, as_json: bool) -> int:
    """Print one line on stderr, with ``as_json`` an object on stdout too; return the exit code."""
    cause = leaf(error)
    message = one_line(str(cause))
    code, exit_code = type(cause).__name__, 1
    if isinstance(cause, ReasonError):
        code, exit_code = cause.code, cause.exit_code
    elif isinstance(cause, click.ClickException):
        code, exit_code = "InvalidValue", cause.exit_code
        message = f"{one_line(cause.format_message())} See --help."
    elif isinstance(cause, ImportError) and (foreign := in_our_place(cause)):
        message = foreign
    else:
        if os.environ.get("REASON_DEBUG"):
            import traceback

            traceback.print_exception(error)
        message = f"internal error: {code}: {message}; REASON_DEBUG=1 shows where"
    if as_json:
        import json

        print_json(json.dumps({"error": {"code": code, "message": message}}))
    warn(message)
    return exit_code


def warn(message: str) -> None:
    """Print one line on stderr."""
    say(f"reason: {message}")


def say(text: str, *, err: bool = True) -> None:
    """Print a text that others wrote a part of, on stderr or stdout."""
    click.echo(visible(text), err=err)


class VisibleFormatter(logging.Formatter):
    """Has what is logged, which others wrote a part of, do nothing to a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def show_logs_plainly() -> None:
    """Have records that no other handler takes be written so."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(VisibleFormatter())


def joined(parts: Sequence[str]) -> str:
    """Parts in a line, with dots between them; on a terminal in lines that break there."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    lines = [""]
    for part in parts:
        more = f"{lines[-1]} · {part}" if lines[-1] else part
        if width and lines[-1] and len(more) >= width:
            lines.append(part)
        else:
            lines[-1] = more
    return " ·\n".join(lines)


@contextmanager
def passing(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show a line on stderr while something is waited for, where that is a terminal."""
    shows = not quiet and sys.stderr is not None and sys.stderr.isatty()
    if shows:
        width = max(8, shutil.get_terminal_size().columns - 1)
        click.echo(f"{visible(text)[:width]}\r", err=True, nl=False)
    try:
        yield
    finally:
        if shows:
            click.echo("\x1b[K", err=True, nl=False)


def visible(text: str) -> str:
    """A text whose control characters can be read and do nothing to a terminal.

    Line breaks and tabs stay.  What would write from right to left or hide is shown as well.
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def one_line(text: str) -> str:
    """A text without its line breaks, so that it can't look like lines of another's."""
    return " ".join(text.split())


def print_json(text: str) -> None:
    """Print JSON on stdout; control characters, which stand in its strings only, as escapes."""
    click.echo(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def print_object(value: BaseModel) -> None:
    """Print a value as one JSON object on stdout."""
    print_json(value.model_dump_json(by_alias=True, indent=2))


def table(title: str, *headings: str) -> Table:
    """An empty table of texts that others wrote; all columns but the first hold numbers."""
    from rich.table import Table
    from rich.text import Text

    class PlainTable(Table):
        """Takes no cell for rich's markup, nor sends what controls a terminal."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(Text(visible(cell).replace("\n", " ")) for cell in cells), **options)

    made = PlainTable(title=Text(visible(one_line(title)), style="table.title"))
    for heading in headings:
        left = heading == headings[0]
        made.add_column(heading, justify="left" if left else "right", no_wrap=left)
    return made


def print_tables(*tables: Table) -> None:
    """Print tables on stdout."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for one in tables:
        console.print(one)


@contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Show a bar on stderr where that is a terminal.

    It yields a function that advances the bar by one.  With ``completed``, ``total`` or
    ``description`` the function sets these instead.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(escape(visible(what)), total=total)

        def update(**values: object) -> None:
            progress.update(bar, **(values or {"advance": 1}))  # type: ignore[arg-type]

        yield update
