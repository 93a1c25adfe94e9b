"""How a program shows its run on the page of another: lines of JSON over a socket of the user's.

Only the user may open the socket, as only they may read the kept runs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from reasoning.runs.live.live_page import LivePage, PageNews
from reasoning.runs.live.live_run import LiveRun
from reasoning.runs.live.live_runs import LiveRuns

SOCKET = "viewer.sock"
MOST_LINE = 1 << 28
LAST_WORDS_S = 2.0
"""How long a program that has ended waits for the other to take its last words."""


@asynccontextmanager
async def shown(path: Path, run: LiveRun) -> AsyncIterator[None]:
    """Show a run beside the block where somebody listens; whatever fails, the run goes on."""
    async with anyio.create_task_group() as group:
        group.start_soon(_tell, path, run)
        yield
        group.cancel_scope.deadline = anyio.current_time() + LAST_WORDS_S


async def _tell(path: Path, run: LiveRun) -> None:
    try:
        async with await anyio.connect_unix(path) as stream:
            await stream.send(_line({"id": run.id}))
            async for news in run.news():
                await stream.send(_line(list(news)))
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass  # nobody listens, or no longer


async def listen(
    path: Path, live: LiveRuns, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Take the runs that other programs show, until this is cancelled.

    Raises:
        OSError: the socket can't be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with await anyio.create_unix_listener(path, mode=0o600) as listener:
        task_status.started()
        await listener.serve(lambda stream: _hear(stream, live))


async def _hear(stream: SocketStream, live: LiveRuns) -> None:
    id, page = "", None
    lines = BufferedByteReceiveStream(stream)
    try:
        async with stream:
            id = str(json.loads(await lines.receive_until(b"\n", MOST_LINE))["id"])
            while True:
                news = PageNews(*json.loads(await lines.receive_until(b"\n", MOST_LINE)))
                if page is None:
                    page = LivePage(news.value)
                    live.add(id, page)
                else:
                    page.hear(news)
    except (anyio.IncompleteRead, anyio.BrokenResourceError, anyio.DelimiterNotFound):
        pass  # it has ended
    except (ValueError, TypeError, KeyError):
        pass  # it speaks otherwise
    finally:
        if page is not None:
            if not page.over:
                page.end(None)
            live.leave(id)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
