"""The hub's gate: who may come in, and which session is theirs."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from protocol.errors import BadMessage, ConnectionRefused, first
from protocol.hub.dispatcher import KINDS, Dispatcher
from protocol.hub.listener import HELLO_S
from protocol.hub.sessions import ClientSession, PeerSession, WorkerSession
from protocol.hub.tokens import WORKING, Grant, TokenStore
from protocol.wire.connection import ConnectionLimits, receive, refuse, say
from protocol.wire.framing import Hello, Refused, Welcome, greeting
from protocol.wire.messages import VERSION, Code

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

TICK_S = 0.05
RECHECK_S = 2.0
"""How often connected workers' tokens are looked at again."""


class Handshake:
    """Checks whoever dials, and keeps the sessions.

    Attributes:
        lease_s: How long a session outlives the last that was heard of it.
    """

    def __init__(
        self,
        board: Dispatcher,
        tokens: TokenStore,
        *,
        epoch: int,
        lease_s: float,
        limits: ConnectionLimits,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.board = board
        self.tokens = tokens
        self.epoch = epoch
        self.lease_s = lease_s
        self._limits = limits
        self._most = most
        self._open = 0
        self._clock = clock
        self._sessions: dict[str, PeerSession] = {}
        self._by_id: dict[tuple[str, str], PeerSession] = {}

    def close(self) -> None:
        """Tell everybody that the hub is closing."""
        for session in list(self._sessions.values()):
            session.drop(Refused(code="draining", message="the hub is closing", retry=True))

    async def tick(self) -> None:
        """Do what is due, for ever."""
        while True:
            await anyio.sleep(TICK_S)
            self.board.tick()
            now = self._clock()
            for session in list(self._sessions.values()):
                if now - session.heard > self.lease_s:
                    self._end(session, session.gone)

    async def recheck(self) -> None:
        """Let go of those whose tokens were revoked or are over."""
        while True:
            await anyio.sleep(RECHECK_S)
            valid = await anyio.to_thread.run_sync(self.tokens.valid)
            for session in list(self._sessions.values()):
                if session.id.partition("/")[0] not in valid:
                    self._end(session, "its token is no longer valid", "bad-token")

    def _end(self, session: PeerSession, why: str, code: Code = "worker-lost") -> None:
        self._sessions.pop(session.key, None)
        if self._by_id.get((session.role, session.id)) is session:
            del self._by_id[session.role, session.id]
        session.end(why)
        session.drop(Refused(code=code, message=why, retry=code == "worker-lost"))

    # ---- a connection --------------------------------------------------------------------------

    def request(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse what can be refused before the connection is a WebSocket."""
        if request.path != "/":
            return socket.respond(
                HTTPStatus.NOT_FOUND, "dial the bare URL; a token goes into a header\n"
            )
        if self._open >= self._most:
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    async def connection(self, socket: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        self._open += 1
        try:
            await self._greet(socket)
        except* (ConnectionClosed, TimeoutError, OSError):
            pass  # it is gone; its session waits for the next
        except* ConnectionRefused as group:
            found = first(group)
            message = str(found).partition(": ")[2]
            again = found.reason == "late-hello"
            await refuse(socket, Refused(code=found.reason, message=message, retry=again))
        except* BadMessage as group:
            await refuse(socket, Refused(code="bad-message", message=str(first(group)), retry=True))
        finally:
            self._open -= 1

    async def _greet(self, socket: ServerConnection) -> None:
        hello = None
        with anyio.move_on_after(HELLO_S):
            hello = await receive(socket, greeting)
        if hello is None:
            raise ConnectionRefused("late-hello", f"no hello within {HELLO_S:g} s; say hello first")
        if VERSION not in hello.versions:
            raise ConnectionRefused("bad-version", f"this hub speaks version {VERSION}; upgrade")
        grant = await self._grant(socket, hello)
        if hello.epoch > self.epoch:
            await refuse(
                socket,
                Refused(code="stale-hub", message="another hub has taken over", retry=True),
            )
            return
        session, resumed = self._session(hello, grant)
        ack = session.channel.received
        welcome = Welcome(
            id=session.id,
            session=f"{session.key}.{session.secret}",
            resumed=resumed,
            ack=ack,
            epoch=self.epoch,
            lease_s=self.lease_s,
            beat_s=self.lease_s / 4,
        )
        session.drop()
        await say(socket, welcome)
        if resumed:
            session.channel.acknowledge(hello.ack)
            session.channel.rewind()
        await session.serve(socket, self._limits)

    async def _grant(self, socket: ServerConnection, hello: Hello) -> Grant:
        """Who it is and what it may do.

        Raises:
            ConnectionRefused: it may not.
        """
        request = socket.request
        header = "" if request is None else request.headers.get("Authorization", "")
        token = header.removeprefix("Bearer ") or hello.token or ""
        grant = await anyio.to_thread.run_sync(self.tokens.verify, token)
        wanted = WORKING if hello.role == "worker" else {"submit"}
        if not grant.scopes & wanted:
            raise ConnectionRefused("forbidden", f"this token is not for a {hello.role}")
        return grant

    def _session(self, hello: Hello, grant: Grant) -> tuple[PeerSession, bool]:
        """The session that it resumes, or a new one."""
        id = f"{grant.name}/{hello.instance}" if hello.instance else grant.name
        key, _, secret = (hello.session or "").partition(".")
        old = self._sessions.get(key)
        if (
            old is not None
            and hmac.compare_digest(old.secret.encode(), secret.encode())
            and old.id == id
            and old.role == hello.role
        ):
            return old, True
        before = self._by_id.get((hello.role, id))
        session: PeerSession
        if hello.role == "worker":
            session = self._worker(id, hello, grant)
        else:
            session = ClientSession(id, self.board)
        if before is not None and before.key in self._sessions:
            self._end(before, "another of the same name has dialled in", "replaced")
        self._sessions[session.key] = session
        self._by_id[hello.role, id] = session
        return session, False

    def _worker(self, id: str, hello: Hello, grant: Grant) -> WorkerSession:
        if hello.profile is None:
            raise ConnectionRefused("bad-message", "a worker's hello needs a profile")
        session = WorkerSession(id, self.board)
        kinds = frozenset(kind for kind in KINDS if kind in grant.scopes)
        session.seat = self.board.attach(
            id, hello.profile, session, scopes=kinds, holding=hello.holding
        )
        return session
