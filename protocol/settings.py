"""The settings of hubs, workers, clients and devices: one checked object for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from protocol.wire.checked import CheckedModel
from protocol.wire.connection import ConnectionLimits, Tls
from protocol.wire.messages import Count, Name, Seconds, TaskNeeds, Word

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HubSettings(CheckedModel):
    """How a hub listens, and how much it takes.

    Attributes:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        tls: Certificates; with a ``ca``, workers need one as well.
        insecure: Whether other addresses than loopback may be used without TLS.
        lease_s: Seconds that a worker of which nothing is heard keeps its tasks.
        keep_s: Seconds that functions and tools of a client that is gone go on without it.
        epoch: Larger than that of any hub that it takes over from; by default the next of its
            tokens' file.
        limits: What each connection may do.
        most_connections: Connections at once.
        most_per_address: Connections of one address, those that have not spoken included; of IPv6,
            of one /64 network.
        most_waiting: Tasks that may wait at once.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    tls: Tls | None = None
    insecure: bool = False
    lease_s: Positive = 15.0
    keep_s: Seconds = 60.0
    epoch: Count | None = None
    limits: ConnectionLimits = ConnectionLimits()
    most_connections: Annotated[int, Field(ge=1)] = 4096
    most_per_address: Annotated[int, Field(ge=1)] = 4096
    most_waiting: Annotated[int, Field(ge=1)] = 100_000


class ConnectionSettings(CheckedModel):
    """How a worker or a client connects to its hub.

    Attributes:
        instance: Tells apart those that share a token.
        tls: Certificates, for ``wss://``.
        insecure: Whether another machine may be connected to in plain text.
        patience_s: Seconds that the hub may be unreachable; None for ever.
        first_s: The same, until it has been reached once; None for ``patience_s``.
        slowest_s: The longest pause between two attempts to connect, in seconds.
    """

    instance: Annotated[str, Field(max_length=100, pattern=r"^[\w.-]*$")] = ""
    tls: Tls | None = None
    insecure: bool = False
    patience_s: Seconds | None = None
    first_s: Seconds | None = None
    slowest_s: Positive = 10.0


class ClientSettings(ConnectionSettings):
    """The settings of a `Client`, for whom somebody waits."""

    patience_s: Seconds | None = 30.0
    slowest_s: Positive = 2.0


class WorkerSettings(ConnectionSettings):
    """The settings of a `Worker`.

    Attributes:
        slots: Functions and tools at once; by default as many as there are cores.
        resources: Named amounts, such as ``{"gpu": 1}``, that tasks can ask for.
        tags: Words that tasks can ask for.
        machine: What it computes on, where that is not all that this machine's cores are: workers
            that name different ones are taken to share nothing.
    """

    slots: Annotated[int, Field(ge=1, le=100_000)] | None = None
    resources: Mapping[Name, Count] = {}
    tags: Annotated[frozenset[Name], Field(strict=False)] = frozenset()
    machine: Word = ""


class DeviceSettings(CheckedModel):
    """How tasks of a graph are given to workers.

    Attributes:
        needs: What the tasks ask of their workers.
        name: The function's registered name, where that is not its own.
        deadline_s: Seconds for each task, waiting included.
        patience_s: Seconds that a task waits while no able worker is connected.
        attempts: Workers that may be lost under a task before it fails.
        kills: Workers that may end or go silent under a task before it is given up.
        at_once: Tasks under way at once.
    """

    needs: TaskNeeds = TaskNeeds()
    name: Name | None = None
    deadline_s: Seconds | None = None
    patience_s: Seconds = 60.0
    attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    kills: Annotated[int, Field(ge=1, le=1000)] = 2
    at_once: Annotated[int, Field(ge=1)] = 10_000
