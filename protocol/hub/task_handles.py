"""A submitted task as its submitter sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import anyio

from orchestrator.errors import TaskCancelled
from protocol.errors import NoWorker, ProtocolError, RemoteFailure, WorkerLost
from protocol.wire.messages import (
    Budget,
    Cancelled,
    Chunk,
    Failure,
    Kind,
    Needs,
    Payload,
    Progress,
    Result,
    Usage,
)

if TYPE_CHECKING:
    from protocol.hub.connected_workers import Seat
    from protocol.hub.placement import Demand

State = Literal["queued", "assigned", "ended"]
Listener = Callable[[Progress | Chunk | Result | Cancelled], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A task to be run by some worker.

    Attributes:
        id: The idempotency key: submitted twice, it is the same task.
        arguments: JSON text of an object; of a `ThreadStart` for a thread.
        deadline_s: Seconds from now until it must have ended, waiting included.
        patience_s: Seconds that it waits while no connected worker is able to run it.
    """

    id: str
    kind: Kind
    name: str
    arguments: str = "{}"
    deadline_s: float | None = None
    budget: Budget = field(default_factory=Budget)
    needs: Needs = field(default_factory=Needs)
    patience_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a task came to.

    Attributes:
        value: JSON text.
        worker: The id of the worker that ran it to its end.
        attempts: Workers that it was given to.
    """

    value: str
    worker: str
    attempts: int
    usage: Usage


class Ticket:
    """Follows one task: hear what it says, wait for its end, cancel it.

    Attributes:
        order: What was asked for.
        state: ``queued``, ``assigned`` to a worker, or ``ended``.
        result: How it ended, once it has: a `Result`, or `Cancelled`.
        attempts: Workers that it was given to.
    """

    __slots__ = (
        "_done",
        "_listeners",
        "_steer",
        "attempts",
        "cancelling",
        "data",
        "deadline",
        "demand",
        "fence",
        "inputs",
        "lost",
        "order",
        "payload",
        "queued_at",
        "result",
        "seat",
        "state",
    )

    def __init__(self, order: Order, demand: Demand, steer: Steering) -> None:
        self.order = order
        self.demand = demand
        self.state: State = "queued"
        self.result: Result | Cancelled | None = None
        self.attempts = 0
        self.lost: list[str] = []
        self.fence = 0
        self.seat: Seat | None = None
        self.deadline = float("inf")
        self.inputs: list[tuple[int, ...]] = []
        self.queued_at = 0.0
        self.cancelling = False
        self.payload: Payload | None = None
        self.data = b""
        self._steer = steer
        self._done: anyio.Event | None = None
        self._listeners: list[Listener] = []

    @property
    def id(self) -> str:
        """The order's id."""
        return self.order.id

    @property
    def worker(self) -> str | None:
        """The id of the worker that has it now."""
        return None if self.seat is None else self.seat.id

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with all that comes from now on; the end comes last.

        After a worker was lost, the chunks of a thread come again from the first on.
        """
        if self.result is not None:
            listener(self.result)
        else:
            self._listeners.append(listener)

    def extend(self, tokens: tuple[int, ...]) -> None:
        """Give a stopped thread tokens to read, and let it go on; no tokens end it."""
        self._steer.extend(self, tokens)

    def cancel(self) -> None:
        """Ask for its end; `result` then is `Cancelled`, unless it had ended."""
        self._steer.cancel(self)

    async def ended(self) -> Result | Cancelled:
        """Wait until it has ended, however."""
        while self.result is None:
            if self._done is None:
                self._done = anyio.Event()
            await self._done.wait()
        return self.result

    async def outcome(self) -> Outcome:
        """Wait for its value.

        Raises:
            RemoteFailure: it failed on its worker.
            TaskCancelled: it was cancelled.
            NoWorker: no able worker came in time.
            WorkerLost: too many of its workers were lost.
        """
        found = await self.ended()
        if isinstance(found, Cancelled):
            raise TaskCancelled(f"task {self.id} was cancelled; submit it again")
        if found.failure is not None:
            raise error_of(found.failure)
        assert isinstance(found.value, str)
        return Outcome(
            value=found.value, worker=found.worker, attempts=self.attempts, usage=found.usage
        )

    # ---- for those who run it ------------------------------------------------------------------

    def tell(self, message: Progress | Chunk) -> None:
        """Hand on what a worker says."""
        for listener in self._listeners:
            listener(message)

    def end(self, result: Result | Cancelled) -> None:
        """It has ended."""
        assert self.result is None
        self.state = "ended"
        self.result = result
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener(result)
        if self._done is not None:
            self._done.set()


class Steering(Protocol):
    """Where a ticket's wishes go."""

    def extend(self, ticket: Ticket, tokens: tuple[int, ...]) -> None:
        """See `Ticket.extend`."""

    def cancel(self, ticket: Ticket) -> None:
        """See `Ticket.cancel`."""


class Submitter(Protocol):
    """Who takes orders: a `Hub` in this process, or a `Client` of one elsewhere."""

    def submit(self, order: Order, listener: Listener | None = None) -> Ticket:
        """Take an order; an id that is known gives the ticket that there is.

        Raises:
            Congested: too many wait already.
        """
        ...


def error_of(failure: Failure) -> ProtocolError:
    """A failure as an error to be raised."""
    match failure.code:
        case "no-worker":
            return NoWorker(failure.message)
        case "worker-lost":
            return WorkerLost(failure.message)
    return RemoteFailure(failure.code, failure.kind, failure.message)
