"""Waiting for several tasks under a policy: all, the first, a quorum, or what a deadline allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio

from orchestrator.errors import InvalidValue, QuorumMissed
from orchestrator.scheduler.wakeup import Wakeup
from orchestrator.task import Task

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Joined(Generic[T]):
    """How a join ended.

    Attributes:
        winners: The tasks that succeeded in time, in the order in which they ended.
        losers: The others: failed, skipped, or cancelled by the join.  Their ``partial`` results
            and their ``work`` are kept.
    """

    winners: tuple[Task[T], ...]
    losers: tuple[Task[T], ...]

    @property
    def values(self) -> list[T]:
        """The winners' results."""
        return [task.value for task in self.winners]


async def join(
    tasks: Sequence[Task[T]],
    *,
    need: int | None = None,
    within: float | None = None,
    cancel: bool = True,
) -> Joined[T]:
    """Wait until ``need`` of the tasks have succeeded, or for at most ``within`` seconds.

    The others are then cancelled, unless ``cancel`` is false.  All are needed by default; 1 is
    the first to succeed and ``k`` a quorum.  With ``within``, what has succeeded by then is enough
    (best effort).  A task that waits here releases its slot.

    Raises:
        QuorumMissed: without ``within``: too many failed; its cause is the first failure.
    """
    needed = len(tasks) if need is None else need
    if not 0 <= needed <= len(tasks):
        raise InvalidValue(f"need is {need}; give 0 to {len(tasks)}, the number of tasks")
    if within is not None and not within >= 0:
        raise InvalidValue(f"within is {within}; give 0 or more seconds")
    if not tasks:
        return Joined(winners=(), losers=())
    watch = _Watch(tasks, needed)
    with anyio.move_on_after(math.inf if within is None else within):
        await watch.decided.wait(timed=within is not None)
    if cancel:
        for task in tasks:
            task.cancel()
        for task in tasks:
            await task.wait()
    if within is not None:
        await watch.decided.settle()
    return await _joined(tasks, 0 if within is not None else needed)


class _Watch:
    """Counts tasks that end, until it is decided whether enough of them succeed."""

    def __init__(self, tasks: Sequence[Task[Any]], needed: int) -> None:
        self.decided = Wakeup(tasks[0].graph)
        self._lacking = needed
        self._open = len(tasks)
        self._look()
        for task in tasks:
            task.on_end(self._count)

    def _count(self, task: Task[Any]) -> None:
        self._open -= 1
        self._lacking -= task.state == "succeeded"
        self._look()

    def _look(self) -> None:
        if self._lacking <= 0 or self._lacking > self._open:
            self.decided.set()


async def _joined(tasks: Sequence[Task[T]], needed: int) -> Joined[T]:
    won = [task for task in tasks if task.state == "succeeded"]
    won.sort(key=lambda task: task.ended_at or 0.0)
    lost = [task for task in tasks if task.state != "succeeded"]
    for task in won:
        await task.result()  # they have ended: what they cost counts in the waiting task's chain
    failures = [task for task in lost if task.error is not None]
    for task in failures:
        task.acknowledge()
    if len(won) < needed:
        raise QuorumMissed(
            f"{len(won)} of {len(tasks)} tasks succeeded and {needed} were needed; "
            "see the cause, or need fewer"
        ) from (failures[0].error if failures else None)
    return Joined(winners=tuple(won), losers=tuple(lost))
