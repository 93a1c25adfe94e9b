"""What a registered function starts beside itself ends itself alone, not its worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any
from weakref import WeakSet

from orchestrator.errors import TaskAborted, told


class GuardedCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine whose SystemExit or KeyboardInterrupt, which end event loops, fail it alone."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        try:
            return step(*given)
        except (SystemExit, KeyboardInterrupt) as error:
            raise TaskAborted(
                f"a task beside a function raised {told(error, 200)}; raise an error of your own"
            ) from error


_guarded: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def guard_tasks(inside: Callable[[], bool]) -> None:
    """Guard each asyncio task that code for which ``inside`` is true starts on this loop."""
    loop = asyncio.get_running_loop()
    if loop in _guarded:  # by another worker
        return
    _guarded.add(loop)
    before = loop.get_task_factory() or _plain

    def make(loop: asyncio.AbstractEventLoop, inner: Any, **options: Any) -> Any:
        return before(loop, GuardedCoroutine(inner) if inside() else inner, **options)

    loop.set_task_factory(make)


def _plain(loop: asyncio.AbstractEventLoop, inner: Any, **options: Any) -> Any:
    return asyncio.Task(inner, loop=loop, **options)
