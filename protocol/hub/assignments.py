"""Which task is where: queues, assignments, ends.  No I/O; the time is given.

A task belongs to at most one worker, under a fence that grows with each assignment.  What comes
under another fence, or from another worker, is void.  So a task has one result, whoever runs it
how often.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable

from protocol.hub.connected_workers import (
    ConnectedWorker,
    HubEvent,
    HubObserver,
    RemoteTaskEnded,
    TaskAssigned,
)
from protocol.hub.placement import Demand
from protocol.hub.task_handles import TaskHandle
from protocol.hub.waiting_tasks import WaitingTasks
from protocol.wire.messages import Cancelled, Code, HeldTask, Result, TaskFailure, TaskMessage

MOST_QUEUES = 64
REMEMBERED = 4096
REMEMBERED_BYTES = 64 << 20


class Assignments:
    """The half of `Dispatcher` that places tasks and ends them.

    Attributes:
        seats: The workers, by id.
        observers: Called with each event.
    """

    def __init__(self, *, epoch: int, clock: Callable[[], float]) -> None:
        self.seats: dict[str, ConnectedWorker] = {}
        self.clock = clock
        self.observers: list[HubObserver] = []
        self._fences = itertools.count((epoch << 32) + 1)
        self._handles: dict[str, TaskHandle] = {}
        self._ended: OrderedDict[str, TaskHandle] = OrderedDict()
        self._ended_bytes = 0
        self._queues: dict[Demand, WaitingTasks] = {}
        self._held: dict[str, tuple[ConnectedWorker, HeldTask]] = {}
        self._waiting = 0

    def _enqueue(self, handle: TaskHandle, *, first: bool = False) -> None:
        handle.state = "queued"
        handle.queued_at = self.clock()
        self._waiting += 1
        queue = self._queues.get(handle.demand)
        if queue is None:
            self._prune()
            queue = WaitingTasks(handle.demand, self.seats.values(), self.clock())
            self._queues[handle.demand] = queue
        if first:
            queue.waiting.appendleft(handle)
        else:
            queue.waiting.append(handle)

    def _prune(self) -> None:
        """Forget demands of which nothing waits, when they are many."""
        if len(self._queues) < MOST_QUEUES:
            return
        for queue in [queue for queue in self._queues.values() if not queue.waiting]:
            del self._queues[queue.demand]
            for seat in queue.seats:
                seat.queues.remove(queue)

    def _dispatch(self, handle: TaskHandle) -> None:
        """Place what waits in this handle's queue, as far as there is room."""
        holder = self._held.get(handle.id)
        if holder is not None and holder[0].open:  # it has it already, or even its result
            self._assign(handle, holder[0])
        else:
            self._place(self._queues[handle.demand])

    def _place(self, queue: WaitingTasks) -> None:
        while queue.waiting:
            handle = queue.waiting[0]
            if handle.state != "queued":  # cancelled, or adopted out of its turn
                queue.waiting.popleft()
                continue
            seat = queue.best(handle)
            if seat is None:
                return
            queue.waiting.popleft()
            self._assign(handle, seat)

    def _feed(self, seat: ConnectedWorker) -> None:
        """Give a worker that has room what has waited longest for the likes of it."""
        for queue in list(seat.queues):
            if not seat.open:
                return
            self._place(queue)

    def _assign(self, handle: TaskHandle, seat: ConnectedWorker) -> None:
        adopted = self._held.pop(handle.id, None) is not None
        self._waiting -= 1
        handle.state = "assigned"
        handle.seat = seat
        handle.attempts += 1
        handle.fence = next(self._fences)
        seat.assigned[handle.id] = handle
        seat.load.take(handle.demand)
        request, payload = handle.request, handle.payload
        if payload is not None and not seat.carrier.inline and payload.sha256 not in seat.data:
            seat.data.add(payload.sha256)
            seat.carrier.provide(payload, handle.data)
        inline = payload is None or seat.carrier.inline
        seat.carrier.send(
            TaskMessage(
                id=request.id,
                fence=handle.fence,
                attempt=handle.attempts,
                kind=request.kind,
                name=request.name,
                arguments=request.arguments if inline or payload is None else payload,
                deadline_s=None if request.deadline_s is None else self._left(handle),
                budget=request.budget,
                inputs=tuple(handle.inputs),
            )
        )
        self._emit(
            TaskAssigned(worker=seat.id, task=request.id, attempt=handle.attempts, adopted=adopted)
        )

    def _left(self, handle: TaskHandle) -> float:
        return max(0.0, handle.deadline - self.clock())

    def _take_back(self, handle: TaskHandle) -> None:
        """The task's worker has it no longer."""
        seat = handle.seat
        if seat is not None:
            del seat.assigned[handle.id]
            seat.load.give_back(handle.demand)
            handle.seat = None

    def _again(self, handle: TaskHandle, why: str) -> None:
        """Give a task to another worker, if it may have one more."""
        if handle.cancelling:
            self._end(handle, Cancelled(id=handle.id, leaked=True), "")
        elif handle.attempts >= handle.request.budget.attempts:
            self._fail(
                handle,
                "worker-lost",
                f"task {handle.id} was given to {handle.attempts} workers, and {why}; look at the "
                "workers, or allow more attempts",
            )
        else:
            self._enqueue(handle, first=True)
            self._dispatch(handle)

    def _fail(self, handle: TaskHandle, code: Code, message: str) -> None:
        self._end(handle, Result(id=handle.id, failure=TaskFailure(code=code, message=message)), "")

    def _end(self, handle: TaskHandle, result: Result | Cancelled, worker: str) -> None:
        if handle.state == "queued":
            self._waiting -= 1
        del self._handles[handle.id]
        self._remember(handle, result)
        how = "cancelled"
        if isinstance(result, Result):
            how = "succeeded" if result.failure is None else result.failure.code
        handle.end(result)
        self._emit(RemoteTaskEnded(worker=worker, task=handle.id, how=how))

    def _remember(self, handle: TaskHandle, result: Result | Cancelled) -> None:
        """Keep the latest ends, for submitters that ask again."""
        handle.data = b""
        if isinstance(result, Cancelled) or (
            result.failure is not None and result.failure.code in _PASSING
        ):
            return  # asked again, it may go better
        self._ended[handle.id] = handle
        self._ended_bytes += _size(result) + len(handle.request.arguments)
        while self._ended_bytes > REMEMBERED_BYTES or len(self._ended) > REMEMBERED:
            _, oldest = self._ended.popitem(last=False)
            self._ended_bytes -= _size(oldest.result or result) + len(oldest.request.arguments)

    def _emit(self, event: HubEvent) -> None:
        for observer in self.observers:
            observer(event)


_PASSING: frozenset[Code] = frozenset({"no-worker", "worker-lost", "deadline", "bad-payload"})


def _size(result: Result | Cancelled) -> int:
    return len(result.value) if isinstance(result, Result) and isinstance(result.value, str) else 0
