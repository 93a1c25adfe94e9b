"""Runs as they happen, made up, and a server that shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

from orchestrator import TaskAdded, TaskEnded, TaskStarted
from protocol.http.access import ApiKeys
from protocol.http.app import pages_alone
from protocol.http.server import PageServer, address, bind
from reasoning.run.thread import TextGenerated, ThreadConcluded
from reasoning.runs.live.live_run import LiveRun
from reasoning.runs.live.live_runs import LiveRuns
from reasoning.runs.live.routes import page_routes
from reasoning.runs.store import RunStore

KEY = "correct-horse-battery"


def begun(**fields: Any) -> LiveRun:
    given = {"question": "What is 3 + 4?", "command": "solve", "model": "made-up", "settings": {}}
    return LiveRun(**{**given, **fields})


def opens(run: LiveRun, id: str) -> None:
    parent = id.rpartition(".")[0] or None
    run.observe(TaskAdded(task=id, name=f"branch {id}", parent=parent, after=()))
    run.observe(TaskStarted(task=id))


def writes(run: LiveRun, id: str, *pieces: str) -> None:
    for piece in pieces:
        run.observe(TextGenerated(task=id, text=piece))


def closes(run: LiveRun, id: str, answer: str | None = "7") -> None:
    run.observe(ThreadConcluded(task=id, answer=answer, vote=answer, ending="end"))
    run.observe(TaskEnded(task=id, state="succeeded", work=1))


@contextmanager
def served(store: RunStore) -> Iterator[tuple[Any, LiveRuns, str]]:
    """The pages on a server: who calls in its loop, the runs, and the address with the key."""
    with start_blocking_portal() as portal, bind("127.0.0.1", 0) as listener:
        live = portal.call(lambda: LiveRuns(keeps=True))
        app = pages_alone(page_routes(live, store), ApiKeys([KEY]))
        up = portal.call(anyio.Event)
        server = PageServer(app, listener, ready=up.set, ending=live.close)
        serving = portal.start_task_soon(server.run_until_stopped)
        portal.call(up.wait)
        yield portal, live, address(listener).replace("//", f"//me:{KEY}@")
        server.should_exit = True
        serving.result()
