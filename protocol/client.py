"""A client of a hub in another process: submits tasks there, as a `Hub` does here."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import anyio

from orchestrator.errors import InvalidValue
from protocol.errors import ProtocolError, first
from protocol.hub.task_handles import TaskHandle, TaskListener, TaskRequest
from protocol.settings import ClientSettings
from protocol.wire.framing import Hello, to_client
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Hold,
    Input,
    PayloadPart,
    Progress,
    Result,
    TaskFailure,
    TaskMessage,
    TokenChunk,
)
from protocol.wire.payloads import Payloads, put_whole
from protocol.worker.reconnecting import ReconnectingConnection, SessionSide


class Client:
    """Submits tasks to a hub that runs elsewhere::

    async with Client("ws://127.0.0.1:8765", token) as client:
        handle = client.submit(TaskRequest(id="1", kind="tool", name="add", arguments="{}"))
        outcome = await handle.outcome()

    What it submitted is submitted again when the hub was restarted; workers that have it already
    go on.
    """

    def __init__(
        self,
        url: str,
        token: str,
        settings: ClientSettings | None = None,
        *,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare a client; the arguments are those of `Worker`.

        Raises:
            InvalidValue: the URL or a certificate can't be used.
        """
        settings = settings or ClientSettings()
        side = SessionSide(
            reader=to_client,
            hello=self._hello,
            joined=self._joined,
            handle=self._handle,
            refuse=self._refuse,
        )
        self._instance = settings.instance
        self._connection = ReconnectingConnection(url, token, side, settings, rng)
        self._channel = self._connection.channel
        self._payloads = Payloads()
        self._handles: dict[str, TaskHandle] = {}

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._connection.run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(1, shield=True):  # what was cancelled, the hub should hear of
            if error is not None and self._connection.linked:
                self._channel.say(reply=True)
                await self._channel.settle()
        if not isinstance(error, anyio.get_cancelled_exc_class()):
            self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            ours = [found for found in group.exceptions if found is not error]
            if ours:
                raise first(ours[0]) from None

    def submit(self, request: TaskRequest, listener: TaskListener | None = None) -> TaskHandle:
        """See `Submitter.submit`."""
        handle = self._handles.get(request.id)
        if handle is None:
            handle = TaskHandle(request, self)
            if self._connection.connected.is_set():
                self._send(handle)
            self._handles[request.id] = handle
        if listener is not None:
            handle.listen(listener)
        return handle

    def extend(self, id: str, tokens: tuple[int, ...]) -> None:
        """See `TaskControl.extend`."""
        self._channel.put(Input(id=id, tokens=tokens))

    def hold(self, id: str, until: int | None) -> None:
        """See `TaskControl.hold`."""
        self._channel.put(Hold(id=id, until=until))

    def cancel(self, id: str) -> None:
        """See `TaskControl.cancel`."""
        self._channel.put(Cancel(id=id))

    def _hello(self) -> Hello:
        return Hello(role="client", instance=self._instance)

    def _joined(self, resumed: bool) -> None:
        if not resumed:
            for handle in list(self._handles.values()):
                if handle.cancelling:
                    self._over(handle, Cancelled(id=handle.id, leaked=True))
                else:
                    self._send_again(handle)

    def _handle(self, message: Any) -> None:
        if isinstance(message, PayloadPart):
            self._payloads.add(message)
            return
        handle = None if not hasattr(message, "id") else self._handles.get(message.id)
        if handle is None:
            return
        if isinstance(message, (Progress, TokenChunk)):
            handle.tell(message)
        elif isinstance(message, Cancelled) and not handle.cancelling:
            self._send_again(handle)  # the hub took this side for dead
        elif isinstance(message, (Result, Cancelled)):
            whole = self._payloads.whole(message) if isinstance(message, Result) else message
            self._over(handle, whole)

    def _refuse(self, message: Any, why: str) -> None:
        """Fail the task of which a message came that can't be taken."""
        handle = self._handles.get(getattr(message, "id", ""))
        if handle is not None:
            self._channel.put_anyway(Cancel(id=handle.id))
            failure = TaskFailure(code="bad-message", message=f"the hub sent {why}")
            self._over(handle, Result(id=handle.id, failure=failure))

    def _over(self, handle: TaskHandle, end: Result | Cancelled) -> None:
        del self._handles[handle.id]
        handle.end(end)

    def _send_again(self, handle: TaskHandle) -> None:
        try:
            self._send(handle)
        except ProtocolError as error:
            failure = TaskFailure(code=error.wire_code, message=str(error))
            self._over(handle, Result(id=handle.id, failure=failure))

    def _send(self, handle: TaskHandle) -> None:
        request = handle.request
        handle.attempts = 1
        task = TaskMessage(
            id=request.id,
            kind=request.kind,
            name=request.name,
            arguments=request.arguments,
            deadline_s=request.deadline_s,
            budget=request.budget,
            needs=request.needs,
            inputs=tuple(handle.inputs),
            until=handle.until,
            problem=request.problem,
            patience_s=request.patience_s,
        )
        if not put_whole(self._channel, task):
            self._channel.put(task)


class ShardedClient:
    """Submits tasks to several hubs: all of one problem, and each other task by its id, to one::

    async with ShardedClient([Client(url, token), Client(other_url, other_token)]) as client:
        handle = client.submit(request)

    Which one follows from the name and the number of hubs alone, so that clients agree; nothing
    moves to another hub when one is gone.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        """Prepare to submit to the hubs of these clients, which it enters and leaves.

        Raises:
            InvalidValue: there is none.
        """
        if not clients:
            raise InvalidValue("clients: there is none; give one for each hub")
        self._clients = tuple(clients)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for client in self._clients:
                await stack.enter_async_context(client)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def submit(self, request: TaskRequest, listener: TaskListener | None = None) -> TaskHandle:
        """See `Submitter.submit`."""
        name = request.problem or request.id
        place = zlib.crc32(name.encode()) % len(self._clients)
        return self._clients[place].submit(request, listener)
