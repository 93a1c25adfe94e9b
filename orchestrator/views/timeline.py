"""A run as a page: one row for each task, when it queued and ran, and how it ended."""

from __future__ import annotations

import html
import math
from collections import Counter, defaultdict

from orchestrator.views.page import Lane, LaneKind, to_page
from orchestrator.views.record import RunRecord, TaskRecord, TaskState

MOST_ROWS = 20_000
"""Rows of a page; of a larger run, the tasks that took longest are shown."""
MOST_LINES = 60
"""Lines of a fragment in a notebook."""
LONGEST_NAME = 200
LONGEST_ERROR = 500
DOT = " \N{MIDDLE DOT} "

KINDS: dict[TaskState, LaneKind] = {
    "waiting": "waiting",
    "ready": "waiting",
    "running": "running",
    "succeeded": "ended",
    "failed": "failed",
    "skipped": "skipped",
    "cancelled": "stopped",
}
FILLS = {
    "waiting": "#9ca3af",
    "ready": "#d97706",
    "running": "#2563eb",
    "succeeded": "#16a34a",
    "failed": "#dc2626",
    "skipped": "#9ca3af",
    "cancelled": "#ea580c",
}


def to_html(run: RunRecord) -> str:
    """A page that needs nothing but itself: no network, no other file."""
    shown = _longest(run, MOST_ROWS)
    chain, ids = critical_path(run), {task.id for task in shown}
    after: dict[str, list[str]] = defaultdict(list)
    for edge in run.edges:
        if edge.kind != "spawn" and edge.source in ids:
            after[edge.target].append(edge.source)
    left = len(run.tasks) - len(shown)
    return to_page(
        {
            "title": run.name,
            "about": "task graph" + (f"; {left:,} shorter tasks are left out" if left else ""),
            "heading": run.name,
            "outcomes": [{"name": "", "answer": None, "verdict": _states(run), "winner": None}],
            "answers": [],
            "facts": [(name, [value], told) for name, value, told in _figures(run)],
            "notes": [],
            "called": "tasks",
            "unit": "seconds",
            "length": run.wall_s,
            "lanes": [_lane(task, run.wall_s, task.id in chain, after[task.id]) for task in shown],
        }
    )


def to_fragment(run: RunRecord) -> str:
    """A summary and a small timeline, for a notebook's cell."""
    shown = _longest(run, MOST_LINES)
    wall = run.wall_s or 1.0
    bars = []
    for line, task in enumerate(shown):
        label = html.escape(f"{task.id} {task.name}"[:40])
        bars.append(f'<text x="0" y="{line * 16 + 12}" font-size="11">{label}</text>')
        for attempt in task.attempts:
            start = 260 + 500 * attempt.started / wall
            width = max(1.0, 500 * ((attempt.ended or wall) - attempt.started) / wall)
            fill = FILLS["failed" if attempt.error else task.state]
            bars.append(
                f'<rect x="{start:.1f}" y="{line * 16 + 3}" width="{width:.1f}" height="11" '
                f'fill="{fill}"><title>{html.escape(task.state)}</title></rect>'
            )
    return (
        f"<div><b>{html.escape(run.name)}</b> <small>{_summary(run)}</small>"
        f'<svg width="780" height="{len(shown) * 16 + 4}" font-family="sans-serif" '
        f'fill="currentColor">{"".join(bars)}</svg></div>'
    )


def critical_path(run: RunRecord) -> set[str]:
    """The tasks that decided how long the run took, back from the last one to end.

    From each task the path goes back to the last to end among its children.  A task without
    children goes back to its sources; if it has a parent, also to the parent's sources and to
    the siblings that had ended when it was added.
    """
    ended = {t.id: t.ended for t in run.tasks if t.state == "succeeded" and t.ended is not None}
    tasks = {task.id: task for task in run.tasks}
    sources: dict[str, list[str]] = defaultdict(list)
    children: dict[str, list[str]] = defaultdict(list)
    for edge in run.edges:
        if edge.kind == "spawn":
            children[edge.source].append(edge.target)
        else:
            sources[edge.target].append(edge.source)
    chain: set[str] = set()
    at = max(ended, key=lambda id: ended[id], default=None)
    while at is not None:
        chain.add(at)
        before = children[at] or [*sources[at]]
        parent = tasks[at].parent
        if not children[at] and parent is not None:
            added = tasks[at].added
            before += [id for id in children[parent] if ended.get(id, math.inf) <= added]
            before += sources[parent]
        known = [id for id in before if id in ended and id not in chain]
        at = max(known, key=lambda id: ended[id], default=None)
    return chain


def _longest(run: RunRecord, most: int) -> list[TaskRecord]:
    """At most so many tasks, those that ran longest; children follow their parent."""
    kept = sorted(run.tasks, key=lambda task: -_seconds(task, run.wall_s))[:most]
    ids = {task.id for task in kept}
    below: dict[str | None, list[TaskRecord]] = defaultdict(list)
    for task in run.tasks:
        below[task.parent].append(task)
    ordered: list[TaskRecord] = []
    stack = below[None][::-1]
    while stack:
        task = stack.pop()
        if task.id in ids:
            ordered.append(task)
        stack += below[task.id][::-1]
    return ordered


def _seconds(task: TaskRecord, wall: float = 0.0) -> float:
    """How long it ran; an attempt that has not ended counts up to ``wall``."""
    ends = ((wall if one.ended is None else one.ended, one.started) for one in task.attempts)
    return sum(max(0.0, ended - started) for ended, started in ends)


def _lane(task: TaskRecord, wall: float, critical: bool, after: list[str]) -> Lane:
    def place(at: float | None) -> float:
        return round(wall if at is None else at, 6)

    lane: Lane = {
        "id": task.id,
        "name": task.name[:LONGEST_NAME],
        "kind": KINDS[task.state],
        "why": task.state + (f": {task.error[:LONGEST_ERROR]}" if task.error else ""),
        "stretches": [
            (place(one.started), place(one.ended), *([one.error] if one.error else []))
            for one in task.attempts
        ],
    }
    if task.attempts:
        lane["size"] = round(_seconds(task, wall), 6)
    if task.parent is not None:
        lane["parent"] = task.parent
    if after:
        lane["after"] = after
    if critical:
        lane["critical"] = True
    if task.ready is not None:
        until = task.started if task.attempts else task.ended
        lane["waited"] = [(place(task.ready), place(until))]
    facts = [
        ("cost", task.work or None),
        ("leaked", "something of it could not be stopped" if task.leaked else None),
    ]
    lane["facts"] = [(name, value) for name, value in facts if value is not None]
    if len(task.attempts) > 1 or any(one.error for one in task.attempts):
        ends = [f"{one.started:.6g}–{place(one.ended):.6g} s" for one in task.attempts]
        said = [(one.error or "went well")[:LONGEST_ERROR] for one in task.attempts]
        told = [f"{when}: {what}" for when, what in zip(ends, said, strict=True)]
        lane["lists"] = [("Attempts", told)]
    return lane


def _states(run: RunRecord) -> str:
    counts = Counter(task.state for task in run.tasks)
    return DOT.join(f"{count:,} {state}" for state, count in counts.items())


def _figures(run: RunRecord) -> list[tuple[str, str, str]]:
    """Names, values and meanings."""
    return [
        ("wall", f"{run.wall_s:.3g} s", "From the beginning to the end."),
        ("span", f"{run.span_s:.3g} s", "Along the longest chain of tasks that wait."),
        ("busy", f"{run.busy_s:.3g} s", "Of all attempts together."),
        ("parallelism", f"{run.parallelism:.1f}", "How many attempts ran at once: busy by span."),
        ("work", f"{run.work:,}", "The cost of all tasks, cancelled ones included."),
        ("cost of the span", f"{run.span:,}", "Along the longest chain of what succeeded."),
        ("wasted", f"{run.wasted:,}", "The cost of cancelled and failed tasks."),
    ]


def _summary(run: RunRecord) -> str:
    figures = (f"{name} {value}" for name, value, _ in _figures(run))
    return html.escape(DOT.join((_states(run), *figures)))
