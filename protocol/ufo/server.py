"""The server that UFO³'s clients dial: a hub's second listener, which speaks AIP."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from http import HTTPStatus
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
from protocol.hub.tokens import Grant
from protocol.ufo.connection import UfoConnection
from protocol.ufo.device import UfoDevice, request_to
from protocol.ufo.frames import ClientFrame, failed, ok
from protocol.ufo.galaxy_client import GalaxyClient
from protocol.ufo.pilots import CommandListPilot, Pilot
from protocol.ufo.secrets import SecretStore
from protocol.wire.checked import CheckedModel
from protocol.wire.connection import ConnectionLimits, Tls

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

MOST_FRAME = 32 << 20
"""Bytes of a frame: devices send screenshots in them, of several screens at once."""

PING_S = 20.0
"""Their clients send no heartbeat while a command runs; a ping finds those that are gone."""

ALIVE_S = 2.0
"""How long a connected device may take to answer a ping before another takes its place."""

ARRIVAL_S = 5.0
"""How long a Galaxy client waits to register for its device; after a restart both dial again, and
it tries five times only, 5 s apart."""

MOST_CONNECTIONS = 1024
REFUSED = 1008


class UfoSettings(CheckedModel):
    """Where a `UfoServer` listens, and its time limits.

    Attributes:
        host: The address to bind.
        port: The port to bind; 0 takes any.
        tls: Certificates.
        insecure: Whether other addresses than loopback may be bound without TLS.
        limits: What each connection may do.
        discover_s: Seconds that a device may take to tell its tools, for each of its agents.
        command_s: Seconds that a command may take.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None
    insecure: bool = False
    limits: ConnectionLimits = ConnectionLimits()
    discover_s: float = 8.0
    command_s: float = 300.0


class UfoServer:
    """Serves UFO³'s unmodified clients::

    async with Hub() as hub, UfoServer(hub) as ufo:
        ...  # python -m ufo.client.client --ws --ws-server {ufo.url}?token=TOKEN --client-id dev1

    A device becomes a worker with its tools and one called ``request``; a Galaxy client has
    requests carried out by any worker that has such a tool.  Their clients can give a token only
    in the URL; it is read there and not logged, and taken from a header where there is one.
    """

    def __init__(
        self,
        hub: Hub,
        settings: UfoSettings | None = None,
        *,
        pilot: Pilot | None = None,
        secrets: SecretStore | None = None,
    ) -> None:
        """Prepare the server.

        Args:
            hub: The hub that devices work for; its tokens say who may connect.
            settings: Where to listen, and time limits.
            pilot: Steers devices by requests; by default a `CommandListPilot`.
            secrets: What is put into calls of devices' tools; by default nothing.

        Raises:
            InvalidValue: the address may not be bound without TLS, or the secrets can't be read.
        """
        self._settings = settings = settings or UfoSettings()
        self._listener = WebSocketListener(
            settings.host, settings.port, tls=settings.tls, insecure=settings.insecure
        )
        self._hub = hub
        self._pilot = pilot or CommandListPilot()
        self._secrets = secrets or SecretStore()
        self._secrets.all()  # they can be read
        self._devices: dict[str, UfoDevice] = {}
        self._connections: dict[UfoConnection, Grant] = {}
        self._arrived = anyio.Event()
        self._stack = AsyncExitStack()
        hub.observe(self._observe)

    @property
    def url(self) -> str:
        """What UFO³'s clients dial, but for ``?token=``."""
        return f"{self._listener.url}/ws"

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(
            self._listener.open(
                self._serve_socket,
                self._request,
                name="ufo",
                most=MOST_FRAME,
                most_connections=2 * MOST_CONNECTIONS,
                most_per_address=MOST_CONNECTIONS,
                ping_s=PING_S,
            )
        )
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._recheck)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                for connection in list(self._connections):
                    connection.close()
                await self._stack.aclose()

    async def _recheck(self) -> None:
        """Close connections whose tokens were revoked, rotated or have expired."""
        while True:
            await anyio.sleep(RECHECK_S)
            valid = await anyio.to_thread.run_sync(self._hub.tokens.grants)
            for connection, grant in list(self._connections.items()):
                if grant not in valid:
                    connection.close()

    # ---- a connection --------------------------------------------------------------------------

    def _request(self, socket: ServerConnection, request: Request) -> Response | None:
        if urlsplit(request.path).path != "/ws":
            return socket.respond(HTTPStatus.NOT_FOUND, "UFO³ clients dial /ws\n")
        if len(self._connections) >= MOST_CONNECTIONS:
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    async def _serve_socket(self, socket: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        connection = UfoConnection(socket, self._settings.limits)
        try:
            grant = await self._grant(socket)
            with anyio.fail_after(HELLO_S):
                hello = await connection.hello()
            self._connections[connection] = grant
            await self._serve(connection, hello, grant)
        except* (ConnectionRefused, BadMessage) as group:
            await _turn_away(socket, str(first(group)))
        except* (ConnectionClosed, OSError):  # a time limit is one of them
            pass
        finally:
            self._connections.pop(connection, None)

    async def _grant(self, socket: ServerConnection) -> Grant:
        """What the client's token allows.

        Raises:
            ConnectionRefused: the token is unknown.
        """
        request = socket.request
        assert request is not None
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = token or request.headers.get("X-API-Key", "")
        token = token or parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        return await anyio.to_thread.run_sync(self._hub.tokens.verify, token)

    async def _serve(self, connection: UfoConnection, hello: ClientFrame, grant: Grant) -> None:
        if hello.type != "register" or not hello.client_id:
            raise BadMessage("type: a connection begins with register and a client_id; send one")
        if not hello.client_id.isprintable() or len(hello.client_id) > 100:
            raise BadMessage("client_id: it is long or holds control characters; give a plain name")
        if hello.client_type == "device":
            if "tool" not in grant.scopes:
                raise ConnectionRefused("forbidden", "this token is not for a device")
            own = hello.client_id == grant.name
            await self._device(connection, hello, hello.client_id if own else _join(grant, hello))
        elif "submit" in grant.scopes:
            await self._galaxy(connection, hello, grant)
        else:
            raise ConnectionRefused("forbidden", "this token may not submit; give it the scope")

    async def _device(self, connection: UfoConnection, hello: ClientFrame, id: str) -> None:
        """Serve a device; an older connection of the same device ends if it is half open.

        Raises:
            BadMessage: the older connection works.  If the newer took its place, two clients of
                one name would end each other's connections for ever, as both dial again.
        """
        older = self._devices.get(id)
        if older is not None and await older.alive(ALIVE_S):
            raise BadMessage(f"client_id: {hello.client_id!r} is connected already; rename it")
        device = UfoDevice(
            id,
            connection,
            hello,
            self._pilot,
            command_s=self._settings.command_s,
            secrets=self._secrets,
        )
        before = self._devices.get(id)
        self._devices[id] = device
        self._arrive()
        if before is not None:
            before.leave()
        connection.say(ok())
        worker: ConnectedWorker | None = None

        async def arrive() -> None:
            nonlocal worker
            await device.discover(self._settings.discover_s)
            worker = found = self._hub.attach(
                id, device.profile, device, scopes=frozenset({"tool"})
            )
            device.receive = partial(self._hub.receive, found)

        device.begin = lambda task, asked: self._hub.submit(
            request_to(id, task, asked.model_dump_json())
        )
        try:
            async with anyio.create_task_group() as group:
                device.work(group)
                group.start_soon(arrive)
                await connection.serve(device.hear)
                group.cancel_scope.cancel()
        finally:
            if worker is not None:
                self._hub.detach(worker, connection.why)
            if self._devices.get(id) is device:
                del self._devices[id]

    def _observe(self, event: HubEvent) -> None:
        if isinstance(event, WorkerJoined):
            self._arrive()

    def _arrive(self) -> None:
        self._arrived.set()
        self._arrived = anyio.Event()

    async def _galaxy(self, connection: UfoConnection, hello: ClientFrame, grant: Grant) -> None:
        galaxy = GalaxyClient(_join(grant, hello), connection, self._hub, self._devices)
        if hello.target_id:
            with anyio.move_on_after(ARRIVAL_S):
                while galaxy.target(hello.target_id) is None:
                    await self._arrived.wait()
            if galaxy.target(hello.target_id) is None:
                raise BadMessage(f"Target device '{hello.target_id}' is not connected")
        connection.say(ok())
        try:
            async with anyio.create_task_group() as group:
                galaxy.work(group)
                await connection.serve(galaxy.hear)
                group.cancel_scope.cancel()
        finally:
            galaxy.leave()


def _join(grant: Grant, hello: ClientFrame) -> str:
    return f"{grant.name}/{hello.client_id}"


async def _turn_away(socket: ServerConnection, why: str) -> None:
    """Say why as their server does, and close, whether or not it arrives."""
    from websockets.exceptions import ConnectionClosed

    with anyio.move_on_after(1, shield=True):
        try:
            await socket.send(failed(why).model_dump_json())
            await socket.close(REFUSED, "refused")
        except ConnectionClosed:
            return
