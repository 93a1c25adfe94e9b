"""Two kept runs on one page: figures beside each other, branches on one axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.errors import InvalidValue
from orchestrator.views.page import Lane, PageAnswer, PageData, PageNote, to_page
from reasoning.runs.compare import differences
from reasoning.runs.page import MEANINGS_HEADING, run_data
from reasoning.runs.record import RecordedRun

SHORT = 4
"""Characters of an id that name a run; letters would be taken for answers."""


def compared_page(first: RecordedRun, second: RecordedRun) -> str:
    """The page of two runs; an answer has the same letter in both.

    Raises:
        InvalidValue: one is a plan or an evaluation, and the other is something else.
    """
    names = _names(first, second)
    runs = list(zip(names, (first, second), (run_data(first), run_data(second)), strict=True))
    questions = [f"{name}: {run.report.problem}" for name, run, _ in runs]
    same = first.report.problem == second.report.problem
    pages = [page for *_, page in runs]
    if pages[0]["called"] != pages[1]["called"]:
        kinds = " and ".join(f"{page['called']} ({name})" for name, _, page in runs)
        raise InvalidValue(f"run: {kinds} do not fit on one page; name two runs of one kind")
    data: PageData = {
        "title": f"runs {first.id} and {second.id}: {first.report.problem}",
        "about": " · ".join(f"{name}: {page['about']}" for name, _, page in runs),
        "heading": first.report.problem if same else "\n".join(questions),
        "outcomes": [{**page["outcomes"][0], "name": name} for name, _, page in runs],
        "answers": _together(pages),
        "facts": list(_side_by_side(pages)),
        "notes": _notes(first, second, names, pages),
        "called": pages[0]["called"],
        "unit": pages[0]["unit"],
        "lanes": [lane for name, run, page in runs for lane in _below(name, run, page["lanes"])],
    }
    return to_page(data)


def _names(first: RecordedRun, second: RecordedRun) -> tuple[str, str]:
    one, other = first.id[:SHORT], second.id[:SHORT]
    if one == other:
        one, other = first.id, second.id
    return one, other if other != one else f"{other}'"


def _together(pages: Sequence[PageData]) -> list[PageAnswer]:
    """The answers of all, each with its votes in each."""
    found: dict[str, PageAnswer] = {}
    for place, page in enumerate(pages):
        for one in page["answers"]:
            whole = found.setdefault(one["key"], {**one, "votes": [0] * len(pages)})
            votes = [*whole["votes"]]
            votes[place] = one["votes"][0]
            whole["votes"] = votes
    return sorted(found.values(), key=lambda one: -sum(one["votes"]))


def _side_by_side(pages: Sequence[PageData]) -> Iterator[tuple[str, list[str | None], str]]:
    for figures in zip(*(page["facts"] for page in pages), strict=True):
        name, _, meaning = figures[0]
        yield name, [values[0] for _, values, _ in figures], meaning


def _notes(
    first: RecordedRun, second: RecordedRun, names: Sequence[str], pages: Sequence[PageData]
) -> list[PageNote]:
    found = differences(first, second) or ["nothing"]
    notes: list[PageNote] = [{"heading": f"How {names[1]} differs from {names[0]}", "lines": found}]
    for name, page in zip(names, pages, strict=True):
        own = [note for note in page["notes"] if note["heading"] != MEANINGS_HEADING]
        notes += [{**note, "heading": f"{name}: {note['heading']}"} for note in own]
    return notes


def _below(name: str, run: RecordedRun, lanes: Sequence[Lane]) -> Iterator[Lane]:
    """A run's lanes, below one for the run."""
    report = run.report
    yield {
        "id": name,
        "name": f"run {run.id}, {report.strategy}",
        "kind": "ended" if run.status == "finished" else "stopped",
        "why": f"the run {run.status}",
        "size": report.wall_s if run.command == "plan" else report.usage.completion_tokens,
    }
    for lane in lanes:
        above = lane.get("parent")
        yield {
            **lane,
            "id": f"{name}.{lane['id']}",
            "parent": name if above is None else f"{name}.{above}",
            "after": [f"{name}.{one}" for one in lane.get("after", ())],
        }
