"""A journal's file as a value: the graph as executed, and a copy from which another run goes on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.calls import signature
from orchestrator.editing.patches import Change, Connect, Disconnect, Remove
from orchestrator.errors import InvalidValue, JournalUnusable, UnknownName
from orchestrator.journal.codec import to_json
from orchestrator.journal.fingerprint import fingerprint, function_name, own_part
from orchestrator.journal.resume import Gone
from orchestrator.journal.tables import JournalTables, ResultRow, TaskRow, opened, sealed
from orchestrator.node import Node
from orchestrator.views.executed import OPEN, ExecutedGraph, ExecutedTask, Span, digest, ordered
from orchestrator.views.record import FINAL

if TYPE_CHECKING:
    from orchestrator.scheduler.run import GraphRun


def executed(journal: str | Path) -> ExecutedGraph:
    """The graph that a journal holds, as executed so far.

    Raises:
        JournalUnusable: the file is no journal, or is damaged.
    """
    path = Path(journal)
    with opened(path) as db:
        found = JournalTables(path, db)
        name, run = found.about()
        rows, results = found.tasks(), found.results()
        for key in _gone(found, rows):
            rows.pop(key, None)
        edges = {key: [tuple(edge) for edge in json.loads(row.edges)] for key, row in rows.items()}
        arguments = {key: own_part(row.mark) for key, row in rows.items()}
        _edit(found, edges, arguments)
        tasks = [
            (_task(row, edges[key], arguments[key], results.get(key)), _span(results.get(key)))
            for key, row in rows.items()
        ]
        return ordered(name, run, tasks)


def _gone(journal: JournalTables, rows: dict[str, TaskRow]) -> set[str]:
    """Rows that are not of the run as it was last: others stand for them, or nobody added them."""
    gone = {row.donor for row in rows.values() if row.donor} | journal.left()
    gone |= {op.id for patch in journal.patches() for op in patch.ops if isinstance(op, Remove)}
    for row in rows.values():  # parents come first
        if row.parent in gone:
            gone.add(row.id)
    return gone


def _edit(journal: JournalTables, edges: dict[str, Any], arguments: dict[str, str]) -> None:
    """Follow what patches did to tasks that were there."""
    for op in (op for patch in journal.patches() for op in patch.ops):
        if isinstance(op, Connect) and op.target in edges:
            edges[op.target].append((op.source, "control", str(op.when)))
        elif isinstance(op, Disconnect) and op.target in edges:
            edges[op.target] = [edge for edge in edges[op.target] if edge[0] != op.source]
        elif isinstance(op, Change) and op.id in arguments:
            arguments[op.id] = digest(arguments[op.id] + op.model_dump_json())


def _task(row: TaskRow, edges: Any, arguments: str, result: ResultRow | None) -> ExecutedTask:
    return ExecutedTask(
        id=row.id,
        name=row.name,
        function=row.function,
        arguments=digest(arguments),
        options=json.loads(row.options) if row.options else {},
        parent=row.parent,
        edges=tuple(edges),
        state=OPEN if result is None else result.state,
        attempts=0 if result is None else result.attempt,
        work=0 if result is None else result.work,
        value=None if result is None or result.value is None else digest(result.value),
        error=None if result is None or result.error is None else _raised(result.error),
    )


def _raised(text: str) -> str:
    """The class and the text of an error that was written, also of a class that is not here."""
    error = json.loads(text)
    return f"{error['c'][0].rpartition(':')[2].rpartition('.')[2]}: {error['t']}"


def _span(result: ResultRow | None) -> Span:
    if result is None:
        return Span(started=None, ended=None)
    started = result.started_us / 1e6 if result.attempt else None
    return Span(started=started, ended=result.ended_us / 1e6)


def executed_so_far(run: GraphRun) -> ExecutedGraph:
    """The graph of a run, as executed so far."""
    since = time.time() - time.monotonic()
    nodes = run.structure.nodes.values()
    return ordered(run.name, run.id, [(_node(node), _ran(node, since)) for node in nodes])


def _node(node: Node) -> ExecutedTask:
    gone = node.function.row if isinstance(node.function, Gone) else None
    return ExecutedTask(
        id=node.id,
        name=node.name,
        function=gone.function if gone else function_name(node.function),
        arguments=digest(own_part(gone.mark if gone else fingerprint(node, str))),
        options=json.loads(gone.options or "{}") if gone else node.settings.described(),
        parent=None if node.parent is None else node.parent.id,
        edges=tuple((edge.source.id, edge.kind, str(edge.when)) for edge in node.inbound),
        state=node.state if node.state in FINAL else OPEN,
        attempts=len(node.attempts),
        work=node.work,
        value=_value(node),
        error=node.error_line,
    )


def _value(node: Node) -> str | None:
    if node.state != "succeeded" or node.freed:
        return None
    for hint in (None, signature(node.function).returns):
        with contextlib.suppress(InvalidValue):
            return digest(to_json(node.value, node.id, hint))
    return None


def _ran(node: Node, since: float) -> Span:
    started = node.attempts[0][0] + since if node.attempts else None
    return Span(started=started, ended=None if node.ended_at is None else node.ended_at + since)


# ---- forks ---------------------------------------------------------------------------------------


def fork(journal: str | Path, into: str | Path, *, at: str | None = None) -> None:
    """Copy a journal, so that another run can go on from it: build the graph, and resume it there.

    What has changed in the program runs again, as in every resumed run.  ``at`` is the id of a task
    that runs again also if nothing has changed, with all that depends on it.

    Raises:
        UnknownName: there is no task ``at``.
        InvalidValue: there is a file ``into`` already.
        JournalUnusable: the journal can't be read, or the copy not be written.
    """
    source, target = Path(journal), Path(into)
    if target.exists():
        raise InvalidValue(f"into is {target}, which is there already; name a new file")
    with opened(source) as db:
        rows = JournalTables(source, db).tasks()
        again = set() if at is None else _dependents(rows, at)
    try:
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
            with contextlib.closing(sqlite3.connect(source)) as old:
                old.backup(copy)
            copy.execute("BEGIN")
            for key in again:
                copy.execute("DELETE FROM results WHERE task = ?", (key,))
                copy.execute("DELETE FROM attempts WHERE task = ?", (key,))
                copy.execute("DELETE FROM spends WHERE task = ?", (key,))
            began = (*sealed((1, time.time())), 1)
            copy.execute(
                "UPDATE epochs SET epoch = ?, opened = ?, checksum = ? WHERE epoch = ?", began
            )
            newest = copy.execute("SELECT max(epoch) FROM epochs").fetchone()
            copy.execute("INSERT INTO closed VALUES (?, ?)", sealed(newest))
            copy.execute("COMMIT")
    except sqlite3.Error as error:
        raise JournalUnusable(f"journal {target} can't be written ({error}); free space") from error


def _dependents(rows: dict[str, TaskRow], at: str) -> set[str]:
    """A task, all that took from it, what they had added, and who had added them."""
    if at not in rows:
        raise UnknownName(f"at is {at!r}, and the journal has no such task; give the id of one")
    takers: dict[str, list[str]] = {}
    children: dict[str, list[str]] = {}
    for row in rows.values():
        children.setdefault(row.parent or "", []).append(row.id)
        for source, *_ in json.loads(row.edges):
            takers.setdefault(source, []).append(row.id)
    found: set[str] = set()
    stack: list[tuple[str, bool]] = [(at, True)]
    while stack:
        key, whole = stack.pop()
        if key in found:
            continue
        found.add(key)
        stack += [(taker, True) for taker in takers.get(key, ())]
        if whole:
            stack += [(child, True) for child in children.get(key, ())]
        parent = rows[key].parent
        if parent is not None:
            stack.append((parent, False))  # it adds its children again
    return found
