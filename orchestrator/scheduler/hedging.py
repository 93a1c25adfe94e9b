"""Calling a slow function once more beside itself; see `Hedge`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from orchestrator.scheduler.retries import Hedge


async def hedged(hedge: Hedge, call: Callable[[], Awaitable[Any]]) -> Any:
    """The result of the call that succeeds first; if none does, the first error is raised.

    Source: Dean and Barroso, The tail at scale, Communications of the ACM 56(2), 2013.
    """
    values: list[Any] = []
    errors: list[BaseException] = []
    running = 0
    news = anyio.Event()

    async def one() -> None:
        nonlocal running
        try:
            values.append(await call())
        except (Exception, SystemExit, GeneratorExit) as error:
            errors.append(error)
        finally:
            running -= 1
            if values or not running:
                news.set()

    async with anyio.create_task_group() as group:
        for number in range(1, hedge.most + 1):
            running += 1
            group.start_soon(one)
            with anyio.move_on_after(hedge.after if number < hedge.most else None):
                await news.wait()
            if news.is_set():
                break
        group.cancel_scope.cancel()
    if values:
        return values[0]
    raise errors[0] if errors else asyncio.CancelledError
