"""A worker as the hub sees it, whatever the transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from protocol.hub.placement import WorkerLoad
from protocol.wire.messages import Down, Kind, Payload, Profile

if TYPE_CHECKING:
    from protocol.hub.task_handles import TaskHandle
    from protocol.hub.waiting_tasks import WaitingTasks


class WorkerTransport(Protocol):
    """Brings messages to one worker, in order; it must not block, nor call back at once."""

    inline: bool
    """Whether tasks bring long arguments as text, for transports that know no payloads."""

    def send(self, message: Down) -> None:
        """Send a message."""
        ...

    def provide(self, payload: Payload, data: bytes) -> None:
        """Send a payload, before the task that refers to it."""
        ...


class ConnectedWorker:
    """One worker at the hub.

    Attributes:
        id: Who it is.
        profile: What it can do.
        away: Its connection is broken; its tasks stay until the lease ends.
        draining: It wants no more tasks.
        assigned: Its tasks, by id.
        data: Digests of the payloads that it was given.
    """

    __slots__ = (
        "assigned",
        "away",
        "carrier",
        "data",
        "draining",
        "id",
        "load",
        "profile",
        "queues",
        "scopes",
    )

    def __init__(
        self,
        id: str,
        profile: Profile,
        scopes: frozenset[Kind],
        carrier: WorkerTransport,
    ) -> None:
        self.id = id
        self.profile = profile
        self.scopes = scopes
        self.carrier = carrier
        self.away = False
        self.draining = False
        self.load = WorkerLoad(profile)
        self.assigned: dict[str, TaskHandle] = {}
        self.data: set[str] = set()
        self.queues: list[WaitingTasks] = []

    @property
    def open(self) -> bool:
        """Whether it can be given tasks now."""
        return not (self.away or self.draining)


# ---- what an observer of the hub hears -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HubEvent:
    """Something happened at the hub."""

    worker: str


@dataclass(frozen=True, kw_only=True)
class WorkerJoined(HubEvent):
    """A worker can be given tasks; also after it was away."""

    profile: Profile


@dataclass(frozen=True, kw_only=True)
class WorkerAway(HubEvent):
    """A worker's connection broke; it keeps its tasks until its lease ends."""


@dataclass(frozen=True, kw_only=True)
class WorkerLeft(HubEvent):
    """A worker is gone, and its tasks go elsewhere."""

    why: str


@dataclass(frozen=True, kw_only=True)
class TaskAssigned(HubEvent):
    """A task was given to a worker; ``adopted`` if the worker had it already."""

    task: str
    attempt: int
    adopted: bool = False


@dataclass(frozen=True, kw_only=True)
class RemoteTaskEnded(HubEvent):
    """A task has ended; ``how`` is ``succeeded``, ``cancelled``, or a code."""

    task: str
    how: str


@dataclass(frozen=True, kw_only=True)
class MessageIgnored(HubEvent):
    """Something came for a task that the worker no longer has: it was ignored."""

    task: str


HubObserver = Callable[[HubEvent], None]
