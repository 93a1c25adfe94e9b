"""What differs between two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from orchestrator.views.executed import natural
from protocol import Report, ThreadReport
from reasoning.runs.record import RecordedRun

SHARED = ("problem", "domain", "strategy", "model", "status", "answer", "verified", "confidence")
COUNTED = ("work_tokens", "span_tokens", "leaked_tokens")
LONGEST = 80


def differences(one: RecordedRun, other: RecordedRun) -> list[str]:
    """What differs in ``other``, a line each; empty for equal runs, whatever their times.

    Branches are the same if their ids are.
    """
    first, second = one.report, other.report
    return [
        *_pairs("", _fields(first, SHARED), _fields(second, SHARED)),
        *_pairs("setting ", one.settings, other.settings),
        *_pairs("version of ", one.versions, other.versions),
        *_pairs("votes for ", first.votes, second.votes),
        *_pairs("", _fields(first.usage, COUNTED), _fields(second.usage, COUNTED)),
        *_steering(first, second),
        *_branches(one, other),
    ]


def _fields(value: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _pairs(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield f"~ {what}{name} was {_shown(old)} and is {_shown(new)}"


def _steering(before: Report, after: Report) -> Iterator[str]:
    names = ("policy", "clock", "reason")
    old, new = ({} if r.steering is None else _fields(r.steering, names) for r in (before, after))
    yield from _pairs("policy's ", old, new)


def _branches(one: RecordedRun, other: RecordedRun) -> Iterator[str]:
    before, after = (_by_id(run) for run in (one, other))
    for id in sorted(before.keys() | after.keys(), key=natural):
        if id not in after:
            yield f"- branch {id} ({_shown(before[id][0].name)})"
        elif id not in before:
            yield f"+ branch {id} ({_shown(after[id][0].name)})"
        else:
            (old, why), (new, reason) = before[id], after[id]
            names = ("name", "state", "answer", "tokens")
            yield from _pairs(
                f"branch {id}: ",
                {**_fields(old, names), "end": why},
                {**_fields(new, names), "end": reason},
            )
            if old.text != new.text:
                yield f"~ branch {id}: {_parting(old.text, new.text)}"


def _by_id(run: RecordedRun) -> dict[str, tuple[ThreadReport, str]]:
    pairs = zip(run.report.threads, run.branches, strict=True)
    return {thread.id: (thread, branch.why) for thread, branch in pairs}


def _parting(old: str, new: str) -> str:
    """Where two texts part, and how each goes on."""
    both = enumerate(zip_longest(old, new))
    at = next(place for place, (a, b) in both if a != b)
    return f"its text parts at character {at}: was {_shown(old[at:])} and is {_shown(new[at:])}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = " ".join(str(value).split()) or "empty"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
