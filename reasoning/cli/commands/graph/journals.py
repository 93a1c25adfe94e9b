"""``reason graph``: look at a run of a task graph, compare two, answer what one waits for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reasoning.cli.options import argument, json_option, option, options, settings_class
from reasoning.cli.printing import one_line, print_json, say

if TYPE_CHECKING:
    from orchestrator import ExecutedGraph, ExecutedTask

SIGNS = {"succeeded": "✓", "failed": "✗", "skipped": "–", "cancelled": "∅", "open": "…"}
MOST_LINES = 500


@click.group()
def graph() -> None:
    """Runs of task graphs by their journals: show, compare, complete, resume, fork."""


@settings_class
class JournalFileSettings:
    """The journal of a run."""

    file: str = argument(metavar="FILE")


@settings_class
class ShowSettings(JournalFileSettings):
    """How a run is shown."""

    as_json: bool = json_option("a tree")


@graph.command()
@options(ShowSettings)
def show(settings: ShowSettings) -> None:
    """Show the graph in the journal FILE as executed so far, and what it waits for."""
    from orchestrator import awaited, executed

    found = executed(settings.file)
    if settings.as_json:
        print_json(found.to_json())
        return
    lines = [_line(found, task) for task in found.tasks]
    for line in lines[:MOST_LINES]:
        say(line, err=False)
    if len(lines) > MOST_LINES:
        say(f"... and {len(lines) - MOST_LINES} more; --json shows all", err=False)
    for wait in awaited(settings.file):
        kind = "" if wait.type is None else f" ({getattr(wait.type, '__name__', wait.type)})"
        say(one_line(f"task {wait.task} waits for {wait.name!r}{kind}"), err=False)


def _line(found: ExecutedGraph, task: ExecutedTask) -> str:
    indent = "  " * task.id.count(".")
    span = found.times[task.id]
    took = ""
    if span.started is not None and span.ended is not None:
        took = f"  {span.ended - span.started:.2f} s"
    after = "".join(f" <{source}" for source, *_ in task.edges[:8])
    tries = f"  attempt {task.attempts}" if task.attempts > 1 else ""
    error = f"  {one_line(task.error)}" if task.error else ""
    name = one_line(task.name)
    return f"{indent}{SIGNS[task.state]} {task.id}  {name}{after}{took}{tries}{error}"


@settings_class
class DiffSettings:
    """Two runs."""

    first: str = argument(metavar="FILE")
    second: str = argument(metavar="OTHER")


@graph.command()
@options(DiffSettings)
def diff(settings: DiffSettings) -> int:
    """Show how the run in OTHER differs from that in FILE; exit 1 if it does.

    Each is a journal, or the JSON of `reason graph show --json`.  Times do not count.
    """
    lines = _read(settings.first).diff(_read(settings.second))
    for line in lines:
        say(one_line(line), err=False)
    return int(bool(lines))


def _read(name: str) -> ExecutedGraph:
    from orchestrator import ExecutedGraph, executed

    path = Path(name)
    if path.is_file() and path.read_bytes()[:1] == b"{":
        return ExecutedGraph.from_json(path.read_bytes())
    return executed(path)


@settings_class
class CompleteSettings(JournalFileSettings):
    """A value from outside."""

    name: str = argument(metavar="NAME")
    value: str = argument(metavar="VALUE")


@graph.command()
@options(CompleteSettings)
def complete(settings: CompleteSettings) -> None:
    """Give the run in FILE the VALUE that it waits for under NAME: JSON, or text.

    The run goes on at once if it is alive, else when it is resumed.
    """
    from orchestrator import awaited
    from orchestrator.journal.outside import complete_text

    waits = {wait.name: wait.task for wait in awaited(settings.file)}
    complete_text(settings.file, settings.name, settings.value)
    if settings.name in waits:
        say(f"{settings.name}: given to task {waits[settings.name]}", err=False)
    else:
        others = ", ".join(sorted(waits)) or "nothing"
        say(
            f"{settings.name}: kept; no task has asked for it yet (awaited: {others})",
            err=False,
        )


@settings_class
class ForkSettings(JournalFileSettings):
    """A copy of a run."""

    into: str = argument(metavar="INTO")
    at: str | None = option("The id of a task that runs again, with all that depends on it.")


@graph.command()
@options(ForkSettings)
def fork(settings: ForkSettings) -> None:
    """Copy the journal FILE to INTO, from which a changed program can go on."""
    from orchestrator import fork as copy

    copy(settings.file, settings.into, at=settings.at)


@settings_class
class ResumeSettings(JournalFileSettings):
    """A run and its program."""

    program: str = argument(metavar="PROGRAM")


@graph.command()
@options(ResumeSettings)
def resume(settings: ResumeSettings) -> None:
    """Go on with the run in FILE; what has ended does not run again.

    PROGRAM is path.py:NAME or module:NAME, a function that is given FILE and returns the
    graph: TaskGraph(journal=FILE, resume=True), with its tasks.
    """
    from orchestrator import TaskGraph
    from orchestrator.errors import InvalidValue, JournalUnusable

    if not Path(settings.file).exists():
        raise JournalUnusable(f"journal {settings.file} is not there; name the file of a run")
    built = _function(settings.program)(settings.file)
    if not isinstance(built, TaskGraph):
        raise InvalidValue(
            f"program: {settings.program} returned a {type(built).__name__}; return the TaskGraph"
        )
    built.run_sync()
    counts = built.states()
    ended = ", ".join(
        f"{sum(state == one for state in counts.values())} {one}"
        for one in sorted(set(counts.values()))
    )
    say(f"{len(counts)} tasks: {ended}", err=False)


def _function(program: str) -> Callable[[str], Any]:
    """The function that a text names, of a module with the name that it has as a script.

    Tasks are known by their functions' modules: under another name, none would be found again.
    """
    from orchestrator.errors import InvalidValue, UnknownName

    place, _, name = program.rpartition(":")
    if not place:
        raise InvalidValue(f"program is {program!r}; give path.py:NAME or module:NAME")
    path = Path(place)
    if place.endswith(".py"):
        if not path.is_file():
            raise UnknownName(f"program: there is no file {place}; give path.py:NAME")
        sys.path.insert(0, str(path.resolve().parent))  # as for a script
        place = path.stem
    try:
        module = import_module(place)
    except ModuleNotFoundError as error:
        if error.name != place.partition(".")[0]:
            raise
        raise UnknownName(f"program: there is no module {place!r}; give path.py:NAME") from error
    found: Any = getattr(module, name, None)
    if not callable(found):
        raise UnknownName(f"program: {place} has no function {name!r}; give one")
    function: Callable[[str], Any] = found
    return function
