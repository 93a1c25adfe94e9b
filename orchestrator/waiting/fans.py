"""What `TaskGraph.map` and `TaskGraph.reduce` do while they run: add calls, and gather them."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import anyio

from orchestrator.editing.structure import Call
from orchestrator.errors import InvalidValue
from orchestrator.journal.identity import IDENTITY
from orchestrator.node import current_node
from orchestrator.task import Task
from orchestrator.waiting.joins import gather
from orchestrator.waiting.wakeup import Wakeup

Put = Callable[[Call], Task[Any]]
Function = Callable[..., Awaitable[Any]]


def mapping(put: Put, call: Call) -> Function:
    """A function that calls once for each item, or row of items, of its arguments."""

    async def fan_out(*sources: Any) -> list[Any]:
        calls: list[Task[Any]] = []

        def begin(row: tuple[Any, ...]) -> Task[Any]:
            calls.append(put(call.on(row, f"{call.name} {len(calls) + 1}")))
            return calls[-1]

        if any(isinstance(source, AsyncIterable) for source in sources):
            await _as_they_come(sources, begin)
        else:
            for row in _rows(sources):
                begin(row)
        return await gather(calls)

    setattr(fan_out, IDENTITY, ("map", call.function, call.kwargs))
    return fan_out


def folding(put: Put, call: Call, arity: int | None) -> Function:
    """A function that joins a list, at most ``arity`` neighbours in a call, level by level."""

    async def fold(items: list[Any]) -> Any:
        width = arity or max(len(items), 1)
        while True:
            groups = [items[i : i + width] for i in range(0, len(items), width)] or [items]
            items = await gather([put(call.on((group,), call.name)) for group in groups])
            if len(items) == 1:
                return items[0]

    setattr(fold, IDENTITY, ("reduce", call.function, call.kwargs, arity))
    return fold


def _rows(sources: Iterable[Any]) -> Iterable[tuple[Any, ...]]:
    columns = [list(source) for source in sources]
    if len({len(column) for column in columns}) > 1:
        raise InvalidValue(
            f"map got {', '.join(str(len(column)) for column in columns)} items side by side; "
            "give as many of each"
        )
    return zip(*columns, strict=True)


async def _as_they_come(
    sources: Iterable[Any], begin: Callable[[tuple[Any, ...]], Task[Any]]
) -> None:
    """Begin a call for each row while the sources give some; the first failure ends that."""
    here = current_node.get()
    assert here is not None
    over = Wakeup(here.graph)

    def look(task: Task[Any]) -> None:
        if task.state != "succeeded":
            over.set()

    async def read() -> None:
        async for row in _columns(sources):
            begin(row).on_end(look)
        over.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await over.wait(timed=True)  # meanwhile its slot is for the calls
        group.cancel_scope.cancel()


async def _columns(sources: Iterable[Any]) -> AsyncIterator[tuple[Any, ...]]:
    columns = [
        aiter(source) if isinstance(source, AsyncIterable) else _slowly(source)
        for source in sources
    ]
    while True:
        row = [await anext(column, _END) for column in columns]
        over = [item is _END for item in row]
        if all(over):
            return
        if any(over):
            raise InvalidValue("map got more items of one kind than of another; give as many")
        yield tuple(row)


async def _slowly(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


_END = object()
