"""Who may ask: bearer keys, hosts and origins, checked before a body is read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from starlette.authentication import SimpleUser
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.errors import InvalidValue
from protocol.http.bodies import MOST_BODY, too_large
from protocol.http.connections import MOST_HEAD
from protocol.http.control.quotas import KeyLimits
from protocol.http.errors import Refusal, error_response

SHORTEST = 16
"""Characters that a key has at least."""
NO_KEY_NEEDED = frozenset({"/health", "/.well-known/agent-card.json"})
"""Paths that are told to anybody who can reach the server."""
PAGES = "/ui"
"""Below it stand pages for people, whose browsers ask them for the key."""
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")


class ApiKeys:
    """Bearer keys, of which only SHA-256 hashes are kept.

    That is enough for keys, which are long and random, unlike passwords.

    Attributes:
        limits: What each key may ask for, by the names that `admit` gives.
        first: The name of the first key, whose owner may see everybody's runs; empty for no key.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        found = [KeyLimits.parse(key) for key in keys]
        self._hashes = tuple(_hash(key) for key, _ in found)
        limits = zip(self._hashes, found, strict=True)
        self.limits = {_name(digest): one for digest, (_, one) in limits}
        self.first = next(iter(self.limits), "")

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """The keys of a file: a key, or ``sha256:`` and its hash, a line; ``#`` begins a comment.

        Limits may stand behind a key, as `KeyLimits.parse` reads them.

        Raises:
            InvalidValue: the file can't be read, has no key or a short one, or an odd limit.
        """
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidValue(f"api-key-file: {path} can't be read ({error}); name another") from (
                error
            )
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise InvalidValue(f"api-key-file: {path} has no key; write one on a line of its own")
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def __repr__(self) -> str:
        return f"<{len(self._hashes)} keys>"

    def admit(self, authorization: str) -> str | None:
        """A name for the key in an Authorization header, or None; each key takes the same time."""
        scheme, _, key = authorization.partition(" ")
        offered = hashlib.sha256(key.strip().encode()).digest()
        found = [hmac.compare_digest(offered, known) for known in self._hashes]
        return _name(offered) if scheme.lower() == "bearer" and any(found) else None


def _from_browser(authorization: str) -> str:
    """What a browser sends once it has asked for a password, as a bearer key: the password."""
    scheme, _, told = authorization.partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        return f"Bearer {base64.b64decode(told, validate=True).decode().partition(':')[2]}"
    except ValueError:
        return ""


def _name(digest: bytes) -> str:
    return digest.hex()[:16]


def _hash(key: str) -> bytes:
    hashed = _HASHED.fullmatch(key)
    if hashed:
        return bytes.fromhex(hashed[1])
    if len(key) < SHORTEST:
        raise InvalidValue(
            f"api-key-file: a key of {len(key)} characters can be guessed; "
            f"give at least {SHORTEST}, such as `openssl rand -hex 32` prints"
        )
    return hashlib.sha256(key.encode()).digest()


class AccessMiddleware:
    """Refuses a request that must not reach the application.

    A page in a browser can make it send requests to loopback, or point a name of its own there; so
    an Origin must be among those allowed, and on loopback the Host must be a name of loopback.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ApiKeys | None,
        hosts: Collection[str] | None,
        origins: Collection[str],
    ) -> None:
        self.app = app
        self._keys = keys
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self.app(scope, receive, send)
        else:
            await error_response(problem, scope["path"])(scope, receive, send)

    def _problem(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) for name, value in headers.raw) > MOST_HEAD:
            return Refusal(431, "head_too_large", f"the head is larger than {MOST_HEAD} bytes")
        if "content-length" in headers and "transfer-encoding" in headers:
            return Refusal(
                400,
                "ambiguous_length",
                "send Content-Length or Transfer-Encoding, not both",
                headers={"Connection": "close"},
            )
        host = re.sub(r":\d*$", "", headers.get("host", "")).lower()
        if self._hosts is not None and host not in self._hosts:
            return Refusal(421, "wrong_host", "this server answers for loopback names only")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins:
            return Refusal(
                403, "origin_refused", "pages of this origin may not ask; see --allow-origin"
            )
        if self._keys and scope["path"] not in NO_KEY_NEEDED:
            given = headers.get("authorization", "")
            if scope["path"] == "/v1/messages" and not given:  # Anthropic's clients have their own
                given = f"Bearer {headers.get('x-api-key', '')}"
            page = f"{scope['path']}/".startswith(f"{PAGES}/")
            name = self._keys.admit(_from_browser(given) if page else given)
            if name is None:
                return Refusal(
                    401,
                    "invalid_api_key",
                    "send a key of this server as 'Authorization: Bearer …'",
                    headers={"WWW-Authenticate": 'Basic realm="reason"' if page else "Bearer"},
                )
            if page and name != self._keys.first:
                return Refusal(403, "not_the_operator", "only the first key may see all runs")
            scope["user"] = SimpleUser(name)
        size = headers.get("content-length", "")
        return too_large() if size.isdecimal() and int(size) > MOST_BODY else None
