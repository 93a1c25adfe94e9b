"""A kept run as a page of HTML."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from orchestrator.views.page import (
    Lane,
    LaneKind,
    PageAnswer,
    PageData,
    PageNote,
    PageOutcome,
    to_page,
)
from orchestrator.views.timeline import KINDS
from protocol import Report, ThreadReport
from reasoning.runs.record import BranchRecord, RecordedRun, called, verdict

MEANINGS_HEADING = "What the numbers mean"
MEANINGS = {
    "work": "All tokens, given and generated, by stopped branches too; what is shared counts once.",
    "span": (
        "The longest chain of tokens that depend on each other: the least latency that any number "
        "of processors allows."
    ),
    "parallelism": "Tokens generated, over those of the longest chain of branches.",
    "saved": (
        "An estimate: how many more tokens as many full samples as the policy allows would have "
        "written."
    ),
    "leaked": "Generated for branches after they were told to stop.",
    "confidence": "The winner's share of all top-level branches.",
    "cached": "Tokens of prompts that came from the server's prefix cache.",
    "planner": "What the planner wrote; what it was given is not counted.",
    "answers": "All tokens of the answers in the evaluation's file, given and generated.",
    "goes on from": "reason runs resume goes on from there.",
}
NAMES_OF_TOKENS = {"plan": "planner", "eval": "answers"}
"""What wrote a run's tokens, where these were no branches of reasoning."""


def run_page(run: RecordedRun) -> str:
    """The page of a run."""
    return to_page(run_data(run))


def run_data(run: RecordedRun) -> PageData:
    """What the page of a run shows."""
    report = run.report
    winner = _winner(run)
    figures = list(_figures(run))
    return {
        "title": f"{report.problem} – run {run.id}",
        "about": about(run),
        "heading": report.problem,
        "outcomes": [_outcome(run, winner)],
        "answers": list(_answers(run)),
        "facts": [(name, [value], MEANINGS.get(name, "")) for name, value in figures],
        "notes": list(_notes(run, [name for name, value in figures if value is not None])),
        "called": called(run.command),
        "unit": unit(run),
        "lanes": list(_lanes(run, winner) if run.command != "plan" else _task_lanes(run)),
        "over": True,
    }


def unit(run: RecordedRun) -> Literal["tokens", "seconds"]:
    """Of the axis: tasks on devices write no tokens."""
    return "seconds" if run.command == "plan" else "tokens"


def about(run: RecordedRun) -> str:
    """When a run was, of what, in one line."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(run.began))
    report = run.report
    status = "" if run.status == "finished" else f" · {run.status}"
    return (
        f"run {run.id} · {when} UTC · reason {run.command} · {report.strategy} of "
        f"{report.model}{status}"
    )


def _winner(run: RecordedRun) -> str | None:
    """The key of the answer."""
    given = run.report.answer
    pairs = zip(run.report.threads, run.branches, strict=True)
    found = (b.vote for t, b in pairs if given is not None and t.answer == given and b.vote)
    return next(found, None)


def _outcome(run: RecordedRun, winner: str | None) -> PageOutcome:
    report = run.report
    if report.answer is None:
        why = f": {report.abstained}" if report.abstained else ""
        return {"name": "", "answer": None, "verdict": f"No answer{why}", "winner": None}
    tied = ", tied" if report.tied else ""
    by = f", by {report.selected_by}" if report.selected_by else ""
    told = f"{verdict(run.command, report.verified)}{tied}{by}"
    return {"name": "", "answer": report.answer, "verdict": told, "winner": winner}


def _answers(run: RecordedRun) -> Iterator[PageAnswer]:
    """Answers with votes, the most first, as a branch wrote them."""
    pairs = zip(run.report.threads, run.branches, strict=True)
    written: dict[str, str] = {}
    for thread, branch in pairs:
        if branch.vote is not None and thread.answer is not None:
            written.setdefault(branch.vote, thread.answer)
    for key, votes in sorted(run.report.votes.items(), key=lambda pair: -pair[1]):
        yield {"key": key, "words": written.get(key, key), "votes": [votes]}


def _figures(run: RecordedRun) -> list[tuple[str, str | None]]:
    """The name and the value of each; None is left out."""
    report = run.report
    if run.command in NAMES_OF_TOKENS:
        return [
            (NAMES_OF_TOKENS[run.command], f"{report.usage.work_tokens:,} tokens"),
            (called(run.command), f"{len(report.threads):,}"),
            ("time", f"{report.wall_s:.2f} s"),
            ("goes on from", None if run.journal is None else run.journal.file),
            ("errors", "; ".join(report.errors) or None),
        ]
    return _reasoning_figures(report)


def _reasoning_figures(report: Report) -> list[tuple[str, str | None]]:
    usage, voted = report.usage, sum(report.votes.values())
    saved, cached = report.saved_tokens, usage.cached_tokens
    return [
        ("work", f"{usage.work_tokens:,} tokens"),
        ("span", f"{usage.span_tokens:,} tokens"),
        ("parallelism", f"{report.parallelism:.2f}"),
        ("saved", None if saved is None else f"about {saved:,} tokens"),
        ("leaked", f"{usage.leaked_tokens:,}" if usage.leaked_tokens else None),
        ("cached", None if cached is None else f"{cached:,}"),
        ("confidence", f"{report.confidence:.0%}" if voted > 1 else None),
        ("branches", f"{len(report.threads):,}"),
        ("time", f"{report.wall_s:.2f} s"),
        ("emulated", ", ".join(report.emulated) or None),
        ("fork refused", report.fork_refused),
        ("join skipped", report.join_skipped),
        ("ignored", ", ".join(report.ignored) or None),
        ("errors", "; ".join(report.errors) or None),
    ]


def _notes(run: RecordedRun, figures: Sequence[str]) -> Iterator[PageNote]:
    meanings = [(name, words) for name, words in MEANINGS.items() if name in figures]
    yield {"heading": MEANINGS_HEADING, "pairs": meanings}
    settings = list(run.settings.items())
    yield (
        {"heading": "Settings", "pairs": settings}
        if settings
        else {"heading": "Settings", "lines": ["all at their defaults"]}
    )
    yield {"heading": "Versions", "pairs": list(run.versions.items())}
    steering = run.report.steering
    if steering is not None:
        ids = {one.number: one.id for one in run.branches if one.number is not None}
        lines = [f"at token {steering.clock:,}: {steering.reason}"]
        for one in steering.decisions:
            whose = (
                "" if one.trace is None else f"branch {ids.get(one.trace, 'that never wrote')}: "
            )
            lines.append(f"{whose}{_decided(one.model_dump())}")
        yield {"heading": f"Policy {steering.policy}", "lines": lines}


def _decided(decision: Mapping[str, Any]) -> str:
    told = ("told", "do", "reason", "trace")
    more = [
        f"{name} {value}"
        for name, value in decision.items()
        if name not in told and value is not None
    ]
    what = f"{decision['do']} ({', '.join(more)})" if more else decision["do"]
    return f"{what}: {decision['reason']}"


def _lanes(run: RecordedRun, winner: str | None) -> Iterator[Lane]:
    decided: dict[int | None, list[str]] = {}
    if run.report.steering is not None:
        for one in run.report.steering.decisions:
            decided.setdefault(one.trace, []).append(_decided(one.model_dump()))
    for thread, branch in zip(run.report.threads, run.branches, strict=True):
        number = branch.number
        yield _lane(thread, branch, winner, [] if number is None else decided.get(number, []))


def _lane(
    thread: ThreadReport, branch: BranchRecord, winner: str | None, decided: list[str]
) -> Lane:
    trace = thread.trace
    lists = [("The policy decided", decided)] if decided else []
    if trace is not None and trace.probes:
        asked = [
            f"after {at:,} tokens: {'none' if key is None else key}" for at, key in trace.probes
        ]
        lists.append(("Answers when asked on the way", asked))
    return {
        "id": thread.id,
        "parent": thread.parent,
        "name": thread.name,
        "kind": _kind(thread),
        "why": branch.why,
        "stretches": branch.stretches,
        "size": thread.tokens,
        "after": branch.after,
        "answer": thread.answer,
        "vote": branch.vote,
        "wins": winner is not None and branch.vote == winner,
        "text": thread.text,
        "facts": [
            (name, value) for name, value in _branch_facts(thread, branch) if value is not None
        ],
        "lists": lists,
    }


def _task_lanes(run: RecordedRun) -> Iterator[Lane]:
    """The tasks of a plan, on an axis of seconds."""
    for thread, branch in zip(run.report.threads, run.branches, strict=True):
        lane: Lane = {
            "id": thread.id,
            "name": thread.name,
            "kind": KINDS[thread.state],
            "why": branch.why,
            "after": branch.after,
            "text": thread.text,
        }
        if branch.started is not None and branch.ended is not None:
            lane["stretches"] = [(branch.started, branch.ended)]
            lane["size"] = round(branch.ended - branch.started, 4)
        yield lane


def _kind(thread: ThreadReport) -> LaneKind:
    if thread.lost or thread.state == "failed":
        return "failed"
    if thread.ending == "stopped":
        return "stopped"
    return "ended" if thread.ending in ("end", "stop-text") else "cut"


def _branch_facts(thread: ThreadReport, branch: BranchRecord) -> Iterator[tuple[str, Any]]:
    if branch.started is not None:
        ended = "…" if branch.ended is None else f"{branch.ended:.2f}"
        yield ("seconds", f"{branch.started:.2f}–{ended}")
    yield ("attempts", branch.attempts if branch.attempts > 1 else None)
    yield ("error", branch.error)
    yield ("mean logprob", None if thread.logprob is None else f"{thread.logprob:.3f}")
    yield ("score", None if thread.trace is None else thread.trace.score)
    yield ("cached", thread.cached)
