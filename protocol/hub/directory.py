"""Who is connected, for clients of a hub in another process: a tool of the hub's own."""

from __future__ import annotations

from pydantic import TypeAdapter

from protocol.hub.connected_workers import ConnectedWorker
from protocol.hub.hub import Hub
from protocol.hub.task_handles import Submitter, TaskRequest
from protocol.wire.messages import (
    Down,
    Name,
    Offer,
    Payload,
    Profile,
    Result,
    TaskMessage,
    TaskNeeds,
)

TOOL = "hub.devices"
WORKER = "hub"

_profiles: TypeAdapter[dict[Name, Profile]] = TypeAdapter(dict[Name, Profile])


class Directory:
    """A worker inside a hub that tells who else is there; attach it with `open`."""

    inline = True

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._seat: ConnectedWorker | None = None

    def open(self) -> None:
        """Be a worker of the hub from now on."""
        offer = Offer(name=TOOL, description="Who is here.", parameters="{}", result="{}")
        profile = Profile(slots=1000, tools=(offer,))
        self._seat = self._hub.attach(WORKER, profile, self, scopes=frozenset({"tool"}))

    def send(self, message: Down) -> None:
        """See `protocol.WorkerTransport.send`; it answers in the next round, not at once."""
        if isinstance(message, TaskMessage):
            self._hub.board.after(0, lambda: self._answer(message))

    def provide(self, payload: Payload, data: bytes) -> None:
        """See `protocol.WorkerTransport.provide`; never called."""

    def _answer(self, task: TaskMessage) -> None:
        assert self._seat is not None
        value = _profiles.dump_json(others(self._hub)).decode()
        self._hub.board.receive(self._seat, Result(id=task.id, fence=task.fence, value=value))


def others(hub: Hub) -> dict[str, Profile]:
    """A hub's workers, but for its directory."""
    return {id: profile for id, profile in hub.workers.items() if id != WORKER}


async def devices(submitter: Submitter, id: str) -> dict[str, Profile]:
    """Who is connected to a hub, here or elsewhere; ``id`` must be new for each question.

    Raises:
        NoWorker: the hub elsewhere keeps no directory.
    """
    if isinstance(submitter, Hub):
        return others(submitter)
    request = TaskRequest(
        id=id, kind="tool", name=TOOL, needs=TaskNeeds(worker=WORKER), patience_s=5
    )
    outcome = await submitter.submit(request).outcome()
    return _profiles.validate_json(outcome.value)
