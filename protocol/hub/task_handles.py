"""A submitted task as its submitter sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import anyio

from orchestrator.errors import TaskCancelled
from protocol.errors import NoWorker, ProtocolError, RemoteFailure, WorkerLost
from protocol.wire.messages import (
    Cancelled,
    Kind,
    Payload,
    Progress,
    Result,
    TaskBudget,
    TaskFailure,
    TaskNeeds,
    TaskUsage,
    TokenChunk,
)

if TYPE_CHECKING:
    from protocol.hub.connected_workers import ConnectedWorker
    from protocol.hub.placement import Demand

State = Literal["queued", "assigned", "ended"]
TaskListener = Callable[[Progress | TokenChunk | Result | Cancelled], None]


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
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
    budget: TaskBudget = field(default_factory=TaskBudget)
    needs: TaskNeeds = field(default_factory=TaskNeeds)
    patience_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class TaskOutcome:
    """What a task came to.

    Attributes:
        value: JSON text.
        worker: The id of the worker that ran it to its end.
        attempts: Workers that it was given to.
    """

    value: str
    worker: str
    attempts: int
    usage: TaskUsage


class TaskHandle:
    """Follows one task: hear what it says, wait for its end, cancel it.

    Attributes:
        request: What was asked for.
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
        "payload",
        "queued_at",
        "request",
        "result",
        "seat",
        "state",
    )

    def __init__(self, request: TaskRequest, demand: Demand, steer: TaskControl) -> None:
        self.request = request
        self.demand = demand
        self.state: State = "queued"
        self.result: Result | Cancelled | None = None
        self.attempts = 0
        self.lost: list[str] = []
        self.fence = 0
        self.seat: ConnectedWorker | None = None
        self.deadline = float("inf")
        self.inputs: list[tuple[int, ...]] = []
        self.queued_at = 0.0
        self.cancelling = False
        self.payload: Payload | None = None
        self.data = b""
        self._steer = steer
        self._done: anyio.Event | None = None
        self._listeners: list[TaskListener] = []

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id

    @property
    def worker(self) -> str | None:
        """The id of the worker that has it now."""
        return None if self.seat is None else self.seat.id

    def listen(self, listener: TaskListener) -> None:
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

    async def outcome(self) -> TaskOutcome:
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
        return TaskOutcome(
            value=found.value, worker=found.worker, attempts=self.attempts, usage=found.usage
        )

    # ---- for those who run it ------------------------------------------------------------------

    def tell(self, message: Progress | TokenChunk) -> None:
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


class TaskControl(Protocol):
    """Where a handle's wishes go."""

    def extend(self, handle: TaskHandle, tokens: tuple[int, ...]) -> None:
        """See `TaskHandle.extend`."""

    def cancel(self, handle: TaskHandle) -> None:
        """See `TaskHandle.cancel`."""


class Submitter(Protocol):
    """Who takes requests: a `Hub` in this process, or a `Client` of one elsewhere."""

    def submit(self, request: TaskRequest, listener: TaskListener | None = None) -> TaskHandle:
        """Take a request; an id that is known gives the handle that there is.

        Raises:
            Congested: too many wait already.
        """
        ...


def error_of(failure: TaskFailure) -> ProtocolError:
    """A failure as an error to be raised."""
    match failure.code:
        case "no-worker":
            return NoWorker(failure.message)
        case "worker-lost":
            return WorkerLost(failure.message)
    return RemoteFailure(failure.code, failure.kind, failure.message)
