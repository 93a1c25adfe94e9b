"""A submitted task as its submitter sees it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import anyio
from pydantic import Field, model_validator

from orchestrator.errors import InvalidValue, TaskCancelled
from protocol.errors import NoWorker, ProtocolError, RemoteFailure, RemoteTimeout, WorkerLost
from protocol.wire.checked import CheckedModel
from protocol.wire.messages import (
    Cancelled,
    Code,
    Id,
    JsonText,
    Kind,
    Name,
    Progress,
    Result,
    Seconds,
    TaskBudget,
    TaskFailure,
    TaskNeeds,
    TaskUsage,
    TokenChunk,
    Word,
)

log = logging.getLogger(__name__)

_PASSING: frozenset[Code] = frozenset({"no-worker", "worker-lost", "deadline", "bad-payload"})
"""Failures of the moment."""

PATIENCE_S = 60.0
OVERHEAD = 500
"""Bytes of a task that has ended, besides its texts."""

TaskListener = Callable[[Progress | TokenChunk | Result | Cancelled], None]


class TaskRequest(CheckedModel):
    """A task to be run by some worker.

    Attributes:
        id: The idempotency key: submitted twice, it is the same task.
        arguments: JSON text of an object; of a `ThreadStart` for a thread.
        problem: Threads that name the same one are placed together, as far as a batch gains by it.
        deadline_s: Seconds from now until it must have ended, waiting included.
        patience_s: Seconds that it waits while no connected worker is able to run it.
    """

    id: Id
    kind: Kind
    name: Name
    arguments: JsonText = "{}"
    deadline_s: Seconds | None = None
    budget: TaskBudget = Field(default_factory=TaskBudget)
    needs: TaskNeeds = Field(default_factory=TaskNeeds)
    problem: Word = ""
    patience_s: Seconds = PATIENCE_S

    @model_validator(mode="after")
    def _what_only_threads_have(self) -> Self:
        if self.kind != "thread" and self.budget.tokens is not None:
            raise ValueError("budget: only threads spend tokens; leave tokens out")
        if self.kind != "thread" and (self.needs.fingerprint or self.needs.capabilities):
            raise ValueError(
                "needs: only threads have a model; leave fingerprint and capabilities out"
            )
        return self


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
        worker: The id of the worker that has it now.
        result: How it ended, once it has: a `Result`, or `Cancelled`.
        attempts: Workers that it was given to.
        inputs: What a thread was given to read so far.
        until: After how many tokens a thread stands still; None lets it write on.
        cancelling: Whether its end was asked for.
    """

    __slots__ = (
        "_control",
        "_done",
        "_listeners",
        "attempts",
        "cancelling",
        "inputs",
        "request",
        "result",
        "until",
        "worker",
    )

    def __init__(self, request: TaskRequest, control: TaskControl) -> None:
        self.request = request
        self.worker: str | None = None
        self.result: Result | Cancelled | None = None
        self.attempts = 0
        self.inputs: list[tuple[int, ...]] = []
        self.until: int | None = None
        self.cancelling = False
        self._control = control
        self._done: anyio.Event | None = None
        self._listeners: list[TaskListener] = []

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id

    @property
    def state(self) -> Literal["queued", "assigned", "ended"]:
        """Whether it waits for a worker, has one, or has ended."""
        if self.result is not None:
            return "ended"
        return "queued" if self.worker is None else "assigned"

    def listen(self, listener: TaskListener) -> None:
        """Call ``listener`` with all that comes from now on; the end comes last.

        After a worker was lost, the chunks of a thread come again from the first on.
        """
        if self.result is not None:
            listener(self.result)
        else:
            self._listeners.append(listener)

    def unlisten(self, listener: TaskListener) -> None:
        """Don't call ``listener`` any more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def followed(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def extend(self, tokens: tuple[int, ...]) -> None:
        """Give a stopped thread tokens to read, and let it go on; no tokens end it.

        Raises:
            InvalidValue: it is no thread.
        """
        if self.request.kind != "thread":
            raise InvalidValue(
                f"task {self.id} is no thread, which alone can be given tokens to read"
            )
        if self.result is None and not self.cancelling:
            self.inputs.append(tokens)
            self._control.extend(self.id, tokens)

    def hold(self, until: int | None) -> None:
        """Let a thread write up to ``until`` tokens in all, where its worker's model can hold it.

        Raises:
            InvalidValue: it is no thread.
        """
        if self.request.kind != "thread":
            raise InvalidValue(f"task {self.id} is no thread, which alone can be held at a token")
        if self.result is None and not self.cancelling and self.until != until:
            self.until = until
            self._control.hold(self.id, until)

    def cancel(self) -> None:
        """Ask for its end; `result` then is `Cancelled`, unless it had ended."""
        if self.result is None and not self.cancelling:
            self.cancelling = True
            self._control.cancel(self.id)

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
            RemoteFailure: it failed on its worker, or passed its deadline.
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

    def size_with(self, result: Result | Cancelled) -> int:
        """Roughly the bytes that it takes with its result."""
        value = result.value if isinstance(result, Result) else None
        size = len(value) if isinstance(value, str) else 0
        return len(self.request.arguments) + size + OVERHEAD

    # ---- for those who run it ------------------------------------------------------------------

    def tell(self, message: Progress | TokenChunk) -> None:
        """Hand on what a worker says."""
        for listener in tuple(self._listeners):
            _call(listener, message)

    def end(self, result: Result | Cancelled) -> None:
        """It has ended."""
        assert self.result is None
        self.worker = None
        self.result = result
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            _call(listener, result)
        if self._done is not None:
            self._done.set()


class TaskControl(Protocol):
    """Whoever has the tasks of handles, by id."""

    def extend(self, id: str, tokens: tuple[int, ...]) -> None:
        """Give a thread that has not ended tokens to read."""

    def hold(self, id: str, until: int | None) -> None:
        """Let a thread that has not ended stand still after so many tokens."""

    def cancel(self, id: str) -> None:
        """End a task that has not ended."""


class Submitter(Protocol):
    """Where tasks can be submitted: a `Hub` in this process, or a `Client` of one elsewhere."""

    def submit(self, request: TaskRequest, listener: TaskListener | None = None) -> TaskHandle:
        """Have a task run; an id that is known gives the handle that there is.

        Raises:
            Congested: too many wait already.
            InvalidValue: the id is that of another task.
        """
        ...


def _call(listener: TaskListener, message: Progress | TokenChunk | Result | Cancelled) -> None:
    """Call a listener; whoever brought the message is not to blame for its errors."""
    try:
        listener(message)
    except Exception:
        log.exception("a listener of task %r failed", message.id)


def is_final(result: Result | Cancelled) -> bool:
    """Whether a task that ended so, asked for again, is answered in the same way."""
    if isinstance(result, Cancelled):
        return False
    return result.failure is None or result.failure.code not in _PASSING


def error_of(failure: TaskFailure) -> ProtocolError:
    """A failure as an error to be raised."""
    match failure.code:
        case "no-worker":
            return NoWorker(failure.message)
        case "worker-lost":
            return WorkerLost(failure.message)
        case "deadline":
            return RemoteTimeout(failure.code, failure.kind, failure.message)
    return RemoteFailure(failure.code, failure.kind, failure.message)
