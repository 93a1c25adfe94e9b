"""How a request's body is read: JSON only, within limits of size and time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from starlette.requests import ClientDisconnect, Request

from protocol.http.errors import Refusal

MOST_BODY = 1 << 20
"""Bytes of a request's body."""
BODY_S = 5.0
"""Seconds that a body may take to arrive."""


def too_large() -> Refusal:
    return Refusal(413, "body_too_large", f"the body is larger than {MOST_BODY} bytes; send less")


@contextmanager
def in_time() -> Iterator[None]:
    """A block that reads a body.

    Raises:
        Refusal: it took too long, or the client has left.
    """
    with anyio.move_on_after(BODY_S) as limit:
        try:
            yield
        except ClientDisconnect as error:  # nobody reads this; it only is no fault of the server's
            raise Refusal(400, "client_left", "the client left within its body") from error
    if limit.cancelled_caught:
        raise Refusal(408, "body_too_slow", f"the body did not come within {BODY_S:g} s; try again")


def media_type(request: Request) -> str:
    """The type of a request's body without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request) -> bytes:
    """The body of a request for JSON.

    Raises:
        Refusal: it is of another type, too large, or too slow.
    """
    if media_type(request) != "application/json":
        raise Refusal(
            415, "unsupported_media_type", "send the body as 'Content-Type: application/json'"
        )
    body = bytearray()
    with in_time():
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BODY:
                raise too_large()
    return bytes(body)
