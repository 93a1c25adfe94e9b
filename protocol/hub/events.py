"""What observers of a hub hear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol.wire.messages import Profile


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
class TaskStranded(HubEvent):
    """A task waits, and no connected worker is able to run it; ``worker`` nearly is, if any."""

    task: str
    why: str


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
