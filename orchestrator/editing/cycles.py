"""A topological order that is kept while edges are added, and cycles that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.errors import InvalidValue
from orchestrator.task import Task


def order_edge(source: Task[Any], target: Task[Any]) -> None:
    """Make room for an edge between tasks that both exist already.

    Only tasks whose rank lies between the two are visited (Pearce and Kelly, "A dynamic
    topological sort algorithm for directed acyclic graphs", 2006); nothing is recursive.

    Raises:
        InvalidValue: the edge would close a cycle; ranks are then unchanged.
    """
    if source is target:
        raise InvalidValue(f"task {source.id} can't wait for itself; choose another task")
    if source._rank < target._rank:
        return
    low, high = target._rank, source._rank
    later = _reach(target, _targets, lambda task: task._rank <= high)
    if source in later:
        raise InvalidValue(
            f"an edge from {source.id} to {target.id} would close a cycle; "
            f"remove a way from {target.id} to {source.id} first"
        )
    earlier = _reach(source, _sources, lambda task: task._rank >= low)
    moved = sorted(earlier, key=_rank) + sorted(later, key=_rank)
    for task, rank in zip(moved, sorted(task._rank for task in moved), strict=True):
        task._rank = rank


def _reach(
    start: Task[Any],
    step: Callable[[Task[Any]], Iterable[Task[Any]]],
    within: Callable[[Task[Any]], bool],
) -> set[Task[Any]]:
    found = {start}
    stack = [start]
    while stack:
        for task in step(stack.pop()):
            if task not in found and within(task):
                found.add(task)
                stack.append(task)
    return found


def _targets(task: Task[Any]) -> Iterable[Task[Any]]:
    return (edge.target for edge in task._outbound)


def _sources(task: Task[Any]) -> Iterable[Task[Any]]:
    return (edge.source for edge in task._inbound)


def _rank(task: Task[Any]) -> int:
    return task._rank
