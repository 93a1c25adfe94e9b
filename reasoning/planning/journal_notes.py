"""What a planner's run writes into its journal, beside the graph's own edits and results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from orchestrator import Event, TaskGraph
from orchestrator.errors import InvalidValue, JournalUnusable
from orchestrator.journal.store import Journal
from reasoning.planning.events import (
    AnswerGiven,
    PlannerAsked,
    PlanRefused,
    RequestGiven,
    TaskPlaced,
)

NAME = "constellation"
"""Of the graph, which its journal checks."""
_KINDS: dict[str, type[Event]] = {
    "RequestGiven": RequestGiven,
    "PlannerAsked": PlannerAsked,
    "PlanRefused": PlanRefused,
    "PlanGiven": AnswerGiven,
    "StepPlaced": TaskPlaced,
}
"""Events by their names in journals, which stay when a class is renamed."""
_NAMES = {kind: name for name, kind in _KINDS.items()}
_ADAPTERS: dict[str, TypeAdapter[Event]] = {n: TypeAdapter(kind) for n, kind in _KINDS.items()}


def record_event(graph: TaskGraph, event: Event) -> None:
    """Write an event into the graph's journal, and emit it."""
    name = _NAMES[type(event)]
    graph.note(json.dumps([name, _ADAPTERS[name].dump_python(event, mode="json")]))
    graph.events.emit(event)


def read_notes(notes: Iterable[str]) -> list[Event]:
    """The events that a journal's notes hold, in order.

    Raises:
        JournalUnusable: a note holds something else.
    """
    found = []
    for note in notes:
        try:
            name, value = json.loads(note)
            found.append(_ADAPTERS[name].validate_python(value))
        except (ValueError, TypeError, KeyError, ValidationError) as error:
            raise JournalUnusable(
                f"a note that no plan has written ({note[:80]}); name another file"
            ) from error
    return found


def request_in(events: Iterable[Event], request: str | None, *, edited: bool) -> str | None:
    """The request that a journal is of; None where it has none yet.

    Raises:
        JournalUnusable: its graph was edited, but not for a request.
        InvalidValue: ``request`` is another, or there is none at all.
    """
    known = next((event.request for event in events if isinstance(event, RequestGiven)), None)
    if known is None and edited:
        raise JournalUnusable("the journal is of no planner's run; name another file")
    if known is None and request is None:
        raise InvalidValue("request: the journal holds none yet; say what is to be done")
    if known is not None and request not in (None, known):
        raise InvalidValue(
            f"request: the journal is of another one ({' '.join(known.split())[:80]!r}); leave it "
            "out to go on with that, or name another file"
        )
    return known


def check_journal(path: Path, request: str | None, *, resume: bool) -> str | None:
    """Refuse a journal that a run could not use, before anything is started for the run.

    Returns:
        The request that the run is of: the journal's, or else ``request``.

    Raises:
        JournalUnusable: it is damaged, or of something else, or holds a run and is not resumed.
        InvalidValue: it is of another request.
    """
    journal = Journal(path, NAME, resume=resume)
    try:
        edited = bool(journal.patches())
        return request_in(read_notes(journal.notes()), request, edited=edited) or request
    finally:
        journal.shut()
