"""Which task is where: queues, assignments, ends.  No I/O; the time is given.

A task belongs to at most one worker, under a fence that grows with each assignment.  What comes
under another fence, or from another worker, is void.  So a task has one result, whoever runs it
how often.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable

from protocol.hub.connected_workers import HubEvent, Observer, Seat, TaskAssigned, TaskOver
from protocol.hub.placement import Demand
from protocol.hub.task_handles import Ticket
from protocol.hub.waiting_tasks import Queue
from protocol.wire.messages import Cancelled, Code, Failure, Held, Result, Task

MOST_QUEUES = 64
REMEMBERED = 4096
REMEMBERED_BYTES = 64 << 20


class Table:
    """The half of `Board` that places tasks and ends them.

    Attributes:
        seats: The workers, by id.
        observers: Called with each event.
    """

    def __init__(self, *, epoch: int, clock: Callable[[], float]) -> None:
        self.seats: dict[str, Seat] = {}
        self.clock = clock
        self.observers: list[Observer] = []
        self._fences = itertools.count((epoch << 32) + 1)
        self._tickets: dict[str, Ticket] = {}
        self._ended: OrderedDict[str, Ticket] = OrderedDict()
        self._ended_bytes = 0
        self._queues: dict[Demand, Queue] = {}
        self._held: dict[str, tuple[Seat, Held]] = {}  # what workers have and nobody asked for
        self._waiting = 0

    def _enqueue(self, ticket: Ticket, *, first: bool = False) -> None:
        ticket.state = "queued"
        ticket.queued_at = self.clock()
        self._waiting += 1
        queue = self._queues.get(ticket.demand)
        if queue is None:
            self._prune()
            queue = Queue(ticket.demand, self.seats.values(), self.clock())
            self._queues[ticket.demand] = queue
        if first:
            queue.waiting.appendleft(ticket)
        else:
            queue.waiting.append(ticket)

    def _prune(self) -> None:
        """Forget demands of which nothing waits, when they are many."""
        if len(self._queues) < MOST_QUEUES:
            return
        for queue in [queue for queue in self._queues.values() if not queue.waiting]:
            del self._queues[queue.demand]
            for seat in queue.seats:
                seat.queues.remove(queue)

    def _dispatch(self, ticket: Ticket) -> None:
        """Place what waits in this ticket's queue, as far as there is room."""
        holder = self._held.get(ticket.id)
        if holder is not None and holder[0].open:  # it has it already, or even its result
            self._assign(ticket, holder[0])
        else:
            self._place(self._queues[ticket.demand])

    def _place(self, queue: Queue) -> None:
        while queue.waiting:
            ticket = queue.waiting[0]
            if ticket.state != "queued":  # cancelled, or adopted out of its turn
                queue.waiting.popleft()
                continue
            seat = queue.best(ticket)
            if seat is None:
                return
            queue.waiting.popleft()
            self._assign(ticket, seat)

    def _feed(self, seat: Seat) -> None:
        """Give a worker that has room what has waited longest for the likes of it."""
        for queue in list(seat.queues):
            if not seat.open:
                return
            self._place(queue)

    def _assign(self, ticket: Ticket, seat: Seat) -> None:
        adopted = self._held.pop(ticket.id, None) is not None
        self._waiting -= 1
        ticket.state = "assigned"
        ticket.seat = seat
        ticket.attempts += 1
        ticket.fence = next(self._fences)
        seat.assigned[ticket.id] = ticket
        seat.load.take(ticket.demand)
        order, payload = ticket.order, ticket.payload
        if payload is not None and not seat.carrier.inline and payload.sha256 not in seat.data:
            seat.data.add(payload.sha256)
            seat.carrier.provide(payload, ticket.data)
        inline = payload is None or seat.carrier.inline
        seat.carrier.send(
            Task(
                id=order.id,
                fence=ticket.fence,
                attempt=ticket.attempts,
                kind=order.kind,
                name=order.name,
                arguments=order.arguments if inline or payload is None else payload,
                deadline_s=None if order.deadline_s is None else self._left(ticket),
                budget=order.budget,
                inputs=tuple(ticket.inputs),
            )
        )
        self._emit(
            TaskAssigned(worker=seat.id, task=order.id, attempt=ticket.attempts, adopted=adopted)
        )

    def _left(self, ticket: Ticket) -> float:
        return max(0.0, ticket.deadline - self.clock())

    def _take_back(self, ticket: Ticket) -> None:
        """The task's worker has it no longer."""
        seat = ticket.seat
        if seat is not None:
            del seat.assigned[ticket.id]
            seat.load.give_back(ticket.demand)
            ticket.seat = None

    def _again(self, ticket: Ticket, why: str) -> None:
        """Give a task to another worker, if it may have one more."""
        if ticket.cancelling:
            self._end(ticket, Cancelled(id=ticket.id, leaked=True), "")
        elif ticket.attempts >= ticket.order.budget.attempts:
            self._fail(
                ticket,
                "worker-lost",
                f"task {ticket.id} was given to {ticket.attempts} workers, and {why}; look at the "
                "workers, or allow more attempts",
            )
        else:
            self._enqueue(ticket, first=True)
            self._dispatch(ticket)

    def _fail(self, ticket: Ticket, code: Code, message: str) -> None:
        self._end(ticket, Result(id=ticket.id, failure=Failure(code=code, message=message)), "")

    def _end(self, ticket: Ticket, result: Result | Cancelled, worker: str) -> None:
        if ticket.state == "queued":
            self._waiting -= 1
        del self._tickets[ticket.id]
        self._remember(ticket, result)
        how = "cancelled"
        if isinstance(result, Result):
            how = "succeeded" if result.failure is None else result.failure.code
        ticket.end(result)
        self._emit(TaskOver(worker=worker, task=ticket.id, how=how))

    def _remember(self, ticket: Ticket, result: Result | Cancelled) -> None:
        """Keep the latest ends, for submitters that ask again."""
        ticket.data = b""
        if isinstance(result, Cancelled) or (
            result.failure is not None and result.failure.code in _PASSING
        ):
            return  # asked again, it may go better
        self._ended[ticket.id] = ticket
        self._ended_bytes += _size(result) + len(ticket.order.arguments)
        while self._ended_bytes > REMEMBERED_BYTES or len(self._ended) > REMEMBERED:
            _, oldest = self._ended.popitem(last=False)
            self._ended_bytes -= _size(oldest.result or result) + len(oldest.order.arguments)

    def _emit(self, event: HubEvent) -> None:
        for observer in self.observers:
            observer(event)


_PASSING: frozenset[Code] = frozenset({"no-worker", "worker-lost", "deadline", "bad-payload"})


def _size(result: Result | Cancelled) -> int:
    return len(result.value) if isinstance(result, Result) and isinstance(result.value, str) else 0
