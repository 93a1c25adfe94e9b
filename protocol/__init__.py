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
    from protocol.hub import Hub
    from protocol.link import Limits, Tls
    from protocol.registry import Registry
    from protocol.report import SCHEMA, Report, ThreadReport, UsageReport
    from protocol.running import progress
    from protocol.seats import (
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
    from protocol.threads import Generated, ThreadHost, ThreadRun
    from protocol.tickets import Order, Outcome, Submitter, Ticket
    from protocol.tokens import Grant, TokenRecord, TokenStore
    from protocol.wire import Budget, ModelOffer, Needs, Offer, Profile, ThreadStart
    from protocol.worker import Worker

_HOMES = {
    "SCHEMA": "report",
    "BadMessage": "errors",
    "Budget": "wire",
    "Carrier": "seats",
    "Client": "client",
    "Congested": "errors",
    "ConnectionRefused": "errors",
    "Devices": "devices",
    "Generated": "threads",
    "Grant": "tokens",
    "Hub": "hub",
    "HubEvent": "seats",
    "HubUnreachable": "errors",
    "Limits": "link",
    "ModelOffer": "wire",
    "Needs": "wire",
    "NoWorker": "errors",
    "Offer": "wire",
    "Order": "tickets",
    "Outcome": "tickets",
    "Profile": "wire",
    "ProtocolError": "errors",
    "Registry": "registry",
    "RemoteFailure": "errors",
    "Report": "report",
    "Seat": "seats",
    "Submitter": "tickets",
    "TaskAssigned": "seats",
    "TaskOver": "seats",
    "ThreadHost": "threads",
    "ThreadReport": "report",
    "ThreadRun": "threads",
    "ThreadStart": "wire",
    "Ticket": "tickets",
    "Tls": "link",
    "TokenRecord": "tokens",
    "TokenStore": "tokens",
    "UsageReport": "report",
    "Voided": "seats",
    "Worker": "worker",
    "WorkerAway": "seats",
    "WorkerJoined": "seats",
    "WorkerLeft": "seats",
    "WorkerLost": "errors",
    "progress": "running",
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
