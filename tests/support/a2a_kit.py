"""An agent for A2A's technology compatibility kit: its scenarios, asked of real reasoning.

python -m tests.support.a2a_kit            # then, in the kit: run_tck.py --sut-host http://127.0.0.1:9999

The kit says by the beginning of a messageId to which state its test agent should take a task. This
stands before ``reason serve --a2a`` and puts a question that comes to that state in the place of
the message's text. Nothing else of a request is changed, and nothing of an answer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.support.serving_tools import COUNTDOWN, HARD, serving

QUESTIONS = {"tck-input-required": "Hello", "tck-delayed-complete": HARD}
"""By the beginning of an id; all other messages are to be answered."""
HOPS = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def front(url: str, slow: dict[str, Any]) -> Starlette:
    """An agent of the kit's before the one at ``url``; ``slow`` are the wishes for a long task."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as app.state.client:
            yield

    async def forward(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        headers = [(k, v) for k, v in request.headers.items() if k not in HOPS]
        target = httpx.URL(path=request.url.path, query=request.url.query.encode())
        body = asked(await request.body(), slow)
        sent = client.build_request(request.method, target, headers=headers, content=body)
        answer = await client.send(sent, stream=True)
        kept = {k: v for k, v in answer.headers.items() if k not in HOPS}
        end = BackgroundTask(answer.aclose)
        return StreamingResponse(answer.aiter_raw(), answer.status_code, kept, background=end)

    methods = ["GET", "POST", "PUT", "DELETE"]
    return Starlette(routes=[Route("/{path:path}", forward, methods=methods)], lifespan=lifespan)


def asked(body: bytes, slow: dict[str, Any]) -> bytes:
    """A request's body with the question that its message's id stands for."""
    try:
        request = json.loads(body)
        message = request.get("params", request)["message"]
        (part,) = message["parts"]
        begun = (text for id, text in QUESTIONS.items() if message["messageId"].startswith(id))
        if "text" not in part:
            return body
        part["text"] = next(begun, COUNTDOWN)
        if part["text"] == HARD:
            message["metadata"] = {"x_reason": slow}
        return json.dumps(request).encode()
    except (ValueError, KeyError, TypeError, AttributeError):  # no message: as it is
        return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9999)
    port = parser.parse_args().port
    url = f"http://127.0.0.1:{port}"
    with serving("--a2a", "--model", "reason-1m", "--public-url", url) as server:
        slow = {"skill": "reason-1m/self-consistency", "n": 200, "temperature": 1, "timeout": 3}
        uvicorn.run(front(server.url, slow), port=port, log_level="warning")


if __name__ == "__main__":
    main()
