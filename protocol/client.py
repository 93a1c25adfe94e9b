"""A client of a hub in another process: submits tasks there, as a `Hub` does here."""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any, Self

import anyio

from protocol.errors import first
from protocol.hub.placement import Demand
from protocol.hub.task_handles import Listener, Order, Ticket
from protocol.wire.connection import Tls
from protocol.wire.framing import Hello, to_client
from protocol.wire.messages import (
    Cancel,
    Cancelled,
    Chunk,
    Input,
    Part,
    Payload,
    Progress,
    Result,
    Task,
)
from protocol.wire.payloads import Payloads, pack, parts
from protocol.worker.reconnecting import Dialler


class Client(Dialler):
    """Submits tasks to a hub that runs elsewhere::

    async with Client("ws://127.0.0.1:8765", token) as client:
        ticket = client.submit(Order(id="1", kind="tool", name="add", arguments='{"a": 1, "b": 2}'))
        outcome = await ticket.outcome()

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
        self._tickets: dict[str, Ticket] = {}

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

    def submit(self, order: Order, listener: Listener | None = None) -> Ticket:
        """See `Submitter.submit`."""
        ticket = self._tickets.get(order.id)
        fresh = ticket is None
        if ticket is None:
            ticket = Ticket(order, Demand.of(order.kind, order.name, order.needs), self)
            self._tickets[order.id] = ticket
        if listener is not None:
            ticket.listen(listener)
        if fresh and self.connected.is_set():
            self._send(ticket)
        return ticket

    def extend(self, ticket: Ticket, tokens: tuple[int, ...]) -> None:
        """See `Ticket.extend`."""
        ticket.inputs.append(tokens)
        self.channel.put(Input(id=ticket.id, tokens=tokens))

    def cancel(self, ticket: Ticket) -> None:
        """See `Ticket.cancel`."""
        if ticket.result is None and not ticket.cancelling:
            ticket.cancelling = True
            self.channel.put(Cancel(id=ticket.id))

    def hello(self) -> Hello:
        """See `Dialler.hello`."""
        return Hello(role="client", instance=self._instance)

    def joined(self, resumed: bool) -> None:
        """See `Dialler.joined`."""
        if not resumed:
            for ticket in list(self._tickets.values()):
                if ticket.cancelling:
                    self._over(ticket, Cancelled(id=ticket.id, leaked=True))
                else:
                    self._send(ticket)

    def handle(self, message: Any) -> None:
        """See `Dialler.handle`."""
        if isinstance(message, Part):
            self._payloads.add(message)
            return
        ticket = None if not hasattr(message, "id") else self._tickets.get(message.id)
        if ticket is None:
            return
        if isinstance(message, (Progress, Chunk)):
            ticket.tell(message)
        elif isinstance(message, Cancelled) and not ticket.cancelling:
            self._send(ticket)  # the hub took this side for dead
        elif isinstance(message, (Result, Cancelled)):
            if isinstance(message, Result) and isinstance(message.value, Payload):
                value = self._payloads.text(message.value)
                self._payloads.drop(message.value)
                message = message.model_copy(update={"value": value})
            self._over(ticket, message)

    def _over(self, ticket: Ticket, end: Result | Cancelled) -> None:
        del self._tickets[ticket.id]
        ticket.end(end)

    def _send(self, ticket: Ticket) -> None:
        order = ticket.order
        ticket.attempts = 1
        arguments, data = pack(order.arguments)
        task = Task(
            id=order.id,
            kind=order.kind,
            name=order.name,
            arguments=arguments,
            deadline_s=order.deadline_s,
            budget=order.budget,
            needs=order.needs,
            inputs=tuple(ticket.inputs),
        )
        if isinstance(arguments, Payload):
            self.channel.put_lazily((*parts(arguments, data), task))
        else:
            self.channel.put(task)
