"""The hub: workers connect to it, and tasks are spread over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Self

import anyio

from protocol.hub.connected_workers import ConnectedWorker, WorkerTransport
from protocol.hub.dispatcher import KINDS, Dispatcher, WorkerMessage
from protocol.hub.events import HubEvent, HubObserver, WorkerJoined, WorkerLeft
from protocol.hub.handshake import Handshake
from protocol.hub.listener import WebSocketListener
from protocol.hub.task_handles import TaskHandle, TaskListener, TaskRequest
from protocol.hub.timers import TimerQueue
from protocol.hub.tokens import TokenStore
from protocol.settings import HubSettings
from protocol.wire.messages import MAX_FRAME, Drain, HeldTask, Kind, Profile


class Hub:
    """Takes workers in over WebSocket, and spreads tasks over them::

    async with Hub() as hub:
        token = hub.tokens.create("laptop")
        ...  # on the laptop: reason worker --hub URL
        handle = hub.submit(TaskRequest(id="1", kind="tool", name="add", arguments="{}"))
        outcome = await handle.outcome()

    It listens on loopback unless told otherwise, and on other addresses only with TLS.

    Attributes:
        tokens: Who may connect; in memory by default.
        settings: See `HubSettings`.
        epoch: Larger than that of any hub that it takes over from.
    """

    def __init__(
        self,
        settings: HubSettings | None = None,
        *,
        tokens: TokenStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a hub; ``clock`` gives seconds that never jump.

        Raises:
            ExtraMissing: the package for WebSockets is not installed.
            InvalidValue: the address may not be used without TLS.
        """
        self.settings = settings = settings or HubSettings()
        self._listener = WebSocketListener(
            settings.host, settings.port, tls=settings.tls, insecure=settings.insecure
        )
        self.tokens = tokens or TokenStore()
        self.epoch = self.tokens.next_epoch() if settings.epoch is None else settings.epoch
        self._timers = TimerQueue(clock)
        self._dispatcher = Dispatcher(
            self._timers,
            epoch=self.epoch,
            lease_s=settings.lease_s,
            most_waiting=settings.most_waiting,
            key=self.tokens.key(),
            expected=self.tokens.left_behind(self.epoch),
        )
        if self.tokens.path is not None:
            self.observe(self._note_worker)
        self._handshake = Handshake(
            self._dispatcher, self.tokens, self._timers, settings, epoch=self.epoch
        )
        self._stack = AsyncExitStack()

    # ---- tasks ---------------------------------------------------------------------------------

    def submit(self, request: TaskRequest, listener: TaskListener | None = None) -> TaskHandle:
        """Have some worker run a task; an id that is known gives the handle that there is.

        Raises:
            Congested: too many tasks wait already.
            InvalidValue: the id was that of another task.
        """
        return self._dispatcher.submit(request, listener)

    # ---- workers -------------------------------------------------------------------------------

    @property
    def workers(self) -> dict[str, Profile]:
        """What each worker that is here can do, by id."""
        return {id: worker.profile for id, worker in self.connected.items()}

    @property
    def connected(self) -> Mapping[str, ConnectedWorker]:
        """The workers that are here, by id."""
        return MappingProxyType(self._dispatcher.workers)

    def attach(
        self,
        id: str,
        profile: Profile,
        transport: WorkerTransport,
        *,
        scopes: frozenset[Kind] = KINDS,
        holding: Sequence[HeldTask] = (),
    ) -> ConnectedWorker:
        """Take in a worker that comes by another transport; one of the same id leaves."""
        return self._dispatcher.attach(id, profile, transport, scopes=scopes, holding=holding)

    def detach(self, worker: ConnectedWorker, why: str) -> None:
        """Let a worker go; its tasks go elsewhere."""
        self._dispatcher.detach(worker, why)

    def receive(self, worker: ConnectedWorker, message: WorkerMessage) -> None:
        """Take what an attached worker says; the value of a `Result` must be text."""
        self._dispatcher.receive(worker, message)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call something soon, but not at once: transports may not answer inside `send`."""
        self._timers.after(0, call)

    def observe(self, observer: HubObserver) -> Callable[[], None]:
        """Call ``observer`` with each `HubEvent`; returns what ends that."""
        self._dispatcher.observers.append(observer)
        return partial(self._dispatcher.observers.remove, observer)

    async def drain(self, worker: str) -> None:
        """Let a worker finish what it has, and leave."""
        found = self.connected.get(worker)
        if found is not None:
            found.draining = True
            found.transport.send(Drain())

    # ---- life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        connection, request = self._handshake.connection, self._handshake.request
        await self._stack.enter_async_context(
            self._listener.open(
                connection,
                request,
                name="port",
                most=MAX_FRAME,
                most_connections=2 * self.settings.most_connections,
                most_per_address=self.settings.most_per_address,
            )
        )
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._timers.run)
        self._group.start_soon(self._handshake.recheck_tokens)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handshake.sessions.close()
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._stack.aclose()
            self.tokens.forget_workers(self.epoch)

    def _note_worker(self, event: HubEvent) -> None:
        """Keep in the tokens' file which workers may still run tasks, should this hub be killed."""
        if isinstance(event, WorkerJoined) and not self.connected[event.worker].transport.inline:
            self.tokens.note_worker(event.worker, self.epoch, here=True)
        elif isinstance(event, WorkerLeft):
            self.tokens.note_worker(event.worker, self.epoch, here=False)

    @property
    def port(self) -> int:
        """The port that it listens on, once it is open."""
        return self._listener.port

    @property
    def url(self) -> str:
        """What workers and clients connect to."""
        return self._listener.url
