"""Tasks that wait for a worker, those that the same workers could run together."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator

from protocol.hub.connected_workers import ConnectedWorker
from protocol.hub.placement import Demand, able
from protocol.hub.task_handles import TaskHandle

SAMPLE = 16
"""Of many able workers, so many are looked at: the best of a few is nearly the best of all."""


class WaitingTasks:
    """Tasks of one demand, in order of arrival, and the workers that are able to run them."""

    __slots__ = ("_rng", "demand", "seats", "unable_since", "waiting")

    def __init__(self, demand: Demand, seats: Iterable[ConnectedWorker], now: float) -> None:
        self.demand = demand
        self.waiting: deque[TaskHandle] = deque()
        self.seats: list[ConnectedWorker] = []
        self.unable_since: float | None = now
        self._rng = random.Random(0)
        for seat in seats:
            self.join(seat)

    def join(self, seat: ConnectedWorker) -> None:
        """Let a worker take part, if it is able."""
        if able(self.demand, seat.id, seat.profile, seat.scopes):
            self.seats.append(seat)
            seat.queues.append(self)
            self.unable_since = None

    def leave(self, seat: ConnectedWorker, now: float) -> None:
        """Forget a worker."""
        self.seats.remove(seat)
        if not self.seats:
            self.unable_since = now

    def best(self, handle: TaskHandle) -> ConnectedWorker | None:
        """The worker that should run the task now, if one can."""
        demand, payload = self.demand, handle.payload
        best, least = None, float("inf")
        for seat in self._candidates(handle):
            if seat.draining or seat.away or not seat.load.fits(demand):
                continue
            missing = 0
            if payload is not None and payload.sha256 not in seat.data:
                missing = payload.size
            cost = seat.load.cost(demand, missing) + (seat.id in handle.lost)
            if cost < least:
                best, least = seat, cost
        return best

    def _candidates(self, handle: TaskHandle) -> Iterator[ConnectedWorker]:
        """Workers to look at; those that have the data or the task itself are among them."""
        count = len(self.seats)
        if count <= 2 * SAMPLE:
            yield from self.seats
            return
        start = self._rng.randrange(count)
        found = 0
        for index in range(count):
            seat = self.seats[(start + index) % count]
            if seat.open and seat.load.fits(self.demand):
                found += 1
                yield seat
                if found == SAMPLE:
                    break
        if handle.payload is not None:
            digest = handle.payload.sha256
            yield from (seat for seat in self.seats if digest in seat.data)
