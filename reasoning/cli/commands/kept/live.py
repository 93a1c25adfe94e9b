"""``reason view --live``: runs as they happen, for one person on one machine."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import importing
from reasoning.cli.options import state_file
from reasoning.cli.printing import say, warn

if TYPE_CHECKING:
    from reasoning.runs.live.live_runs import LiveRuns
    from reasoning.runs.store import RunStore


def show_live(store: RunStore, *, port: int, opened: bool) -> None:
    """Serve the pages until Ctrl-C; their address, with a new key in it, goes to stdout.

    Raises:
        ExtraMissing: the server's packages are not installed.
        InvalidValue: the port is taken.
    """
    import anyio

    with importing("serve", "the viewer"):
        from protocol.http.access import PAGES, ApiKeys
        from protocol.http.app import pages_alone
        from protocol.http.server import PageServer, address, bind
    from reasoning.runs.live.live_runs import LiveRuns
    from reasoning.runs.live.routes import page_routes
    from reasoning.runs.live.telling import SOCKET

    key = secrets.token_urlsafe(24)
    live = LiveRuns(keeps=True)
    with bind("127.0.0.1", port) as listener:
        scheme, _, place = address(listener).partition("//")
        url = f"{scheme}//reason:{key}@{place}{PAGES}"

        def ready() -> None:
            say(url, err=False)
            if opened:
                click.launch(url)

        async def main() -> None:
            app = pages_alone(page_routes(live, store), ApiKeys([key]))
            server = PageServer(app, listener, ready=ready, ending=live.close)
            async with anyio.create_task_group() as group:
                group.start_soon(_hear_others, state_file(SOCKET), live)
                await server.run_until_stopped()
                group.cancel_scope.cancel()

        try:
            anyio.run(main)
        finally:
            state_file(SOCKET).unlink(missing_ok=True)


async def _hear_others(path: Path, live: LiveRuns) -> None:
    from reasoning.runs.live.telling import listen

    try:
        await listen(path, live)
    except OSError as error:
        warn(f"runs of other programs are shown when they have ended only: {path}: {error}")
