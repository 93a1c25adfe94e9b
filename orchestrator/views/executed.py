"""The graph as executed, as a value that can be kept and compared: of a run, or of its journal."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from operator import attrgetter
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import dumps, why

SCHEMA = "orchestrator.graph/1"
OPEN = "open"
"""The state of a task that has not ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """When a task began and ended, in seconds since 1970; None for what did not happen."""

    started: float | None
    ended: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutedTask:
    """What a task was, and how it ended.

    Attributes:
        function: Its function's module and name.
        arguments: The fingerprint of its function's code and its own arguments; what it took from
            other tasks is in ``edges``.
        options: Those that were given.
        edges: What it waited for: source, ``data`` or ``control``, and the condition.
        state: The final state, or ``open``.
        value: The digest of its result; None without one, or if it can't be written.
        error: What it raised last.
    """

    id: str
    name: str
    function: str
    arguments: str
    options: dict[str, Any]
    parent: str | None
    edges: tuple[tuple[str, str, str], ...]
    state: str
    attempts: int
    work: int
    value: str | None
    error: str | None

    @property
    def label(self) -> str:
        """How people see it."""
        return f"{self.id} ({self.name})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutedGraph:
    """A run without its times, which stand apart: equal runs have equal tasks.

    Attributes:
        tasks: In the order of their ids.
        run: Names the run among all.
        times: When each task ran, by id.
    """

    name: str
    tasks: tuple[ExecutedTask, ...]
    run: str
    times: dict[str, Span]

    def to_json(self) -> str:
        """The graph as JSON with stable order; ``run`` and ``times`` come last."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @staticmethod
    def from_json(text: str | bytes) -> ExecutedGraph:
        """The graph that `to_json` wrote.

        Raises:
            InvalidValue: the text is none; the message names the field.
        """
        try:
            values = TypeAdapter(dict[str, Any]).validate_json(text)
            if values.pop("schema", None) != SCHEMA:
                raise InvalidValue(f"schema is not {SCHEMA}; give the JSON of an executed graph")
            return _adapter.validate_python(values)
        except ValidationError as error:
            raise InvalidValue(f"the graph can't be read: {why(error)}; mend that field") from error

    def diff(self, other: ExecutedGraph) -> list[str]:
        """What differs in ``other``, a line each; empty for equal runs, whatever their times.

        Tasks are the same if their functions, arguments, options and edges are, not by their ids:
        these depend on who was faster.

        Raises:
            InvalidValue: tasks wait for each other, which no run wrote.
        """
        return list(_differences(self, other))


_adapter = TypeAdapter(ExecutedGraph)


def natural(id: str) -> tuple[Any, ...]:
    """Orders ids by number: 1.2 before 1.10."""
    return tuple(
        (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in id.split(".")
    )


def digest(text: str) -> str:
    """A short name of a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


# ---- differences ---------------------------------------------------------------------------------


def _differences(ours: ExecutedGraph, theirs: ExecutedGraph) -> Iterator[str]:
    if ours.name != theirs.name:
        yield f"~ the graph was {ours.name} and is {theirs.name}"
    left, right = _by_signature(ours), _by_signature(theirs)
    lost, found = [], []
    for signature in left.keys() | right.keys():
        before, after = left.get(signature, []), right.get(signature, [])
        both = min(len(before), len(after))
        for one, other in zip(before[:both], after[:both], strict=True):
            yield from _changes(one, other)
        lost += before[both:]
        found += after[both:]
    yield from _unmatched(lost, found)


def _by_signature(graph: ExecutedGraph) -> dict[str, list[ExecutedTask]]:
    """The tasks by what they are, with all that they come from; equal ones by how they ended."""
    known: dict[str, str] = {}
    found = defaultdict(list)
    for task in _sources_first(graph):
        edges = [[known.get(source, source), *rest] for source, *rest in task.edges]
        parts = [task.name, task.function, task.arguments, task.options, edges]
        parent = known.get(task.parent or "", task.parent or "")
        known[task.id] = digest(dumps([*parts, parent]))
        found[known[task.id]].append(task)
    for alike in found.values():
        alike.sort(key=lambda task: (task.state, task.value or "", task.error or "", task.attempts))
    return found


def _sources_first(graph: ExecutedGraph) -> list[ExecutedTask]:
    """Each task after what it waited for, and after its parent."""
    import networkx

    order: networkx.DiGraph[str] = networkx.DiGraph()
    tasks = {task.id: task for task in graph.tasks}
    order.add_nodes_from(tasks)
    for task in graph.tasks:
        needs = [source for source, _, _ in task.edges] + ([task.parent] if task.parent else [])
        order.add_edges_from((need, task.id) for need in needs)
    try:
        return [tasks[id] for id in networkx.topological_sort(order) if id in tasks]
    except networkx.NetworkXUnfeasible:
        raise InvalidValue("tasks of the graph wait for each other; mend their edges") from None


def _changes(one: ExecutedTask, other: ExecutedTask) -> Iterator[str]:
    fields = ("function", "arguments", "options", "state", "attempts", "work", "value", "error")
    changed = [field for field in fields if getattr(one, field) != getattr(other, field)]
    for field in changed:
        before, after = getattr(one, field), getattr(other, field)
        yield f"~ {other.label}: {field} was {_shown(before)} and is {_shown(after)}"


def _unmatched(lost: list[ExecutedTask], found: list[ExecutedTask]) -> Iterator[str]:
    """Pairs what was in the same place, alike or at least of the same name, and tells the rest.

    What differs only by what it comes from is not told: that is.
    """
    for place in (attrgetter("name", "parent", "arguments"), attrgetter("name", "parent")):
        places = defaultdict(list)
        for task in sorted(lost, key=_place):
            places[place(task)].append(task)
        alone = []
        for task in sorted(found, key=_place):
            same = places[place(task)]
            if not same:
                alone.append(task)
                continue
            before = same.pop(0)
            yield from _changes(before, task)
            if before.edges != task.edges:
                yield f"~ {task.label}: it waits for others than before"
        lost, found = [task for same in places.values() for task in same], alone
    yield from (f"- {task.label}: {task.state}" for task in lost)
    yield from (f"+ {task.label}: {task.state}" for task in found)


def _place(task: ExecutedTask) -> tuple[Any, ...]:
    return natural(task.id)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


# ---- of a run, and of a journal ------------------------------------------------------------------


def ordered(name: str, run: str, tasks: Iterable[tuple[ExecutedTask, Span]]) -> ExecutedGraph:
    """A graph of tasks in whatever order."""
    pairs = sorted(tasks, key=lambda pair: natural(pair[0].id))
    return ExecutedGraph(
        name=name,
        run=run,
        tasks=tuple(replace(task, edges=tuple(sorted(task.edges))) for task, _ in pairs),
        times={task.id: span for task, span in pairs},
    )
