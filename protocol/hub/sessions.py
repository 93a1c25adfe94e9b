"""The sessions of workers and clients, which outlive their connections."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import anyio
from pydantic import TypeAdapter

from protocol.errors import BadMessage, Congested, ConnectionRefused, ProtocolError
from protocol.hub.connected_workers import ConnectedWorker
from protocol.hub.dispatcher import Dispatcher
from protocol.hub.task_handles import TaskHandle, TaskRequest
from protocol.wire.channel import Channel
from protocol.wire.connection import ConnectionLimits, WebSocket, frames, refuse, write
from protocol.wire.framing import (
    Beat,
    DownFrame,
    Hello,
    Refused,
    Role,
    UpFrame,
    from_client,
    from_worker,
)
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Code,
    Down,
    Drain,
    Input,
    Kind,
    Message,
    Payload,
    PayloadPart,
    Progress,
    Result,
    TaskFailure,
    TaskMessage,
    TokenChunk,
)
from protocol.wire.payloads import Payloads, parts, put_whole

Clock = Callable[[], float]
Leave = Callable[["PeerSession", str], None]


class PeerSession(ABC):
    """What the hub keeps of a worker or client; it outlives its connections.

    Attributes:
        id: Who it is.
        key: Names the session.
        secret: What it is resumed by.
        heard: When something last came from it, by the hub's clock.
        socket: Its connection, if it has one.
    """

    role: ClassVar[Role]
    adapter: ClassVar[TypeAdapter[Any]]

    def __init__(self, id: str, dispatcher: Dispatcher, clock: Clock, leave: Leave) -> None:
        """Begin a session; ``leave`` has it end soon, for a reason."""
        self.id = id
        self._dispatcher = dispatcher
        self.key = secrets.token_hex(8)
        self.secret = secrets.token_urlsafe(32)
        self.clock = clock
        self.heard = clock()
        self.channel = Channel()
        self.payloads = Payloads()
        self.socket: WebSocket | None = None
        self._scope: anyio.CancelScope | None = None
        self._goodbye: Refused | None = None
        self._leave = leave

    async def serve(self, socket: WebSocket, limits: ConnectionLimits) -> None:
        """Exchange messages over a connection until it breaks or another takes over."""
        self.drop()
        with anyio.CancelScope() as scope:
            self.socket, self._scope, self._goodbye = socket, scope, None
            self.hear()
            self.present(True)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(write, socket, self.channel)
                    async for message in frames(socket, self.adapter, limits, self.hear):
                        self.take(message)
            finally:
                if self._scope is scope:
                    self.socket = self._scope = None
                    self.present(False)
        if scope.cancel_called:
            goodbye = self._goodbye or Refused(
                code="replaced", message="this session goes on over a newer connection", retry=True
            )
            await refuse(socket, goodbye)

    def drop(self, goodbye: Refused | None = None) -> None:
        """End its connection, if it has one."""
        if self._scope is not None:
            self._goodbye = goodbye
            self._scope.cancel()
            self.socket = self._scope = None

    def hear(self) -> None:
        """Something came from it."""
        self.heard = self.clock()

    def take(self, message: object) -> None:
        """Take what came."""
        if isinstance(message, Refused):
            self._leave(self, "it left")
        elif isinstance(message, Beat):
            self.channel.heard(message)
        elif isinstance(message, (UpFrame, DownFrame)):
            for one in self.channel.accept(message.ack, message.seq, message.body):
                if isinstance(one, PayloadPart):
                    self.payloads.add(one)
                else:
                    self.handle(one)

    @abstractmethod
    def handle(self, message: Message) -> None:
        """Take one message."""

    @abstractmethod
    def present(self, present: bool) -> None:
        """It has a connection now, or no longer."""

    @abstractmethod
    def end(self, why: str) -> None:
        """It is gone for good."""

    def put(self, message: Message) -> None:
        """Send a message; who does not take so many loses its connection and its session."""
        try:
            self.channel.put(message)
        except Congested as error:
            self.drop(Refused(code="congested", message=str(error)))
            self._leave(self, "it takes too little of what it is sent")


class WorkerSession(PeerSession):
    """Brings the dispatcher's messages to a worker, and the worker's to the dispatcher."""

    role = "worker"
    adapter = from_worker
    inline = False
    _worker: ConnectedWorker

    def attach(self, hello: Hello, scopes: frozenset[Kind]) -> None:
        """Take the worker in.

        Raises:
            ConnectionRefused: its hello has no profile.
        """
        if hello.profile is None:
            raise ConnectionRefused("bad-message", "a worker's hello needs a profile")
        self._worker = self._dispatcher.attach(
            self.id, hello.profile, self, scopes=scopes, holding=hello.holding
        )

    def send(self, message: Down) -> None:
        """See `WorkerTransport.send`."""
        if isinstance(message, TaskMessage) and isinstance(message.arguments, Payload):
            self.channel.put_lazily([message])  # behind its parts
        else:
            self.put(message)

    def provide(self, payload: Payload, data: bytes) -> None:
        """See `WorkerTransport.provide`."""
        self.channel.put_lazily(parts(payload, data))

    def handle(self, message: Message) -> None:
        """Take one message."""
        if isinstance(message, Result):
            try:
                message = self.payloads.whole(message)
            except BadMessage as error:
                failure = TaskFailure(code="bad-payload", message=str(error))
                message = message.model_copy(update={"value": None, "failure": failure})
        assert isinstance(message, (Progress, TokenChunk, Result, Cancelled, Drain))
        self._dispatcher.receive(self._worker, message)

    def present(self, present: bool) -> None:
        """See `PeerSession.present`."""
        self._dispatcher.away(self._worker, not present)

    def end(self, why: str) -> None:
        """Its tasks go elsewhere."""
        self._dispatcher.detach(self._worker, why)


class ClientSession(PeerSession):
    """Submits a client's tasks to the dispatcher, under the client's name."""

    role = "client"
    adapter = from_client

    def __init__(self, id: str, dispatcher: Dispatcher, clock: Clock, leave: Leave) -> None:
        super().__init__(id, dispatcher, clock, leave)
        self._handles: dict[str, TaskHandle] = {}

    def present(self, present: bool) -> None:
        """Its tasks go on without it."""

    def handle(self, message: Message) -> None:
        """Take one message."""
        if isinstance(message, TaskMessage):
            self._submit(message)
        elif isinstance(message, (Cancel, Input)):
            handle = self._handles.get(message.id)
            if handle is None:
                return  # it has ended, and the client will hear of it
            if isinstance(message, Cancel):
                handle.cancel()
            else:
                handle.extend(message.tokens)

    def end(self, why: str) -> None:
        """Nobody waits for its tasks any more."""
        for handle in list(self._handles.values()):
            handle.cancel()

    def _submit(self, task: TaskMessage) -> None:
        try:
            request = TaskRequest(
                id=f"{self.id}/{task.id}",
                kind=task.kind,
                name=task.name,
                arguments=self.payloads.text(task.arguments),
                deadline_s=task.deadline_s,
                budget=task.budget,
                needs=task.needs,
            )
            handle = self._dispatcher.submit(request)
        except Exception as error:
            code: Code = error.wire_code if isinstance(error, ProtocolError) else "bad-arguments"
            self.put(Result(id=task.id, failure=TaskFailure(code=code, message=str(error))))
            return
        self._handles[task.id] = handle
        for tokens in task.inputs[len(handle.inputs) :]:
            handle.extend(tokens)
        handle.listen(lambda said: self._tell(task.id, said))

    def _tell(self, id: str, message: Progress | TokenChunk | Result | Cancelled) -> None:
        if isinstance(message, (Result, Cancelled)):
            self._handles.pop(id, None)
        message = message.model_copy(update={"id": id, "fence": 0})
        if not (isinstance(message, Result) and put_whole(self.channel, message)):
            self.put(message)
