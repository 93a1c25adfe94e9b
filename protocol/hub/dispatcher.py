"""The hub's board: workers come and go, tasks are submitted and cancelled, time passes.  No I/O."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

from orchestrator.errors import InvalidValue
from protocol.errors import Congested
from protocol.hub.assignments import Assignments
from protocol.hub.connected_workers import (
    ConnectedWorker,
    MessageIgnored,
    WorkerAway,
    WorkerJoined,
    WorkerLeft,
    WorkerTransport,
)
from protocol.hub.placement import Demand
from protocol.hub.task_handles import TaskHandle, TaskListener, TaskRequest
from protocol.hub.waiting_tasks import WaitingTasks
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Drain,
    HeldTask,
    Input,
    Kind,
    Payload,
    Profile,
    Progress,
    Result,
    TokenChunk,
)
from protocol.wire.payloads import pack

CANCEL_S = 5.0
"""How long a worker may take to answer a cancellation before the task counts as leaked."""

WorkerMessage = Progress | TokenChunk | Result | Cancelled | Drain

KINDS: frozenset[Kind] = frozenset({"function", "tool", "thread"})


class Dispatcher(Assignments):
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
        self._request = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    # ---- workers -------------------------------------------------------------------------------

    def attach(
        self,
        id: str,
        profile: Profile,
        carrier: WorkerTransport,
        *,
        scopes: frozenset[Kind] = KINDS,
        holding: Sequence[HeldTask] = (),
    ) -> ConnectedWorker:
        """Take a worker in; one of the same id leaves."""
        if id in self.seats:
            self._keep_back(self.seats[id], {held.id for held in holding})
            self.detach(self.seats[id], "replaced by another of the same name")
        seat = ConnectedWorker(id, profile, scopes, carrier)
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

    def detach(self, seat: ConnectedWorker, why: str) -> None:
        """Let a worker go; what it had goes elsewhere."""
        if self.seats.get(seat.id) is not seat:
            return
        seat.away = True
        self._forget_held(seat)
        del self.seats[seat.id]
        for queue in seat.queues:
            queue.leave(seat, self.clock())
        self._emit(WorkerLeft(worker=seat.id, why=why))
        for handle in list(seat.assigned.values()):
            self._take_back(handle)
            handle.lost.append(seat.id)
            self._again(handle, f"its worker {seat.id} was lost ({why})")

    def away(self, seat: ConnectedWorker, away: bool) -> None:
        """A worker's connection broke, or is there again."""
        if seat.away != away and self.seats.get(seat.id) is seat:
            seat.away = away
            if away:
                self._emit(WorkerAway(worker=seat.id))
            else:
                self._emit(WorkerJoined(worker=seat.id, profile=seat.profile))
                self._feed(seat)

    def receive(self, seat: ConnectedWorker, message: WorkerMessage) -> None:
        """Take what a worker says; ``value`` of a result must be text."""
        if isinstance(message, Drain):
            seat.draining = True
            return
        handle = seat.assigned.get(message.id)
        if handle is None or message.fence != handle.fence:
            self._emit(MessageIgnored(worker=seat.id, task=message.id))
            return
        if isinstance(message, (Progress, TokenChunk)):
            handle.tell(message)
            return
        self._take_back(handle)
        if isinstance(message, Cancelled):
            if handle.cancelling:
                self._end(handle, message, seat.id)
            else:
                self._again(handle, f"worker {seat.id} gave it up")
        elif message.failure is not None and message.failure.code == "draining":
            seat.draining = True
            handle.attempts -= 1
            self._again(handle, f"worker {seat.id} is leaving")
        elif message.failure is not None and message.failure.code == "bad-payload":
            seat.data.clear()
            self._again(handle, message.failure.message)
        else:
            self._end(handle, message.model_copy(update={"worker": seat.id}), seat.id)
        self._feed(seat)

    # ---- tasks ---------------------------------------------------------------------------------

    def submit(self, request: TaskRequest, listener: TaskListener | None = None) -> TaskHandle:
        """See `Submitter.submit`."""
        handle = self._handles.get(request.id) or self._ended.get(request.id)
        if handle is None:
            handle = self._new(request)
        elif (handle.request.name, handle.request.arguments) != (request.name, request.arguments):
            raise InvalidValue(
                f"task {request.id} was submitted before with another name or arguments; an id "
                "names one task, give this one its own"
            )
        if listener is not None:
            handle.listen(listener)
        if handle.state == "queued":
            self._dispatch(handle)
        return handle

    def extend(self, handle: TaskHandle, tokens: tuple[int, ...]) -> None:
        """See `TaskHandle.extend`."""
        if handle.result is None:
            handle.inputs.append(tokens)
            if handle.seat is not None:
                handle.seat.carrier.send(Input(id=handle.id, fence=handle.fence, tokens=tokens))

    def cancel(self, handle: TaskHandle) -> None:
        """See `TaskHandle.cancel`."""
        if handle.result is not None or handle.cancelling:
            return
        handle.cancelling = True
        if handle.seat is None:
            self._end(handle, Cancelled(id=handle.id), "")
            return
        handle.seat.carrier.send(Cancel(id=handle.id, fence=handle.fence))
        self.after(CANCEL_S, lambda: self._give_up(handle))

    # ---- time ----------------------------------------------------------------------------------

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something at the first `tick` after so many seconds."""
        heapq.heappush(self._timers, (self.clock() + seconds, next(self._request), call))

    def tick(self) -> None:
        """Do what is due."""
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        for queue in list(self._queues.values()):
            if queue.unable_since is not None and queue.waiting:
                self._lose_patience(queue, queue.unable_since)

    def _lose_patience(self, queue: WaitingTasks, since: float) -> None:
        now = self.clock()
        for handle in [t for t in queue.waiting if t.state == "queued"]:
            if now - max(since, handle.queued_at) >= handle.request.patience_s:
                self._fail(
                    handle,
                    "no-worker",
                    f"no connected worker can run {queue.demand}; start one with reason worker",
                )

    def _give_up(self, handle: TaskHandle) -> None:
        if handle.result is None:
            self._take_back(handle)
            self._end(handle, Cancelled(id=handle.id, leaked=True), "")

    def _expire(self, handle: TaskHandle) -> None:
        if handle.result is None:
            if handle.seat is not None:
                handle.seat.carrier.send(
                    Cancel(id=handle.id, fence=handle.fence, reason="deadline")
                )
            self._take_back(handle)
            limit = handle.request.deadline_s
            self._fail(handle, "deadline", f"task {handle.id} took longer than {limit:g} s")

    # ---- inside --------------------------------------------------------------------------------

    def _new(self, request: TaskRequest) -> TaskHandle:
        if self._waiting >= self.most_waiting:
            raise Congested(f"{self._waiting} tasks wait already; wait for some to end")
        handle = TaskHandle(request, Demand.of(request.kind, request.name, request.needs), self)
        packed, handle.data = pack(request.arguments)
        handle.payload = packed if isinstance(packed, Payload) else None
        self._handles[request.id] = handle
        self._enqueue(handle)
        if request.deadline_s is not None:
            handle.deadline = self.clock() + request.deadline_s
            self.after(request.deadline_s, lambda: self._expire(handle))
        return handle

    def _keep_back(self, seat: ConnectedWorker, ids: set[str]) -> None:
        """Take these tasks from a worker, but let them wait for the one that brings them."""
        for handle in list(seat.assigned.values()):
            if handle.id in ids:
                self._take_back(handle)
                handle.state = "queued"
                self._waiting += 1

    def _found(self, seat: ConnectedWorker, held: HeldTask) -> None:
        """A worker says that it has a task."""
        handle = self._handles.get(held.id)
        if handle is not None and handle.state == "queued":
            self._held[held.id] = seat, held
            self._assign(handle, seat)
        elif handle is None and held.id not in self._ended:
            self._held[held.id] = seat, held  # perhaps somebody will ask for it
        else:
            seat.carrier.send(Cancel(id=held.id, fence=held.fence))

    def _forget_held(self, seat: ConnectedWorker) -> None:
        """Nobody has asked for what a worker brought along."""
        for holder, held in list(self._held.values()):
            if holder is seat:
                del self._held[held.id]
                if not seat.away:
                    seat.carrier.send(Cancel(id=held.id, fence=held.fence))
