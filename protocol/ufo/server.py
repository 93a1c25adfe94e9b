"""Where UFO³ clients dial: a second door of a hub, which speaks AIP."""

from __future__ import annotations

from contextlib import AsyncExitStack
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.to_thread

from protocol.errors import BadMessage, ConnectionRefused, first
from protocol.hub.connected_workers import ConnectedWorker
from protocol.hub.events import HubEvent, WorkerJoined
from protocol.hub.handshake import RECHECK_S
from protocol.hub.hub import Hub
from protocol.hub.listener import HELLO_S, WebSocketListener
from protocol.hub.task_handles import TaskRequest
from protocol.hub.tokens import Grant
from protocol.ufo.connection import Line
from protocol.ufo.device import REQUEST, Asked, Device
from protocol.ufo.frames import ClientFrame, failed, ok
from protocol.ufo.galaxy import PATIENCE_S, Galaxy
from protocol.ufo.pilot import Listed, Pilot
from protocol.wire.connection import ConnectionLimits, Tls
from protocol.wire.messages import Cancelled, Result, TaskBudget, TaskNeeds

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

MOST_FRAME = 32 << 20
"""Bytes of a frame: devices send screenshots in them, of several screens at once."""

PING_S = 20.0
"""Their clients don't beat while a command runs; a ping finds those that are gone."""

ALIVE_S = 2.0
"""How long a connected device may take to answer a ping before another takes its place."""

ARRIVAL_S = 5.0
"""How long a Galaxy client waits to register for its device; after a restart both dial again, and
it tries five times only, 5 s apart."""

MOST_CONNECTIONS = 1024
REFUSED = 1008


class UfoServer:
    """Lets UFO³'s unmodified clients in::

    async with Hub() as hub, UfoServer(hub) as ufo:
        ...  # python -m ufo.client.client --ws --ws-server {ufo.url}?token=TOKEN --client-id dev1

    A device becomes a worker with its tools and one called ``request``; a Galaxy client has
    requests carried out by any worker that has such a tool.  Their clients can give a token only
    in the URL; it is read there and not logged, and taken from a header where there is one.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        pilot: Pilot | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        limits: ConnectionLimits | None = None,
        discover_s: float = 8.0,
        command_s: float = 300.0,
    ) -> None:
        """Prepare the door.

        Args:
            hub: Whose door it is; its tokens say who may come in.
            host: The address to bind.
            port: The port to bind; 0 takes any.
            pilot: Who steers devices by requests; by default `Listed`.
            tls: Certificates.
            insecure: Whether other addresses than loopback may be bound without TLS.
            limits: What each connection may do.
            discover_s: How long a device may take to tell its tools, for each of its agents.
            command_s: How long a command may take.

        Raises:
            InvalidValue: the address may not be bound.
        """
        self._door = WebSocketListener(host, port, tls=tls, insecure=insecure)
        self._hub = hub
        self._pilot = pilot or Listed()
        self._limits = limits or ConnectionLimits()
        self._discover_s, self._command_s = discover_s, command_s
        self._devices: dict[str, Device] = {}
        self._lines: dict[Line, str] = {}
        self._arrived = anyio.Event()
        self._stack = AsyncExitStack()
        hub.observe(self._observe)

    @property
    def url(self) -> str:
        """What UFO³'s clients dial, but for ``?token=``."""
        return f"{self._door.url}/ws"

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(
            self._door.open(
                self._connection, self._request, name="ufo", most=MOST_FRAME, ping_s=PING_S
            )
        )
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._recheck)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                for line in list(self._lines):
                    line.close()
                await self._stack.aclose()

    async def _recheck(self) -> None:
        """Let go of those whose tokens were revoked or are over."""
        while True:
            await anyio.sleep(RECHECK_S)
            valid = await anyio.to_thread.run_sync(self._hub.tokens.valid)
            for line in [line for line, name in self._lines.items() if name not in valid]:
                line.close()

    # ---- a connection --------------------------------------------------------------------------

    def _request(self, socket: ServerConnection, request: Request) -> Response | None:
        if urlsplit(request.path).path != "/ws":
            return socket.respond(HTTPStatus.NOT_FOUND, "UFO³ clients dial /ws\n")
        if len(self._lines) >= MOST_CONNECTIONS:
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    async def _connection(self, socket: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        line = Line(socket, self._limits)
        try:
            grant = await self._grant(socket)
            with anyio.fail_after(HELLO_S):
                hello = await line.hello()
            self._lines[line] = grant.name
            await self._serve(line, hello, grant)
        except* (ConnectionRefused, BadMessage) as group:
            await _turn_away(socket, str(first(group)))
        except* (ConnectionClosed, OSError):  # a time limit is one of them
            pass
        finally:
            self._lines.pop(line, None)

    async def _grant(self, socket: ServerConnection) -> Grant:
        """Who it is.

        Raises:
            ConnectionRefused: its token is none.
        """
        request = socket.request
        assert request is not None
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = token or request.headers.get("X-API-Key", "")
        token = token or parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        return await anyio.to_thread.run_sync(self._hub.tokens.verify, token)

    async def _serve(self, line: Line, hello: ClientFrame, grant: Grant) -> None:
        if hello.type != "register" or not hello.client_id:
            raise BadMessage("type: a connection begins with register and a client_id; send one")
        if not hello.client_id.isprintable():
            raise BadMessage("client_id: it holds control characters; give a plain name")
        if hello.client_type == "device":
            if "tool" not in grant.scopes:
                raise ConnectionRefused("forbidden", "this token is not for a device")
            own = hello.client_id == grant.name
            await self._device(line, hello, hello.client_id if own else _join(grant, hello))
        elif "submit" in grant.scopes:
            await self._galaxy(line, hello, grant)
        else:
            raise ConnectionRefused("forbidden", "this token may not submit; give it the scope")

    async def _device(self, line: Line, hello: ClientFrame, id: str) -> None:
        """A device's connection; an older one of the same device ends if it is half open.

        Raises:
            BadMessage: it is not.  Each of two clients of one name would put the other out for
                ever, as theirs dial again.
        """
        older = self._devices.get(id)
        if older is not None and await older.alive(ALIVE_S):
            raise BadMessage(
                f"client_id: {hello.client_id!r} is connected already; give this client another"
            )
        device = Device(id, line, hello, self._pilot, command_s=self._command_s)
        before = self._devices.get(id)
        self._devices[id] = device
        self._arrive()
        if before is not None:
            before.leave()
        line.say(ok())
        seat: ConnectedWorker | None = None

        async def arrive() -> None:
            nonlocal seat
            await device.discover(self._discover_s)
            seat = found = self._hub.attach(id, device.profile, device, scopes=frozenset({"tool"}))
            device.receive = lambda said: self._received(found, said)

        device.begin = lambda task, asked: self._begin(device, task, asked)
        try:
            async with anyio.create_task_group() as group:
                device.work(group)
                group.start_soon(arrive)
                await line.serve(device.hear)
                group.cancel_scope.cancel()
        finally:
            if seat is not None:
                self._hub.detach(seat, line.why)
            if self._devices.get(id) is device:
                del self._devices[id]

    def _received(self, seat: ConnectedWorker, said: Result | Cancelled) -> None:
        self._hub.receive(seat, said)

    def _begin(self, device: Device, task: str, asked: Asked) -> None:
        """A task that the device's own user typed there."""
        order = TaskRequest(
            id=task,
            kind="tool",
            name=REQUEST,
            arguments=asked.model_dump_json(),
            needs=TaskNeeds(worker=device.id),
            budget=TaskBudget(attempts=1),
            patience_s=PATIENCE_S,
        )
        self._hub.submit(order)

    def _observe(self, event: HubEvent) -> None:
        if isinstance(event, WorkerJoined):
            self._arrive()

    def _arrive(self) -> None:
        self._arrived.set()
        self._arrived = anyio.Event()

    async def _galaxy(self, line: Line, hello: ClientFrame, grant: Grant) -> None:
        galaxy = Galaxy(_join(grant, hello), line, self._hub, self._devices)
        if hello.target_id:
            with anyio.move_on_after(ARRIVAL_S):
                while galaxy.target(hello.target_id) is None:
                    await self._arrived.wait()
            if galaxy.target(hello.target_id) is None:
                raise BadMessage(f"Target device '{hello.target_id}' is not connected")
        line.say(ok())
        try:
            async with anyio.create_task_group() as group:
                galaxy.work(group)
                await line.serve(galaxy.hear)
                group.cancel_scope.cancel()
        finally:
            galaxy.leave()


def _join(grant: Grant, hello: ClientFrame) -> str:
    return f"{grant.name}/{hello.client_id}"


async def _turn_away(socket: ServerConnection, why: str) -> None:
    """Say why as their server does, and close; whether it arrives or not."""
    from websockets.exceptions import ConnectionClosed

    with anyio.move_on_after(1, shield=True):
        try:
            await socket.send(failed(why).model_dump_json())
            await socket.close(REFUSED, "refused")
        except ConnectionClosed:
            return
