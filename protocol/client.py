"""A client of a hub in another process: submits tasks there, as a `Hub` does here."""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any, Self

import anyio

from protocol.errors import first
from protocol.hub.placement import Demand
from protocol.hub.task_handles import TaskHandle, TaskListener, TaskRequest
from protocol.wire.connection import Tls
from protocol.wire.framing import Hello, to_client
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Input,
    Payload,
    PayloadPart,
    Progress,
    Result,
    TaskMessage,
    TokenChunk,
)
from protocol.wire.payloads import Payloads, pack, parts
from protocol.worker.reconnecting import ReconnectingConnection


class Client(ReconnectingConnection):
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
        *,
        instance: str = "",
        tls: Tls | None = None,
        insecure: bool = False,
        patience_s: float | None = 30.0,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare a client; the arguments are those of `Worker`.

        Raises:
            InvalidValue: the URL or a certificate can't be used.
        """
        super().__init__(
            url,
            token,
            to_client,
            tls=tls,
            insecure=insecure,
            patience_s=patience_s,
            slowest_s=2.0,
            rng=rng,
        )
        self._instance = instance
        self._payloads = Payloads()
        self._handles: dict[str, TaskHandle] = {}

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self.dial)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(1, shield=True):  # what was cancelled, the hub should hear of
            while error is not None and self.channel.unacknowledged and self._linked:
                self.channel.say(reply=True)
                await anyio.sleep(0.01)
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
        fresh = handle is None
        if handle is None:
            handle = TaskHandle(request, Demand.of(request.kind, request.name, request.needs), self)
            self._handles[request.id] = handle
        if listener is not None:
            handle.listen(listener)
        if fresh and self.connected.is_set():
            self._send(handle)
        return handle

    def extend(self, handle: TaskHandle, tokens: tuple[int, ...]) -> None:
        """See `TaskHandle.extend`."""
        handle.inputs.append(tokens)
        self.channel.put(Input(id=handle.id, tokens=tokens))

    def cancel(self, handle: TaskHandle) -> None:
        """See `TaskHandle.cancel`."""
        if handle.result is None and not handle.cancelling:
            handle.cancelling = True
            self.channel.put(Cancel(id=handle.id))

    def hello(self) -> Hello:
        """See `ReconnectingConnection.hello`."""
        return Hello(role="client", instance=self._instance)

    def joined(self, resumed: bool) -> None:
        """See `ReconnectingConnection.joined`."""
        if not resumed:
            for handle in list(self._handles.values()):
                if handle.cancelling:
                    self._over(handle, Cancelled(id=handle.id, leaked=True))
                else:
                    self._send(handle)

    def handle(self, message: Any) -> None:
        """See `ReconnectingConnection.handle`."""
        if isinstance(message, PayloadPart):
            self._payloads.add(message)
            return
        handle = None if not hasattr(message, "id") else self._handles.get(message.id)
        if handle is None:
            return
        if isinstance(message, (Progress, TokenChunk)):
            handle.tell(message)
        elif isinstance(message, Cancelled) and not handle.cancelling:
            self._send(handle)  # the hub took this side for dead
        elif isinstance(message, (Result, Cancelled)):
            if isinstance(message, Result) and isinstance(message.value, Payload):
                value = self._payloads.text(message.value)
                self._payloads.drop(message.value)
                message = message.model_copy(update={"value": value})
            self._over(handle, message)

    def _over(self, handle: TaskHandle, end: Result | Cancelled) -> None:
        del self._handles[handle.id]
        handle.end(end)

    def _send(self, handle: TaskHandle) -> None:
        request = handle.request
        handle.attempts = 1
        arguments, data = pack(request.arguments)
        task = TaskMessage(
            id=request.id,
            kind=request.kind,
            name=request.name,
            arguments=arguments,
            deadline_s=request.deadline_s,
            budget=request.budget,
            needs=request.needs,
            inputs=tuple(handle.inputs),
        )
        if isinstance(arguments, Payload):
            self.channel.put_lazily((*parts(arguments, data), task))
        else:
            self.channel.put(task)
