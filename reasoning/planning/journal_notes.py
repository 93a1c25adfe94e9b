"""What a run of a planner keeps in its journal, beside the graph's own edits and results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from orchestrator import Event, TaskGraph
from orchestrator.errors import InvalidValue, JournalUnusable
from orchestrator.journal.store import Journal
from reasoning.planning.events import (
    PlanGiven,
    PlannerAsked,
    PlanRefused,
    RequestGiven,
    StepPlaced,
)

NAME = "constellation"
"""Of the graph, which its journal checks."""
_KEPT = (RequestGiven, PlannerAsked, PlanRefused, PlanGiven, StepPlaced)
_ADAPTERS: dict[str, TypeAdapter[Event]] = {kind.__name__: TypeAdapter(kind) for kind in _KEPT}


def tell(graph: TaskGraph, event: Event) -> None:
    """Let an event be seen, and kept."""
    kind = type(event).__name__
    graph.note(json.dumps([kind, _ADAPTERS[kind].dump_python(event, mode="json")]))
    graph.events.emit(event)


def read(notes: Iterable[str]) -> list[Event]:
    """The events that were kept, in order.

    Raises:
        JournalUnusable: something else was kept.
    """
    found = []
    for note in notes:
        try:
            kind, value = json.loads(note)
            found.append(_ADAPTERS[kind].validate_python(value))
        except (ValueError, TypeError, KeyError, ValidationError) as error:
            raise JournalUnusable(
                f"the journal holds a note that no plan has written ({note[:80]}); name another "
                "file"
            ) from error
    return found


def request_in(events: Iterable[Event], request: str | None, *, edited: bool) -> str | None:
    """The request that a journal is of; None where it has none yet.

    Raises:
        JournalUnusable: its graph was edited, but not for a request.
        InvalidValue: ``request`` is another, or there is none at all.
    """
    kept = next((event.request for event in events if isinstance(event, RequestGiven)), None)
    if kept is None and edited:
        raise JournalUnusable("the journal is of no planner's run; name another file")
    if kept is None and request is None:
        raise InvalidValue("request: the journal holds none yet; say what is to be done")
    if kept is not None and request not in (None, kept):
        raise InvalidValue(
            f"request: the journal is of another one ({' '.join(kept.split())[:80]!r}); leave it "
            "out to go on with that, or name another file"
        )
    return kept


def check(path: Path, request: str | None, *, resume: bool) -> None:
    """Refuse a journal that a run could not use, before anything is started for the run.

    Raises:
        JournalUnusable: it is damaged, or of something else, or holds a run and is not resumed.
        InvalidValue: it is of another request.
    """
    journal = Journal(path, NAME, resume=resume)
    try:
        edited = bool(journal.patches())
        request_in(read(journal.notes()), request, edited=edited)
    finally:
        journal.shut()
