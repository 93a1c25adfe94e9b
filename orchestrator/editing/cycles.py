"""A topological order that is kept while edges are added, and cycles that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.errors import InvalidValue
from orchestrator.node import Node


def order_edge(source: Node, target: Node) -> None:
    """Make room for an edge between tasks that both exist already.

    Only tasks whose rank lies between the two are visited (Pearce and Kelly, "A dynamic
    topological sort algorithm for directed acyclic graphs", 2006); nothing is recursive.

    Raises:
        InvalidValue: the edge would close a cycle; ranks are then unchanged.
    """
    if source is target:
        raise InvalidValue(f"task {source.id} can't wait for itself; choose another task")
    if source.rank < target.rank:
        return
    low, high = target.rank, source.rank
    later = _reach(target, _targets, lambda node: node.rank <= high)
    if source in later:
        raise InvalidValue(
            f"an edge from {source.id} to {target.id} would close a cycle; "
            f"remove a way from {target.id} to {source.id} first"
        )
    earlier = _reach(source, _sources, lambda node: node.rank >= low)
    moved = sorted(earlier, key=_rank) + sorted(later, key=_rank)
    for node, rank in zip(moved, sorted(node.rank for node in moved), strict=True):
        node.rank = rank


def _reach(
    start: Node,
    step: Callable[[Node], Iterable[Node]],
    within: Callable[[Node], bool],
) -> set[Node]:
    found = {start}
    stack = [start]
    while stack:
        for node in step(stack.pop()):
            if node not in found and within(node):
                found.add(node)
                stack.append(node)
    return found


def _targets(node: Node) -> Iterable[Node]:
    return (edge.target for edge in node.outbound)


def _sources(node: Node) -> Iterable[Node]:
    return (edge.source for edge in node.inbound)


def _rank(node: Node) -> int:
    return node.rank
