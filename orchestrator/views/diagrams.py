"""A run as a graph of networkx, Mermaid, Graphviz, or JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import why
from orchestrator.views.record import EdgeKind, RunRecord, TaskRecord, TaskState

if TYPE_CHECKING:
    import networkx

SCHEMA = "orchestrator.run/1"

COLOURS: dict[TaskState, str] = {
    "waiting": "#e5e7eb",
    "ready": "#fef3c7",
    "running": "#bfdbfe",
    "succeeded": "#bbf7d0",
    "failed": "#fecaca",
    "skipped": "#f3f4f6",
    "cancelled": "#fed7aa",
}


DrawnEdge: TypeAlias = tuple[str, str, EdgeKind, str]
"""Source, target, kind and label."""


@dataclass(frozen=True, kw_only=True)
class DrawnNode:
    """One task, or several alike."""

    key: str
    label: str
    state: TaskState


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is drawn of a run."""

    nodes: tuple[DrawnNode, ...]
    edges: tuple[DrawnEdge, ...]


def to_networkx(run: RunRecord) -> networkx.DiGraph[str]:
    """The graph as executed; an edge that is both data and spawn is a data edge."""
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    for task in run.tasks:
        graph.add_node(task.id, name=task.name, state=task.state, work=task.work)
    for edge in sorted(run.edges, key=lambda edge: edge.kind != "spawn"):
        graph.add_edge(edge.source, edge.target, kind=edge.kind, when=edge.when)
    return graph


def draw(run: RunRecord, most: int = 100) -> Drawing:
    """At most ``most`` nodes: siblings with the same name and state, then whole levels, as one.

    What still does not fit is left out, and counted in a node of its own.
    """
    keys = {task.id: task.id for task in run.tasks}
    if len(run.tasks) > most:
        keys = _grouped(run, lambda task: f"{task.parent or ''}/{_family(task)}/{task.state}")
    if len(set(keys.values())) > most:
        keys = _grouped(run, lambda task: f"{_family(task)}/{task.state}")
    sizes = Counter(keys.values())
    first: dict[str, TaskRecord] = {}
    for task in run.tasks:
        first.setdefault(keys[task.id], task)
    shown = list(sizes) if len(sizes) <= most else list(sizes)[: most - 1]
    nodes = [
        DrawnNode(key=key, label=_label(first[key], sizes[key]), state=first[key].state)
        for key in shown
    ]
    if len(shown) < len(sizes):
        left = sum(sizes[key] for key in sizes if key not in set(shown))
        nodes.append(DrawnNode(key="...", label=f"... and {left} more tasks", state="skipped"))
    known = set(shown)
    edges: dict[DrawnEdge, None] = {}
    for edge in run.edges:
        source, target = keys[edge.source], keys[edge.target]
        if source != target and source in known and target in known:
            edges[source, target, edge.kind, "" if edge.when == "success" else edge.when] = None
    return Drawing(nodes=tuple(nodes), edges=_without_implied(tuple(edges)))


def _without_implied(edges: tuple[DrawnEdge, ...]) -> tuple[DrawnEdge, ...]:
    """Without plain waiting that other edges imply: where B comes after A, and C after B and A."""
    if not any(_plain(edge) for edge in edges):
        return edges
    import networkx

    graph = networkx.DiGraph([(source, target) for source, target, _, _ in edges])
    if not networkx.is_directed_acyclic_graph(graph):  # groups may wait for each other
        return edges
    kept = set(networkx.transitive_reduction(graph).edges)
    return tuple(edge for edge in edges if not _plain(edge) or edge[:2] in kept)


def _plain(edge: DrawnEdge) -> bool:
    return edge[2] == "control" and not edge[3]


def to_mermaid(run: RunRecord, *, most: int = 100) -> str:
    """A Mermaid flowchart."""
    drawing = draw(run, most)
    ids = {node.key: f"n{index}" for index, node in enumerate(drawing.nodes)}
    lines = ["flowchart LR"]
    lines += [f'  {ids[n.key]}["{_entities(n.label)}"]:::{n.state}' for n in drawing.nodes]
    for source, target, kind, label in drawing.edges:
        arrow = {"data": "-->", "control": "-.->", "spawn": "--o"}[kind]
        text = f'|"{_entities(label)}"|' if label else ""
        lines.append(f"  {ids[source]} {arrow}{text} {ids[target]}")
    lines += [
        f"  classDef {state} fill:{fill},color:#111,stroke:#888" for state, fill in COLOURS.items()
    ]
    return "\n".join(lines) + "\n"


def to_dot(run: RunRecord, *, most: int = 100) -> str:
    """A Graphviz digraph."""
    drawing = draw(run, most)
    lines = [
        f"digraph {_quoted(run.name)} {{",
        "  rankdir=LR; node [shape=box, style=filled, fontname=sans];",
    ]
    lines += [
        f"  {_quoted(n.key)} [label={_quoted(n.label)}, fillcolor={_quoted(COLOURS[n.state])}];"
        for n in drawing.nodes
    ]
    for source, target, kind, label in drawing.edges:
        style = {"data": "solid", "control": "dashed", "spawn": "dotted"}[kind]
        text = f", label={_quoted(label)}" if label else ""
        lines.append(f"  {_quoted(source)} -> {_quoted(target)} [style={style}{text}];")
    return "\n".join([*lines, "}"]) + "\n"


_adapter = TypeAdapter(RunRecord)


def to_json(run: RunRecord) -> str:
    """The record as JSON, which `from_json` reads."""
    values: dict[str, Any] = _adapter.dump_python(run, mode="json")
    totals = {"schema": SCHEMA, "parallelism": run.parallelism}
    return TypeAdapter(dict[str, Any]).dump_json(totals | values).decode()


def from_json(text: str | bytes) -> RunRecord:
    """The record that `to_json` wrote.

    Raises:
        InvalidValue: the text is not one; the message names the field.
    """
    try:
        values = TypeAdapter(dict[str, Any]).validate_json(text)
        if values.pop("schema", None) != SCHEMA:
            raise InvalidValue(f"schema is not {SCHEMA}; give the JSON of a run's record")
        values.pop("parallelism", None)
        return _adapter.validate_python(values)
    except ValidationError as error:
        raise InvalidValue(f"the record can't be read: {why(error)}; mend that field") from error


def _grouped(run: RunRecord, key: Any) -> dict[str, str]:
    return {task.id: key(task) for task in run.tasks}


def _family(task: TaskRecord) -> str:
    """The name without the number that tells siblings apart."""
    return task.name.rstrip("0123456789 ") or task.name


def _label(task: TaskRecord, size: int) -> str:
    return f"{task.id} {task.name}" if size == 1 else f"{_family(task)} x{size}"


def _entities(text: str) -> str:
    """Text inside quotes in Mermaid: characters that Mermaid could interpret become entities."""
    return "".join(
        char if char.isalnum() or char in " .,:=_-+*/" else f"#{ord(char)};" for char in text[:200]
    )


def _quoted(text: str) -> str:
    escaped = text[:200].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
