"""A graph that a planner edits while it runs, journaled, with a timeline page at the end."""

import tempfile
from pathlib import Path

import anyio

from orchestrator import Patch, TaskGraph


async def search(query: str) -> list[str]:
    await anyio.sleep(0.01)
    return [f"{query} {number}" for number in range(3)]


async def read(page: str) -> int:
    await anyio.sleep(0.01)
    return len(page)


async def report(sizes: list[int]) -> str:
    return f"{len(sizes)} pages, {sum(sizes)} characters"


async def plan(graph: TaskGraph) -> None:
    """What a language model would do: look at a result, and add work as JSON."""
    found = await graph["1"].result()
    if len(found) > 2:
        graph.apply(
            Patch.parse(
                '{"ops": [{"op": "add", "id": "again", "function": "search", "args": ["wider"]},'
                '{"op": "add", "id": "size", "function": "read", "args": ["a summary"],'
                '"after": {"again": "size(result) == 3"}}]}'
            )
        )


async def main(folder: Path) -> None:
    graph = TaskGraph(name="survey", journal=folder / "survey.db", functions=[search, read])
    pages = graph.add(search, "deep")
    last = graph.reduce(report, graph.map(read, pages))
    async with graph:
        await plan(graph)
    print(last.value)
    print({task.name: task.state for task in graph.tasks if not task.parent})
    (folder / "survey.html").write_text(graph.to_html())


with tempfile.TemporaryDirectory() as name:
    anyio.run(main, Path(name))
