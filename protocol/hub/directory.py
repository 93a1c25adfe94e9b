"""Who is connected, for clients of a hub in another process: a tool of the hub's own."""

from __future__ import annotations

from functools import partial

import anyio
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from protocol.hub.connected_workers import ConnectedWorker
from protocol.hub.events import HubEvent, WorkerJoined
from protocol.hub.hub import Hub
from protocol.hub.task_handles import Submitter, TaskRequest
from protocol.wire.checked import first_problem
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Down,
    Name,
    Offer,
    Payload,
    Profile,
    Result,
    TaskFailure,
    TaskMessage,
    TaskNeeds,
)

TOOL = "hub.devices"
WORKER = "hub"


class DirectoryQuestion(BaseModel):
    """The arguments of the tool: how many workers must be there."""

    model_config = ConfigDict(extra="forbid")

    least: int = Field(default=0, ge=0, le=100_000)


_profiles: TypeAdapter[dict[Name, Profile]] = TypeAdapter(dict[Name, Profile])


class Directory:
    """A worker inside a hub that tells who else is there; attach it with `open`.

    A question may ask for the ``least`` number of workers: it is answered once they are there.
    """

    inline = True

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._worker: ConnectedWorker | None = None
        self._asked: dict[str, tuple[TaskMessage, int]] = {}

    def open(self) -> None:
        """Be a worker of the hub from now on."""
        offer = Offer(name=TOOL, description="Who is here.", parameters="{}", result="{}")
        profile = Profile(slots=100_000, tools=(offer,))
        self._worker = self._hub.attach(WORKER, profile, self, scopes=frozenset({"tool"}))
        self._hub.observe(self._hear)

    def send(self, message: Down) -> None:
        """See `protocol.WorkerTransport.send`; it answers in the next round, not at once."""
        if isinstance(message, TaskMessage):
            self._ask(message)
        elif isinstance(message, Cancel) and message.id in self._asked:
            del self._asked[message.id]
            cancelled = Cancelled(id=message.id, fence=message.fence)
            self._hub.call_soon(lambda: self._say(cancelled))

    def provide(self, payload: Payload, data: bytes) -> None:
        """See `protocol.WorkerTransport.provide`; never called."""

    def _hear(self, event: HubEvent) -> None:
        if self._asked and isinstance(event, WorkerJoined):
            self._hub.call_soon(self._answer)

    def _ask(self, task: TaskMessage) -> None:
        assert isinstance(task.arguments, str)
        try:
            least = DirectoryQuestion.model_validate_json(task.arguments).least
        except ValidationError as error:
            failure = TaskFailure(code="bad-arguments", message=first_problem(error))
            result = Result(id=task.id, fence=task.fence, failure=failure)
            self._hub.call_soon(partial(self._say, result))
        else:
            self._asked[task.id] = task, least
            self._hub.call_soon(self._answer)

    def _answer(self) -> None:
        """Answer every question for which enough workers are there."""
        if not self._asked:
            return
        here = others(self._hub)
        value = _profiles.dump_json(here).decode()
        for task, least in list(self._asked.values()):
            if len(here) >= least:
                del self._asked[task.id]
                self._say(Result(id=task.id, fence=task.fence, value=value))

    def _say(self, message: Result | Cancelled) -> None:
        assert self._worker is not None
        self._hub.receive(self._worker, message)


def others(hub: Hub) -> dict[str, Profile]:
    """A hub's workers, but for its directory."""
    return {id: profile for id, profile in hub.workers.items() if id != WORKER}


async def devices(submitter: Submitter, id: str, *, least: int = 0) -> dict[str, Profile]:
    """Who is connected to a hub, here or elsewhere, once at least so many are.

    ``id`` must be new for each question.

    Raises:
        NoWorker: the hub elsewhere keeps no directory.
    """
    if isinstance(submitter, Hub):
        await _wait_for(submitter, least)
        return others(submitter)
    request = TaskRequest(
        id=id,
        kind="tool",
        name=TOOL,
        arguments=DirectoryQuestion(least=least).model_dump_json(),
        needs=TaskNeeds(worker=WORKER),
        patience_s=5,
    )
    outcome = await submitter.submit(request).outcome()
    return _profiles.validate_json(outcome.value)


async def _wait_for(hub: Hub, least: int) -> None:
    joined = anyio.Event()

    def hear(event: HubEvent) -> None:
        if len(others(hub)) >= least:
            joined.set()

    if len(others(hub)) < least:
        hub.observe(hear)
        await joined.wait()
