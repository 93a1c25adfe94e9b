"""The sessions of workers and clients, which outlive their connections."""

from __future__ import annotations

import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import anyio

from orchestrator.errors import ReasonError
from protocol.errors import BadMessage, Congested, ConnectionRefused, ProtocolError
from protocol.hub.connected_workers import ConnectedWorker
from protocol.hub.dispatcher import KINDS, Dispatcher
from protocol.hub.task_handles import PATIENCE_S, TaskHandle, TaskListener, TaskRequest
from protocol.hub.timers import Timer, TimerQueue
from protocol.hub.tokens import Grant
from protocol.settings import HubSettings
from protocol.wire.bounded import Allowance
from protocol.wire.channel import Channel, encoded
from protocol.wire.connection import WebSocket, frames, refuse, write
from protocol.wire.framing import (
    Beat,
    DownFrame,
    FrameReader,
    Hello,
    Refused,
    Role,
    Unreadable,
    UpFrame,
    from_client,
    from_worker,
)
from protocol.wire.messages import (
    MAX_TEXT,
    Cancel,
    Cancelled,
    Code,
    Down,
    Drain,
    Hold,
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

log = logging.getLogger(__name__)

MOST_TASKS = 20_000
"""Tasks of one client that have not ended; their arguments take at most `MAX_TEXT` together."""

LEFT = "it left"
CLOSED = "its connection was closed, and it has not come back"

Leave = Callable[["PeerSession", str], None]


class PeerSession(ABC):
    """What the hub keeps of a worker or client; it outlives its connections.

    Attributes:
        id: Who it is.
        key: Names the session.
        secret: What it is resumed by.
        grant: What its token allows.
        heard: When something last came from it, by the hub's clock.
        silent: Whether that is so long ago that it is given nothing new.
        socket: Its connection, if it has one.
    """

    role: ClassVar[Role]
    reader: ClassVar[FrameReader[Any]]
    silent = False

    def __init__(
        self,
        id: str,
        grant: Grant,
        dispatcher: Dispatcher,
        timers: TimerQueue,
        settings: HubSettings,
        leave: Leave,
        allowance: Allowance,
    ) -> None:
        """Begin a session; ``leave`` has it end soon, ``allowance`` is what its token may use."""
        self.id = id
        self.grant = grant
        self._dispatcher = dispatcher
        self._timers = timers
        self._settings = settings
        self.key = secrets.token_hex(8)
        self.secret = secrets.token_urlsafe(32)
        self.heard = timers.clock()
        self.channel = Channel()
        self.allowance = allowance
        self.payloads = Payloads(allowance=allowance)
        self.socket: WebSocket | None = None
        self._scope: anyio.CancelScope | None = None
        self._goodbye: Refused | None = None
        self._leave = leave

    async def serve(self, socket: WebSocket) -> None:
        """Exchange messages over a connection until it breaks or another takes over.

        Raises:
            BadMessage: what came is no frame; the session can't go on.
        """
        self.drop()
        with anyio.CancelScope() as scope:
            self.socket, self._scope, self._goodbye = socket, scope, None
            self.hear()
            self.present(True)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(write, socket, self.channel)
                    async for message in frames(
                        socket, self.reader, self._settings.limits, self.hear
                    ):
                        self.take(message)
            except* BadMessage:
                self._leave(self, "it sent what is no message")
                raise
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
        self.heard = self._timers.clock()
        if self.silent:
            self.silent = False
            self.present(True)

    def fall_silent(self) -> None:
        """Nothing came from it for half a lease."""
        if self.socket is not None and not self.silent:
            self.silent = True
            self.present(True)

    def take(self, message: object) -> None:
        """Take what came; of a frame, a message that can't be taken is refused by itself.

        Raises:
            BadMessage: it acknowledges what was never sent, or says hello again.
        """
        if isinstance(message, Refused):
            self._leave(self, LEFT)
        elif isinstance(message, Beat):
            self.channel.heard(message)
        elif isinstance(message, (UpFrame, DownFrame)):
            for one in self.channel.accept(message.ack, message.seq, message.body):
                self._take(one)
        else:
            raise BadMessage("hello: this session has begun; connect again to begin another")

    def _take(self, message: Message | Unreadable) -> None:
        try:
            if isinstance(message, Unreadable):
                self.refuse(message, message.why)
            elif isinstance(message, PayloadPart):
                self.payloads.add(message)
            else:
                self.handle(message)
        except ReasonError as error:
            self.refuse(message, str(error))
        except Exception as error:
            log.exception("a message of %s could not be taken", self.id)
            self.refuse(message, f"what the hub failed at ({type(error).__name__})")

    @abstractmethod
    def refuse(self, message: Any, why: str) -> None:
        """Tell the owner of a message's task that the message is not taken."""

    @abstractmethod
    def handle(self, message: Message) -> None:
        """Take one message."""

    @abstractmethod
    def present(self, present: bool) -> None:
        """It has a connection now, or no longer."""

    @abstractmethod
    def end(self, why: str, code: Code) -> None:
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
    reader = from_worker
    inline = False
    _worker: ConnectedWorker
    _size = 0
    _grace: Timer | None = None

    def attach(self, hello: Hello) -> None:
        """Take the worker in.

        Raises:
            ConnectionRefused: its hello has no profile.
        """
        if hello.profile is None:
            raise ConnectionRefused("bad-message", "a worker's hello needs a profile")
        self._size = len(hello.profile.model_dump_json())
        if not self.allowance.take(self._size):
            raise ConnectionRefused("congested", f"the workers of {self.grant.name} tell too much")
        scopes: frozenset[Kind] = frozenset(kind for kind in KINDS if kind in self.grant.scopes)
        self._worker = self._dispatcher.attach(
            self.id, hello.profile, self, scopes=scopes, holding=hello.holding
        )

    def send(self, message: Down) -> None:
        """See `WorkerTransport.send`."""
        if isinstance(message, TaskMessage) and isinstance(message.arguments, Payload):
            encoded(message)  # it can be sent
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

    def refuse(self, message: Any, why: str) -> None:
        """Fail the task of which it came, if it is the worker's own."""
        if getattr(message, "id", ""):
            self._dispatcher.refuse(self._worker, message.id, message.fence, why)

    def present(self, present: bool) -> None:
        """See `PeerSession.present`; a worker whose connection was closed has to be back soon."""
        if self._grace is not None:
            self._grace.cancel()
        if not present:
            grace_s = self._settings.lease_s / 3
            self._grace = self._timers.after(grace_s, partial(self._leave, self, CLOSED))
        self._dispatcher.away(self._worker, self.silent or not present)

    def end(self, why: str, code: Code) -> None:
        """Its tasks go elsewhere; what it hung at, or ended at, counts against them."""
        if self._grace is not None:
            self._grace.cancel()
        self.allowance.give_back(self._size)
        silent = self.socket is not None and code == "worker-lost" and why != LEFT
        self._dispatcher.detach(self._worker, why, killed=silent or why == CLOSED)


class ClientSession(PeerSession):
    """Submits a client's tasks to the dispatcher, under the client's name."""

    role = "client"
    reader = from_client

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._handles: dict[str, tuple[TaskHandle, TaskListener]] = {}
        self._bytes = 0

    def present(self, present: bool) -> None:
        """Its tasks go on without it."""

    def handle(self, message: Message) -> None:
        """Take one message."""
        _check_client_says(message)
        if isinstance(message, TaskMessage):
            self._submit(message)
        elif isinstance(message, (Cancel, Input, Hold)):
            if message.id not in self._handles:
                return  # it has ended, and the client will hear of it
            handle, _ = self._handles[message.id]
            if isinstance(message, Cancel):
                handle.cancel()
            elif isinstance(message, Hold):
                handle.hold(message.until)
            else:
                handle.extend(message.tokens)

    def refuse(self, message: Any, why: str) -> None:
        """Fail the task of which it came."""
        if not getattr(message, "id", ""):
            return
        if message.id in self._handles:
            handle, listener = self._handles[message.id]
            handle.unlisten(listener)
            handle.cancel()
        self._tell(message.id, _failed(message.id, "bad-message", f"this came: {why}"))

    def end(self, why: str, code: Code) -> None:
        """Its calls go on for a while, in which it may submit them again, unless it left."""
        kept = code in ("worker-lost", "replaced") and why != LEFT
        left: list[TaskHandle] = []
        for handle, listener in list(self._handles.values()):
            handle.unlisten(listener)
            if kept and handle.request.kind != "thread":  # its chunks were told already
                left.append(handle)
            else:
                handle.cancel()
                self.allowance.give_back(len(handle.request.arguments), 1)
        if left:
            self._timers.after(self._settings.keep_s, partial(self._cancel_forgotten, left))

    def _cancel_forgotten(self, handles: list[TaskHandle]) -> None:
        """Cancel tasks that nobody has asked for again."""
        for handle in handles:
            self.allowance.give_back(len(handle.request.arguments), 1)
            if not handle.followed:
                handle.cancel()

    def _submit(self, task: TaskMessage) -> None:
        if task.id in self._handles:
            return  # it came before
        try:
            self._check_room(task)
            request = TaskRequest(
                id=f"{self.id}/{task.id}",
                kind=task.kind,
                name=task.name,
                arguments=self.payloads.text(task.arguments),
                deadline_s=task.deadline_s,
                budget=task.budget,
                needs=task.needs,
                problem=task.problem,
                patience_s=PATIENCE_S if task.patience_s is None else task.patience_s,
            )
            handle = self._dispatcher.submit(request)
        except ReasonError as error:
            code: Code = error.wire_code if isinstance(error, ProtocolError) else "bad-arguments"
            self.put(_failed(task.id, code, str(error)))
            return
        listener: TaskListener = partial(self._tell, task.id)
        self._handles[task.id] = handle, listener
        self._bytes += len(request.arguments)
        self.allowance.take(len(request.arguments), 1)  # it is there, as just checked
        for tokens in task.inputs[len(handle.inputs) :]:
            handle.extend(tokens)
        if task.kind == "thread":
            handle.hold(task.until)
        handle.listen(listener)

    def _check_room(self, task: TaskMessage) -> None:
        """
        Raises:
            Congested: the client has too many tasks.
        """
        size = task.arguments.size if isinstance(task.arguments, Payload) else len(task.arguments)
        if len(self._handles) >= MOST_TASKS or self._bytes + size > MAX_TEXT:
            raise Congested(
                f"this client has {len(self._handles)} tasks, of {self._bytes} bytes; wait for "
                "some to end"
            )
        if not self.allowance.take(size, 1):
            raise Congested(
                f"the clients of {self.grant.name} have {self.allowance.tasks} tasks, and "
                f"{self.allowance.bytes} bytes are kept for them; wait for some to end"
            )
        self.allowance.give_back(size, 1)

    def _tell(self, id: str, message: Progress | TokenChunk | Result | Cancelled) -> None:
        if isinstance(message, (Result, Cancelled)) and id in self._handles:
            handle, _ = self._handles.pop(id)
            self._bytes -= len(handle.request.arguments)
            self.allowance.give_back(len(handle.request.arguments), 1)
        message = message.model_copy(update={"id": id, "fence": 0})
        if isinstance(message, Progress) and self.channel.full:
            return  # what comes later says more
        if not (isinstance(message, Result) and put_whole(self.channel, message)):
            self.put(message)


def _check_client_says(message: Message) -> None:
    """Refuse what a client could say and nobody would heed.

    Raises:
        BadMessage: it says what is the hub's to say.
    """
    own = ("fence", "attempt", "proof", "reason", "worker")
    given = [name for name in own if name in message.model_fields_set]
    defaults = type(message).model_fields
    for name in given:
        if getattr(message, name) != defaults[name].default:
            raise BadMessage(f"{name}: that is the hub's to say; leave it out")


def _failed(id: str, code: Code, message: str) -> Result:
    return Result(id=id, failure=TaskFailure(code=code, message=message))
