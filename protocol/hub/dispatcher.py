"""The hub's board: workers come and go, tasks are submitted and cancelled, time passes.  No I/O."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

from orchestrator.errors import InvalidValue
from protocol.errors import Congested
from protocol.hub.assignments import Table
from protocol.hub.connected_workers import (
    Carrier,
    Seat,
    Voided,
    WorkerAway,
    WorkerJoined,
    WorkerLeft,
)
from protocol.hub.placement import Demand
from protocol.hub.task_handles import Listener, Order, Ticket
from protocol.hub.waiting_tasks import Queue
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Chunk,
    Drain,
    Held,
    Input,
    Kind,
    Payload,
    Profile,
    Progress,
    Result,
)
from protocol.wire.payloads import pack

CANCEL_S = 5.0
"""How long a worker may take to answer a cancellation before the task counts as leaked."""

KINDS: frozenset[Kind] = frozenset({"function", "tool", "thread"})


class Board(Table):
    """Tasks and workers; see `Hub` for the public side.

    Attributes:
        most_waiting: Tasks that may wait at once.
        lease_s: How long what a worker brought along waits to be asked for.
    """

    def __init__(
        self, *, epoch: int, lease_s: float, most_waiting: int, clock: Callable[[], float]
    ) -> None:
        super().__init__(epoch=epoch, clock=clock)
        self.most_waiting = most_waiting
        self.lease_s = lease_s
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    # ---- workers -------------------------------------------------------------------------------

    def attach(
        self,
        id: str,
        profile: Profile,
        carrier: Carrier,
        *,
        scopes: frozenset[Kind] = KINDS,
        holding: Sequence[Held] = (),
    ) -> Seat:
        """Take a worker in; one of the same id leaves."""
        if id in self.seats:
            self._keep_back(self.seats[id], {held.id for held in holding})
            self.detach(self.seats[id], "replaced by another of the same name")
        seat = Seat(id, profile, scopes, carrier)
        self.seats[id] = seat
        for held in holding:
            self._found(seat, held)
        if holding:
            self.after(self.lease_s, lambda: self._forget_held(seat))
        for queue in self._queues.values():
            queue.join(seat)
        self._emit(WorkerJoined(worker=id, profile=profile))
        self._feed(seat)
        return seat

    def detach(self, seat: Seat, why: str) -> None:
        """Let a worker go; what it had goes elsewhere."""
        if self.seats.get(seat.id) is not seat:
            return
        seat.away = True
        self._forget_held(seat)
        del self.seats[seat.id]
        for queue in seat.queues:
            queue.leave(seat, self.clock())
        self._emit(WorkerLeft(worker=seat.id, why=why))
        for ticket in list(seat.assigned.values()):
            self._take_back(ticket)
            ticket.lost.append(seat.id)
            self._again(ticket, f"its worker {seat.id} was lost ({why})")

    def away(self, seat: Seat, away: bool) -> None:
        """A worker's connection broke, or is there again."""
        if seat.away != away and self.seats.get(seat.id) is seat:
            seat.away = away
            if away:
                self._emit(WorkerAway(worker=seat.id))
            else:
                self._emit(WorkerJoined(worker=seat.id, profile=seat.profile))
                self._feed(seat)

    def receive(self, seat: Seat, message: Progress | Chunk | Result | Cancelled | Drain) -> None:
        """Take what a worker says; ``value`` of a result must be text."""
        if isinstance(message, Drain):
            seat.draining = True
            return
        ticket = seat.assigned.get(message.id)
        if ticket is None or message.fence != ticket.fence:
            self._emit(Voided(worker=seat.id, task=message.id))
            return
        if isinstance(message, (Progress, Chunk)):
            ticket.tell(message)
            return
        self._take_back(ticket)
        if isinstance(message, Cancelled):
            if ticket.cancelling:
                self._end(ticket, message, seat.id)
            else:
                self._again(ticket, f"worker {seat.id} gave it up")
        elif message.failure is not None and message.failure.code == "draining":
            seat.draining = True
            ticket.attempts -= 1
            self._again(ticket, f"worker {seat.id} is leaving")
        elif message.failure is not None and message.failure.code == "bad-payload":
            seat.data.clear()
            self._again(ticket, message.failure.message)
        else:
            self._end(ticket, message.model_copy(update={"worker": seat.id}), seat.id)
        self._feed(seat)

    # ---- tasks ---------------------------------------------------------------------------------

    def submit(self, order: Order, listener: Listener | None = None) -> Ticket:
        """See `Submitter.submit`."""
        ticket = self._tickets.get(order.id) or self._ended.get(order.id)
        if ticket is None:
            ticket = self._new(order)
        elif (ticket.order.name, ticket.order.arguments) != (order.name, order.arguments):
            raise InvalidValue(
                f"task {order.id} was submitted before with another name or arguments; an id "
                "names one task, give this one its own"
            )
        if listener is not None:
            ticket.listen(listener)
        if ticket.state == "queued":
            self._dispatch(ticket)
        return ticket

    def extend(self, ticket: Ticket, tokens: tuple[int, ...]) -> None:
        """See `Ticket.extend`."""
        if ticket.result is None:
            ticket.inputs.append(tokens)
            if ticket.seat is not None:
                ticket.seat.carrier.send(Input(id=ticket.id, fence=ticket.fence, tokens=tokens))

    def cancel(self, ticket: Ticket) -> None:
        """See `Ticket.cancel`."""
        if ticket.result is not None or ticket.cancelling:
            return
        ticket.cancelling = True
        if ticket.seat is None:
            self._end(ticket, Cancelled(id=ticket.id), "")
            return
        ticket.seat.carrier.send(Cancel(id=ticket.id, fence=ticket.fence))
        self.after(CANCEL_S, lambda: self._give_up(ticket))

    # ---- time ----------------------------------------------------------------------------------

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something at the first `tick` after so many seconds."""
        heapq.heappush(self._timers, (self.clock() + seconds, next(self._order), call))

    def tick(self) -> None:
        """Do what is due."""
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        for queue in list(self._queues.values()):
            if queue.unable_since is not None and queue.waiting:
                self._lose_patience(queue, queue.unable_since)

    def _lose_patience(self, queue: Queue, since: float) -> None:
        now = self.clock()
        for ticket in [t for t in queue.waiting if t.state == "queued"]:
            if now - max(since, ticket.queued_at) >= ticket.order.patience_s:
                self._fail(
                    ticket,
                    "no-worker",
                    f"no connected worker can run {queue.demand}; start one with reason worker",
                )

    def _give_up(self, ticket: Ticket) -> None:
        if ticket.result is None:
            self._take_back(ticket)
            self._end(ticket, Cancelled(id=ticket.id, leaked=True), "")

    def _expire(self, ticket: Ticket) -> None:
        if ticket.result is None:
            if ticket.seat is not None:
                ticket.seat.carrier.send(
                    Cancel(id=ticket.id, fence=ticket.fence, reason="deadline")
                )
            self._take_back(ticket)
            limit = ticket.order.deadline_s
            self._fail(ticket, "deadline", f"task {ticket.id} took longer than {limit:g} s")

    # ---- inside --------------------------------------------------------------------------------

    def _new(self, order: Order) -> Ticket:
        if self._waiting >= self.most_waiting:
            raise Congested(f"{self._waiting} tasks wait already; wait for some to end")
        ticket = Ticket(order, Demand.of(order.kind, order.name, order.needs), self)
        packed, ticket.data = pack(order.arguments)
        ticket.payload = packed if isinstance(packed, Payload) else None
        self._tickets[order.id] = ticket
        self._enqueue(ticket)
        if order.deadline_s is not None:
            ticket.deadline = self.clock() + order.deadline_s
            self.after(order.deadline_s, lambda: self._expire(ticket))
        return ticket

    def _keep_back(self, seat: Seat, ids: set[str]) -> None:
        """Take these tasks from a worker, but let them wait for the one that brings them."""
        for ticket in list(seat.assigned.values()):
            if ticket.id in ids:
                self._take_back(ticket)
                ticket.state = "queued"
                self._waiting += 1

    def _found(self, seat: Seat, held: Held) -> None:
        """A worker says that it has a task."""
        ticket = self._tickets.get(held.id)
        if ticket is not None and ticket.state == "queued":
            self._held[held.id] = seat, held
            self._assign(ticket, seat)
        elif ticket is None and held.id not in self._ended:
            self._held[held.id] = seat, held  # perhaps somebody will ask for it
        else:
            seat.carrier.send(Cancel(id=held.id, fence=held.fence))

    def _forget_held(self, seat: Seat) -> None:
        """Nobody has asked for what a worker brought along."""
        for holder, held in list(self._held.values()):
            if holder is seat:
                del self._held[held.id]
                if not seat.away:
                    seat.carrier.send(Cancel(id=held.id, fence=held.fence))
