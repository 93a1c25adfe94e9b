"""The hub: workers dial in, tasks are spread over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from orchestrator.errors import InvalidValue
from protocol.hub.connected_workers import ConnectedWorker, HubObserver, WorkerTransport
from protocol.hub.dispatcher import KINDS, Dispatcher, WorkerMessage
from protocol.hub.handshake import Handshake
from protocol.hub.listener import WebSocketListener
from protocol.hub.task_handles import TaskHandle, TaskListener, TaskRequest
from protocol.hub.tokens import TokenStore
from protocol.wire.connection import (
    ConnectionLimits,
    Tls,
)
from protocol.wire.messages import MAX_FRAME, Drain, HeldTask, Kind, Profile


class Hub:
    """Takes workers in over WebSocket, and spreads tasks over them::

    async with Hub() as hub:
        token = hub.tokens.create("laptop")
        ...  # on the laptop: reason worker --hub URL
        handle = hub.submit(TaskRequest(id="1", kind="tool", name="add", arguments="{}"))
        outcome = await handle.outcome()

    It binds loopback unless told otherwise, and other addresses only with TLS.

    Attributes:
        tokens: Who may dial in; in memory by default.
        epoch: Larger than that of any hub that it takes over from.
        lease_s: How long a worker of which nothing is heard keeps its tasks.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tokens: TokenStore | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        lease_s: float = 15.0,
        epoch: int | None = None,
        limits: ConnectionLimits | None = None,
        most_connections: int = 4096,
        most_waiting: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a hub.

        Args:
            host: The address to bind.
            port: The port to bind; 0 takes any.
            tokens: Who may dial in.
            tls: Certificates; with a ``ca``, workers need one as well.
            insecure: Whether other addresses than loopback may be bound without TLS.
            lease_s: See the attribute.
            epoch: See the attribute; by default the next of ``tokens``.
            limits: What each connection may do.
            most_connections: Connections at once.
            most_waiting: Tasks that may wait at once.
            clock: Seconds that never jump.

        Raises:
            InvalidValue: a value can't be used.
        """
        self._door = WebSocketListener(host, port, tls=tls, insecure=insecure)
        if not lease_s > 0:
            raise InvalidValue(f"lease: {lease_s:g} is not a time; give seconds above 0")
        self.tokens = tokens or TokenStore()
        self.epoch = self.tokens.next_epoch() if epoch is None else epoch
        self.lease_s = lease_s
        self._stack = AsyncExitStack()
        self.board = Dispatcher(
            epoch=self.epoch, lease_s=lease_s, most_waiting=most_waiting, clock=clock
        )
        self._gate = Handshake(
            self.board,
            self.tokens,
            epoch=self.epoch,
            lease_s=lease_s,
            limits=limits or ConnectionLimits(),
            most=most_connections,
            clock=clock,
        )

    # ---- tasks ---------------------------------------------------------------------------------

    def submit(self, request: TaskRequest, listener: TaskListener | None = None) -> TaskHandle:
        """Have some worker run a task; an id that is known gives the handle that there is.

        Raises:
            Congested: too many tasks wait already.
            InvalidValue: the id was that of another task.
        """
        return self.board.submit(request, listener)

    # ---- workers -------------------------------------------------------------------------------

    @property
    def workers(self) -> dict[str, Profile]:
        """Who is here and what it can do, by id."""
        return {id: seat.profile for id, seat in self.board.seats.items()}

    def attach(
        self,
        id: str,
        profile: Profile,
        carrier: WorkerTransport,
        *,
        scopes: frozenset[Kind] = KINDS,
        holding: Sequence[HeldTask] = (),
    ) -> ConnectedWorker:
        """Take in a worker that comes by another transport; one of the same id leaves."""
        return self.board.attach(id, profile, carrier, scopes=scopes, holding=holding)

    def detach(self, seat: ConnectedWorker, why: str) -> None:
        """Let a worker go; its tasks go elsewhere."""
        self.board.detach(seat, why)

    def receive(self, seat: ConnectedWorker, message: WorkerMessage) -> None:
        """Take what an attached worker says; the value of a `Result` must be text."""
        self.board.receive(seat, message)

    def observe(self, observer: HubObserver) -> None:
        """Call ``observer`` with each `HubEvent`."""
        self.board.observers.append(observer)

    async def drain(self, worker: str) -> None:
        """Let a worker finish what it has, and leave."""
        seat = self.board.seats.get(worker)
        if seat is not None:
            seat.draining = True
            seat.carrier.send(Drain())

    # ---- life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(
            self._door.open(self._gate.connection, self._gate.request, name="port", most=MAX_FRAME)
        )
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._gate.tick)
        self._group.start_soon(self._gate.recheck)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._gate.close()
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._stack.aclose()

    @property
    def port(self) -> int:
        """The bound one, once it is open."""
        return self._door.port

    @property
    def url(self) -> str:
        """What workers dial."""
        return self._door.url
