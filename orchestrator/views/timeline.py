"""A run as a page: one row for each task, when it queued and ran, and how it ended."""

from __future__ import annotations

import html
import json
import math
import re
from collections import Counter, defaultdict
from importlib.resources import files
from typing import Any

from orchestrator.views.record import RunRecord, TaskRecord

MOST_ROWS = 20_000
"""Rows of a page; of a larger run, the tasks that took longest are shown."""
MOST_LINES = 60
"""Lines of a fragment in a notebook."""

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
    depths = _depths(run)
    chain = critical_path(run)
    rows = [_row(task, depths[task.id], task.id in chain, run.wall_s) for task in shown]
    data = {
        "wall": run.wall_s,
        "rows": rows,
        "left": len(run.tasks) - len(shown),
        "fills": FILLS,
    }
    page = files("orchestrator.views").joinpath("timeline.html").read_text(encoding="utf-8")
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for old, new in (("</", "<\\/"), ("<!--", "<\\!--")):
        text = text.replace(old, new)
    parts = {"title": html.escape(run.name), "summary": _summary(run), "data": text}
    # In one pass: a name that looks like a place of the page is a name.
    return re.sub(r"\{\{(title|summary|data)\}\}", lambda place: parts[place[1]], page)


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
    kept = sorted(run.tasks, key=lambda task: -_seconds(task))[:most]
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


def _seconds(task: TaskRecord) -> float:
    return sum((attempt.ended or 0.0) - attempt.started for attempt in task.attempts)


def _depths(run: RunRecord) -> dict[str, int]:
    depths: dict[str, int] = {}
    for task in run.tasks:
        depths[task.id] = 0 if task.parent is None else depths.get(task.parent, 0) + 1
    return depths


def _row(task: TaskRecord, depth: int, critical: bool, wall: float) -> list[Any]:
    attempts = [
        [round(a.started, 6), round(wall if a.ended is None else a.ended, 6), a.error]
        for a in task.attempts
    ]
    ready = None if task.ready is None else round(task.ready, 6)
    ended = None if task.ended is None else round(task.ended, 6)
    return [
        task.id,
        task.name[:200],
        task.state,
        depth,
        ready,
        ended,
        attempts,
        task.work,
        task.error and task.error[:500],
        int(critical),
        int(task.leaked),
    ]


def _summary(run: RunRecord) -> str:
    counts = Counter(task.state for task in run.tasks)
    parts = [f"{count} {state}" for state, count in counts.items()]
    parts += [
        f"cost: work {run.work:,}, span {run.span:,}, wasted {run.wasted:,}",
        f"time: wall {run.wall_s:.3g} s, span {run.span_s:.3g} s, busy {run.busy_s:.3g} s",
        f"parallelism {run.parallelism:.1f}",
    ]
    return html.escape(" \N{MIDDLE DOT} ".join(parts))
