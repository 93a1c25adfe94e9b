"""What is ready to run, best first, within the slots and the named resources."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import anyio

from orchestrator.errors import InvalidValue
from orchestrator.node import Node
from orchestrator.scheduler.resources import resources_of

Needs = tuple[tuple[str, int], ...]


class Waiting(NamedTuple):
    """A place in the queue: ordered by priority, then tasks that go on, then by arrival."""

    priority: int
    fresh: bool
    arrival: int
    node: Node
    resume: anyio.Event | None
    """Set for a task that released its slot while it waited for others, and wants to go on."""


class ReadyQueue:
    """Tasks with the same needs wait in one line; what the first in order lacks is kept for it.

    So nobody is held up by whom he can't help, and no stream of small tasks starves a wide one.

    A task holds a slot and its named resources from `take` until `give_back`.
    """

    def __init__(self, slots: int | None, resources: Mapping[str, Any]) -> None:
        self.slots: float = math.inf if slots is None else slots
        self._resources = resources_of(resources)
        self._lines: dict[Needs, list[Waiting]] = {}
        self._arrivals = 0

    def check(self, needs: Needs, name: str) -> None:
        """Refuse what a task of this name could never take.

        Raises:
            InvalidValue: a resource is unknown, or less than needed.
        """
        for resource, amount in needs:
            if resource not in self._resources:
                known = ", ".join(sorted(self._resources)) or "none"
                raise InvalidValue(
                    f"task {name} needs resource {resource!r}, which the graph does not have; "
                    f"declare it with TaskGraph(resources=...) (declared: {known})"
                )
            if not 0 < amount <= self._resources[resource].capacity:
                raise InvalidValue(
                    f"task {name} needs {amount} of resource {resource!r}; "
                    f"give 1 to {self._resources[resource].capacity}"
                )

    def push(self, node: Node, resume: anyio.Event | None = None) -> None:
        """Let a task queue, anew or to go on."""
        settings = node.settings
        self._arrivals += 1
        place = Waiting(-settings.priority, resume is None, self._arrivals, node, resume)
        line = self._lines.get(settings.resources)
        if line is None:
            line = self._lines[settings.resources] = []
        heapq.heappush(line, place)

    def pop(self) -> Waiting | None:
        """The best that can run now, its slot and resources taken; None if there is none."""
        if self.slots <= 0:
            return None
        if len(self._lines) == 1 and () in self._lines:  # as in most graphs
            return self._pop_first(self._lines[()])
        open_lines = []
        for needs, line in self._lines.items():
            while line and _stale(line[0]):
                heapq.heappop(line)
            if line:
                open_lines.append((line[0], needs, line))
        if len(open_lines) > 1:
            open_lines.sort(key=itemgetter(0))
        kept: dict[str, int] = {}
        for place, needs, line in open_lines:
            if self._fits(place, needs, kept):
                heapq.heappop(line)
                self.take(place.node, fresh=place.fresh)
                return place
            for name, amount in needs:
                kept[name] = kept.get(name, 0) + amount
        return None

    def _pop_first(self, line: list[Waiting]) -> Waiting | None:
        while line:
            place = heapq.heappop(line)
            if not _stale(place):
                self.take(place.node)
                return place
        return None

    def take(self, node: Node, *, fresh: bool = False) -> None:
        """Take a slot and the task's resources, unless it holds them; for what goes on anyway."""
        if node.holds_slot:
            return
        self.slots -= 1
        node.holds_slot = True
        for name, amount in node.settings.resources:
            self._resources[name].take(amount, fresh=fresh)

    def give_back(self, node: Node) -> None:
        """Return what the task holds, if it does."""
        if node.holds_slot:
            node.holds_slot = False
            self.slots += 1
            for name, amount in node.settings.resources:
                self._resources[name].give_back(amount)

    @property
    def overdrawn(self) -> bool:
        """Whether more is held than there is, because a wait was cut short."""
        return self.slots < 0 or any(one.free < 0 for one in self._resources.values())

    def free_for(self, node: Node) -> bool:
        """Whether the task could go on at once, without overtaking anybody."""
        if self.slots <= 0 or any(line and not _stale(line[0]) for line in self._lines.values()):
            return False
        needs = node.settings.resources
        return all(self._free(name, fresh=False) >= amount for name, amount in needs)

    def free_in(self) -> float:
        """In how many seconds something that queues may have its resources, by time alone."""
        heads = (line[0].node for line in self._lines.values() if line)
        waits = (
            self._resources[name].free_in(amount)
            for node in heads
            for name, amount in node.settings.resources
        )
        return max(0.001, min((wait for wait in waits if wait > 0), default=math.inf))

    def heard(self, node: Node, *, failed: bool) -> None:
        """Tell the resources how an attempt of the task went."""
        for name, _ in node.settings.resources:
            self._resources[name].heard(failed=failed)

    def __bool__(self) -> bool:
        return any(self._lines.values())

    def _fits(self, place: Waiting, needs: Needs, kept: Mapping[str, int]) -> bool:
        return all(
            self._free(name, fresh=place.fresh) - kept.get(name, 0) >= amount
            for name, amount in needs
        )

    def _free(self, name: str, *, fresh: bool) -> float:
        """How much of a resource is there for a task that starts, or for one that goes on."""
        found = self._resources[name]
        return found.free if fresh or not found.once else math.inf


def _stale(place: Waiting) -> bool:
    if place.resume is not None:
        return place.node.resumed is not place.resume
    return place.node.state != "ready"
