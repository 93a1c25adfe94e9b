"""Where runs are shown over HTTP: a list, a page for each, and what happens on them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from orchestrator.errors import UnknownName
from orchestrator.views.page import asset, filled, inert, page_policy, to_page
from protocol.http.access import PAGES
from reasoning.runs.live.live_page import LivePage
from reasoning.runs.live.live_runs import LiveRuns, line_of
from reasoning.runs.page import run_page
from reasoning.runs.record import called, verdict
from reasoning.runs.store import RunLine, RunStore

MOST_LISTED = 200
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def page_routes(live: LiveRuns, store: RunStore | None) -> list[BaseRoute]:
    """The routes below `PAGES`; without a store, only what is under way is shown."""

    async def start(request: Request) -> Response:
        return _html(_list_page())

    async def changes(request: Request) -> Response:
        return _stream(_lists(live, store))

    async def run(request: Request) -> Response:
        id = request.path_params["id"]
        page = live.find(id)
        if page is not None:
            return _html(to_page({**page.page, "lanes": [], "live": f"{PAGES}/runs/{id}/events"}))
        if store is None:
            raise UnknownName(f"run {id!r} is not known here; it was not kept")
        return _html(await anyio.to_thread.run_sync(lambda: run_page(store.find(id))))

    async def events(request: Request) -> Response:
        id = request.path_params["id"]
        page = live.find(id)
        if page is None:  # it has ended meanwhile: whoever asks again finds its record
            return Response(status_code=204, headers=HEADERS)
        return _stream(_told(page))

    return [
        Route(PAGES, start),
        Route(f"{PAGES}/", lambda request: RedirectResponse(PAGES)),
        Route(f"{PAGES}/events", changes),
        Route(f"{PAGES}/runs/{{id}}", run),
        Route(f"{PAGES}/runs/{{id}}/events", events),
    ]


def _html(text: str) -> Response:
    return HTMLResponse(text, headers=HEADERS)


def _stream(pieces: AsyncIterator[str]) -> Response:
    headers = {**HEADERS, "X-Accel-Buffering": "no"}
    return StreamingResponse(pieces, media_type="text/event-stream", headers=headers)


async def _told(page: LivePage) -> AsyncIterator[str]:
    async for kind, value in page.news():
        yield _event(kind, value)


async def _lists(live: LiveRuns, store: RunStore | None) -> AsyncIterator[str]:
    async for _ in live.changes():
        lines = [] if store is None else await anyio.to_thread.run_sync(_stored, store)
        own = [line_of(id, page) for id, page in live.running()]
        known = {line["id"] for line in own}
        yield _event("list", own + [line for line in lines if line["id"] not in known])


def _stored(store: RunStore) -> list[dict[str, Any]]:
    return [_listed(line) for line in store.lines(most=MOST_LISTED)]


def _listed(line: RunLine) -> dict[str, Any]:
    return {
        "id": line.id,
        "began": line.began,
        "about": f"{line.command} · {line.strategy} of {line.model} · {line.branches:,} "
        f"{called(line.command)} · {line.tokens:,} tokens · {line.wall_s:.1f} s",
        "question": line.question,
        "answer": line.answer,
        "verdict": _verdict(line),
        "running": False,
    }


def _verdict(line: RunLine) -> str:
    if line.answer is None:
        return f"no answer, {line.status}" if line.status != "finished" else "no answer"
    return verdict(line.command, line.verified)


def _event(kind: str, value: Any) -> str:
    """An event of a stream; silence is a comment."""
    if kind == "still":
        return ": nothing new\n\n"
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n"


def _list_page() -> str:
    home = files("reasoning.runs.live")
    page, script = (home.joinpath(f"list.{kind}").read_text("utf-8") for kind in ("html", "js"))
    style = asset("page.css")
    return filled(
        page,
        title="Runs",
        policy=page_policy(style, script, live=True),
        style=style,
        script=script,
        data=inert({"events": f"{PAGES}/events", "runs": f"{PAGES}/runs/"}),
    )
