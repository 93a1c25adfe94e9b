"""The hub's side of the handshake: who may connect, and which session is theirs."""

from __future__ import annotations

import hmac
import math
from collections import Counter
from collections.abc import Set
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from protocol.errors import BadMessage, ConnectionRefused, first
from protocol.hub.dispatcher import Dispatcher
from protocol.hub.listener import HELLO_S
from protocol.hub.sessions import ClientSession, PeerSession, WorkerSession
from protocol.hub.timers import Timer, TimerQueue
from protocol.hub.tokens import WORKING, Grant, TokenStore
from protocol.settings import HubSettings
from protocol.wire.bounded import Allowance
from protocol.wire.connection import receive, refuse, say
from protocol.wire.framing import Hello, Refused, Role, Welcome, greeting
from protocol.wire.messages import VERSION, Code

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

RECHECK_S = 2.0
"""How often connected workers' tokens are checked again; other processes revoke them in a file."""


STOOD_S = 1.0
"""A hub that looks for leases so much too late was suspended, or its machine was."""


MOST_BYTES = 1 << 30
"""Of what the sessions of one token have a hub keep; half of the tasks that may wait are theirs."""


class SessionTable:
    """The sessions, by key and by whose they are.

    A session ends when nothing was heard of its owner for a lease, when the owner leaves or opens
    another, or when its token is no longer valid.
    """

    def __init__(self, timers: TimerQueue, *, lease_s: float) -> None:
        self._timers = timers
        self._lease_s = lease_s
        self._by_key: dict[str, PeerSession] = {}
        self._by_owner: dict[tuple[Role, str], PeerSession] = {}
        self._leases: dict[str, Timer] = {}
        self._by_name: Counter[str] = Counter()
        self._allowances: dict[str, Allowance] = {}

    def of(self, role: Role, id: str) -> PeerSession | None:
        """The session of a worker or client."""
        return self._by_owner.get((role, id))

    def count(self, name: str) -> int:
        """How many sessions there are with the token of a name."""
        return self._by_name[name]

    def allowance(self, name: str, most_waiting: int) -> Allowance:
        """What the sessions of a token may have kept, together."""
        new = Allowance(MOST_BYTES, most_waiting // 2)
        return self._allowances.setdefault(name, new)

    def resumable(self, hello: Hello, id: str, grant: Grant) -> PeerSession | None:
        """The owner's session, if it lives, is claimed by its ``key.secret``, and can go on."""
        key, _, secret = (hello.session or "").partition(".")
        found = self._by_key.get(key)
        if found is None or (found.role, found.id) != (hello.role, id):
            return None
        same = hmac.compare_digest(found.secret.encode(), secret.encode())
        known = found.channel.acknowledges(hello.ack) and found.grant.scopes == grant.scopes
        return found if same and known else None

    def add(self, session: PeerSession) -> None:
        """Keep a session from now on; an earlier one of its owner ends."""
        before = self.of(session.role, session.id)
        if before is not None:
            self.end(before, "another of the same name has connected", "replaced")
        self._by_key[session.key] = session
        self._by_name[session.grant.name] += 1
        self._by_owner[session.role, session.id] = session
        self._check_lease(session)

    def end_soon(self, session: PeerSession, why: str) -> None:
        """End a session, but not at once: it may be in the middle of something."""
        self._timers.after(0, partial(self.end, session, why))

    def end(self, session: PeerSession, why: str, code: Code = "worker-lost") -> None:
        """End a session; its owner is told why."""
        if self._by_key.pop(session.key, None) is None:
            return
        del self._by_owner[session.role, session.id]
        self._leases.pop(session.key).cancel()
        self._by_name[session.grant.name] -= 1
        session.payloads.clear()
        session.end(why, code)
        session.drop(Refused(code=code, message=why, retry=code == "worker-lost"))

    def end_invalid(self, valid: Set[Grant]) -> None:
        """End the sessions whose token does not allow the same any more."""
        for session in list(self._by_key.values()):
            if session.grant not in valid:
                self.end(session, "its token is no longer valid", "bad-token")

    def close(self) -> None:
        """Tell everybody that the hub is closing."""
        for session in self._by_key.values():
            session.drop(Refused(code="draining", message="the hub is closing", retry=True))

    def _check_lease(self, session: PeerSession, due: float = math.inf) -> None:
        """End a session whose lease has ended; say so when half of it has passed in silence."""
        now, half = self._timers.clock(), self._lease_s / 2
        if now - due > STOOD_S:  # this hub itself stood still, and has not heard anybody
            session.heard = max(session.heard, now - half)
        left = session.heard + self._lease_s - now
        pause = left - half if left > half else max(left, 0.0)
        self._leases[session.key] = self._timers.after(
            pause, partial(self._check_lease, session, now + pause)
        )
        if left <= 0:
            self.end(session, "its lease ended")
        elif left <= half:
            session.fall_silent()


class Handshake:
    """Checks whoever connects, and serves the session that is theirs."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        tokens: TokenStore,
        timers: TimerQueue,
        settings: HubSettings,
        *,
        epoch: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._tokens = tokens
        self._timers = timers
        self._settings = settings
        self._epoch = epoch
        self._connections = 0
        self.sessions = SessionTable(timers, lease_s=settings.lease_s)

    async def recheck_tokens(self) -> None:
        """End the sessions whose tokens were revoked or are over, for ever."""
        while True:
            await anyio.sleep(RECHECK_S)
            self.sessions.end_invalid(await anyio.to_thread.run_sync(self._tokens.grants))

    def request(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse what can be refused before the connection is a WebSocket."""
        if request.path != "/":
            return socket.respond(
                HTTPStatus.NOT_FOUND, "connect to the bare URL; a token goes into a header\n"
            )
        if self._connections >= self._settings.most_connections:
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    async def connection(self, socket: ServerConnection) -> None:
        """Serve one connection until it ends, however."""
        from websockets.exceptions import ConnectionClosed

        self._connections += 1
        try:
            await self._serve(socket)
        except* ConnectionRefused as group:
            found = first(group)
            message = str(found).partition(": ")[2]
            again = found.reason in ("late-hello", "stale-hub")
            await refuse(socket, Refused(code=found.reason, message=message, retry=again))
        except* BadMessage as group:
            await refuse(socket, Refused(code="bad-message", message=str(first(group)), retry=True))
        except* (ConnectionClosed, OSError):
            pass  # it is gone; its session waits for the next
        finally:
            self._connections -= 1

    async def _serve(self, socket: ServerConnection) -> None:
        hello = None
        with anyio.move_on_after(HELLO_S):
            hello = await receive(socket, greeting)
        if hello is None:
            raise ConnectionRefused("late-hello", f"no hello within {HELLO_S:g} s; say hello first")
        if VERSION not in hello.versions:
            raise ConnectionRefused("bad-version", f"this hub speaks version {VERSION}; upgrade")
        if hello.role == "client" and (hello.profile is not None or hello.holding):
            raise ConnectionRefused("bad-message", "profile, holding: a client has none; leave out")
        grant = await self._grant(socket, hello)
        if hello.epoch > self._epoch:
            raise ConnectionRefused("stale-hub", "another hub has taken over")
        id = f"{grant.name}/{hello.instance}" if hello.instance else grant.name
        old = self.sessions.resumable(hello, id, grant)
        session = old or self._open(id, hello, grant)
        session.grant = grant
        session.drop()
        await say(socket, self._welcome(session, resumed=old is not None))
        if old is not None:
            session.channel.acknowledge(hello.ack)
            session.channel.rewind()
        await session.serve(socket)

    async def _grant(self, socket: ServerConnection, hello: Hello) -> Grant:
        """Who it is and what it may do.

        Raises:
            ConnectionRefused: it may not connect.
        """
        request = socket.request
        header = "" if request is None else request.headers.get("Authorization", "")
        token = header.removeprefix("Bearer ") or hello.token or ""
        grant = await anyio.to_thread.run_sync(self._tokens.verify, token)
        wanted = WORKING if hello.role == "worker" else {"submit"}
        if not grant.scopes & wanted:
            raise ConnectionRefused("forbidden", f"this token is not for a {hello.role}")
        return grant

    def _open(self, id: str, hello: Hello, grant: Grant) -> PeerSession:
        """A new session, in place of an earlier one of the same name."""
        allowance = self.sessions.allowance(grant.name, self._settings.most_waiting)
        given = (
            *(id, grant, self._dispatcher, self._timers, self._settings),
            *(self.sessions.end_soon, allowance),
        )
        if self.sessions.count(grant.name) >= self._settings.most_connections:
            raise ConnectionRefused("congested", f"{grant.name} has too many sessions; end some")
        session: PeerSession
        if hello.role == "worker":
            session = WorkerSession(*given)
            session.attach(hello)
        else:
            session = ClientSession(*given)
        self.sessions.add(session)
        return session

    def _welcome(self, session: PeerSession, *, resumed: bool) -> Welcome:
        lease_s = self._settings.lease_s
        return Welcome(
            id=session.id,
            session=f"{session.key}.{session.secret}",
            resumed=resumed,
            ack=session.channel.received,
            epoch=self._epoch,
            lease_s=lease_s,
            beat_s=lease_s / 4,
        )
