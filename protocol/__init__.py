"""What crosses a process border: a hub, its workers, and versioned messages checked on both sides.

The names below are imported when they are first used, so that a report costs no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocol.client import Client
    from protocol.devices import Devices
    from protocol.errors import (
        BadMessage,
        Congested,
        ConnectionRefused,
        HubUnreachable,
        NoWorker,
        ProtocolError,
        RemoteFailure,
        WorkerLost,
    )
    from protocol.hub.connected_workers import (
        Carrier,
        HubEvent,
        Seat,
        TaskAssigned,
        TaskOver,
        Voided,
        WorkerAway,
        WorkerJoined,
        WorkerLeft,
    )
    from protocol.hub.hub import Hub
    from protocol.hub.task_handles import Order, Outcome, Submitter, Ticket
    from protocol.hub.tokens import Grant, TokenRecord, TokenStore
    from protocol.wire.connection import Limits, Tls
    from protocol.wire.messages import Budget, ModelOffer, Needs, Offer, Profile, ThreadStart
    from protocol.wire.report import SCHEMA, Report, ThreadReport, UsageReport
    from protocol.worker.registry import Registry
    from protocol.worker.task_runner import progress
    from protocol.worker.threads import Generated, ThreadHost, ThreadRun
    from protocol.worker.worker import Worker

_HOMES = {
    "SCHEMA": "wire.report",
    "BadMessage": "errors",
    "Budget": "wire.messages",
    "Carrier": "hub.connected_workers",
    "Client": "client",
    "Congested": "errors",
    "ConnectionRefused": "errors",
    "Devices": "devices",
    "Generated": "worker.threads",
    "Grant": "hub.tokens",
    "Hub": "hub.hub",
    "HubEvent": "hub.connected_workers",
    "HubUnreachable": "errors",
    "Limits": "wire.connection",
    "ModelOffer": "wire.messages",
    "Needs": "wire.messages",
    "NoWorker": "errors",
    "Offer": "wire.messages",
    "Order": "hub.task_handles",
    "Outcome": "hub.task_handles",
    "Profile": "wire.messages",
    "ProtocolError": "errors",
    "Registry": "worker.registry",
    "RemoteFailure": "errors",
    "Report": "wire.report",
    "Seat": "hub.connected_workers",
    "Submitter": "hub.task_handles",
    "TaskAssigned": "hub.connected_workers",
    "TaskOver": "hub.connected_workers",
    "ThreadHost": "worker.threads",
    "ThreadReport": "wire.report",
    "ThreadRun": "worker.threads",
    "ThreadStart": "wire.messages",
    "Ticket": "hub.task_handles",
    "Tls": "wire.connection",
    "TokenRecord": "hub.tokens",
    "TokenStore": "hub.tokens",
    "UsageReport": "wire.report",
    "Voided": "hub.connected_workers",
    "Worker": "worker.worker",
    "WorkerAway": "hub.connected_workers",
    "WorkerJoined": "hub.connected_workers",
    "WorkerLeft": "hub.connected_workers",
    "WorkerLost": "errors",
    "progress": "worker.task_runner",
}

__all__ = [
    "SCHEMA",
    "BadMessage",
    "Budget",
    "Carrier",
    "Client",
    "Congested",
    "ConnectionRefused",
    "Devices",
    "Generated",
    "Grant",
    "Hub",
    "HubEvent",
    "HubUnreachable",
    "Limits",
    "ModelOffer",
    "Needs",
    "NoWorker",
    "Offer",
    "Order",
    "Outcome",
    "Profile",
    "ProtocolError",
    "Registry",
    "RemoteFailure",
    "Report",
    "Seat",
    "Submitter",
    "TaskAssigned",
    "TaskOver",
    "ThreadHost",
    "ThreadReport",
    "ThreadRun",
    "ThreadStart",
    "Ticket",
    "Tls",
    "TokenRecord",
    "TokenStore",
    "UsageReport",
    "Voided",
    "Worker",
    "WorkerAway",
    "WorkerJoined",
    "WorkerLeft",
    "WorkerLost",
    "progress",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'protocol' has no attribute {name!r}")
    return getattr(import_module(f"protocol.{_HOMES[name]}"), name)
