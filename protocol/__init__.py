"""What crosses a process border: a hub, its workers, and versioned messages checked on both sides.

The names below are imported when they are first used, so that ``import protocol`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocol.client import Client as Client
    from protocol.client import ShardedClient as ShardedClient
    from protocol.devices import Devices as Devices
    from protocol.errors import BadMessage as BadMessage
    from protocol.errors import Congested as Congested
    from protocol.errors import ConnectionRefused as ConnectionRefused
    from protocol.errors import HubUnreachable as HubUnreachable
    from protocol.errors import NoWorker as NoWorker
    from protocol.errors import ProtocolError as ProtocolError
    from protocol.errors import RemoteFailure as RemoteFailure
    from protocol.errors import RemoteTimeout as RemoteTimeout
    from protocol.errors import WorkerLost as WorkerLost
    from protocol.hub.connected_workers import ConnectedWorker as ConnectedWorker
    from protocol.hub.connected_workers import WorkerTransport as WorkerTransport
    from protocol.hub.events import HubEvent as HubEvent
    from protocol.hub.events import MessageIgnored as MessageIgnored
    from protocol.hub.events import RemoteTaskEnded as RemoteTaskEnded
    from protocol.hub.events import TaskAssigned as TaskAssigned
    from protocol.hub.events import WorkerAway as WorkerAway
    from protocol.hub.events import WorkerJoined as WorkerJoined
    from protocol.hub.events import WorkerLeft as WorkerLeft
    from protocol.hub.hub import Hub as Hub
    from protocol.hub.task_handles import Submitter as Submitter
    from protocol.hub.task_handles import TaskHandle as TaskHandle
    from protocol.hub.task_handles import TaskOutcome as TaskOutcome
    from protocol.hub.task_handles import TaskRequest as TaskRequest
    from protocol.hub.tokens import Grant as Grant
    from protocol.hub.tokens import TokenRecord as TokenRecord
    from protocol.hub.tokens import TokenStore as TokenStore
    from protocol.settings import ClientSettings as ClientSettings
    from protocol.settings import ConnectionSettings as ConnectionSettings
    from protocol.settings import DeviceSettings as DeviceSettings
    from protocol.settings import HubSettings as HubSettings
    from protocol.settings import WorkerSettings as WorkerSettings
    from protocol.wire.connection import ConnectionLimits as ConnectionLimits
    from protocol.wire.connection import Tls as Tls
    from protocol.wire.messages import ModelOffer as ModelOffer
    from protocol.wire.messages import Offer as Offer
    from protocol.wire.messages import Profile as Profile
    from protocol.wire.messages import TaskBudget as TaskBudget
    from protocol.wire.messages import TaskNeeds as TaskNeeds
    from protocol.wire.messages import ThreadStart as ThreadStart
    from protocol.wire.report import SCHEMA as SCHEMA
    from protocol.wire.report import Report as Report
    from protocol.wire.report import ThreadReport as ThreadReport
    from protocol.wire.report import UsageReport as UsageReport
    from protocol.worker.registry import Registry as Registry
    from protocol.worker.task_runner import progress as progress
    from protocol.worker.threads import GeneratedToken as GeneratedToken
    from protocol.worker.threads import ThreadHost as ThreadHost
    from protocol.worker.threads import ThreadRun as ThreadRun
    from protocol.worker.worker import Worker as Worker

_HOMES = {
    name: module
    for module, names in {
        "client": "Client ShardedClient",
        "devices": "Devices",
        "errors": (
            "BadMessage Congested ConnectionRefused HubUnreachable NoWorker ProtocolError "
            "RemoteFailure RemoteTimeout WorkerLost"
        ),
        "hub.connected_workers": "ConnectedWorker WorkerTransport",
        "hub.events": (
            "HubEvent MessageIgnored RemoteTaskEnded TaskAssigned WorkerAway WorkerJoined "
            "WorkerLeft"
        ),
        "hub.hub": "Hub",
        "hub.task_handles": "Submitter TaskHandle TaskOutcome TaskRequest",
        "hub.tokens": "Grant TokenRecord TokenStore",
        "settings": "ClientSettings ConnectionSettings DeviceSettings HubSettings WorkerSettings",
        "wire.connection": "ConnectionLimits Tls",
        "wire.messages": "ModelOffer Offer Profile TaskBudget TaskNeeds ThreadStart",
        "wire.report": "SCHEMA Report ThreadReport UsageReport",
        "worker.registry": "Registry",
        "worker.task_runner": "progress",
        "worker.threads": "GeneratedToken ThreadHost ThreadRun",
        "worker.worker": "Worker",
    }.items()
    for name in names.split()
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'protocol' has no attribute {name!r}")
    return getattr(import_module(f"protocol.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
