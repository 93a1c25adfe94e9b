"""One page of each kind that the project makes, of real runs of the shipped model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import anyio
from click.testing import CliRunner

from orchestrator import Retry, TaskGraph
from reasoning.cli import main
from reasoning.cli.options import state_file
from reasoning.runs.store import RunStore
from tests.support.live_pages import begun, opens, served, writes

SPAWNED = ("Use 3, 10, 21 and 23 to make 50",)
VOTED = ("Compute (17*3+5)*4-12", "--policy", "async:k=3,n=8", "--temperature", "1")
EVAL = "eval arithmetic --limit 6 --samples 4 --policy sc:n=2 --policy sc:n=4 --strategy single"


@contextmanager
def sample_pages(folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of pages by their names; their files and runs are in the folder."""
    os.environ |= {"XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    os.chdir(folder)
    for problem in (SPAWNED, VOTED):
        _reason("solve", *problem)
    ids = [line.split()[0] for line in _reason("runs").splitlines()]
    _reason(*EVAL.split())
    _reason("view", ids[1], "-o", "run.html")
    _reason("view", ids[0], "-o", "votes.html")
    _reason("view", *ids, "-o", "two-runs.html")
    _reason("view", "last", "-o", "evaluation.html")
    _reason("report", "last", "-o", "report.html")
    Path("graph.html").write_text(anyio.run(_graph).to_html(), encoding="utf-8")
    names = ("run", "votes", "two-runs", "evaluation", "report", "graph")
    pages = {name: (folder / f"{name}.html").as_uri() for name in names}
    with ExitStack() as stack:
        portal, live, url = stack.enter_context(served(RunStore(state_file("runs.db"))))
        run = begun(question="Which is the largest prime factor of 2310?")
        portal.call(live.add, run.id, run)
        for id in ("1", "1.1", "1.2"):
            portal.call(opens, run, id)
            portal.call(
                writes, run, id, f"I am branch {id}, and try ", "one thing ", "after another. "
            )
        yield {**pages, "live-list": f"{url}/ui", "live-run": f"{url}/ui/runs/{run.id}"}


def _reason(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


async def _graph() -> TaskGraph:
    """A run with parallel tasks, a retry and a failure."""
    tries: list[int] = []

    async def draft(topic: int) -> int:
        await anyio.sleep(0.02 * topic)
        return topic

    async def fetch() -> str:
        tries.append(1)
        await anyio.sleep(0.03)
        if len(tries) < 2:
            raise OSError("the server is away")
        return "page"

    async def check(total: int) -> int:
        raise ValueError(f"{total} is odd")

    async def merge(parts: list[int]) -> int:
        return sum(parts)

    with suppress(ValueError):
        async with TaskGraph(name="drafts", limit=3) as graph:
            total = graph.reduce(merge, graph.map(draft, range(1, 7)))
            graph.add(fetch, retry=Retry(times=1))
            graph.add(check, total)
    return graph
