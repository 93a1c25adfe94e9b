"""What an executor is, and the one that calls functions in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.to_process

from orchestrator.calls import is_async
from orchestrator.errors import InvalidValue
from orchestrator.task import Task

LOST = (
    *(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream),
    *(anyio.IncompleteRead, anyio.DelimiterNotFound),
)
"""What a process that ended while it began leaves of its pipes."""


class Executor(Protocol):
    """Runs functions somewhere; the scheduler alone decides what, when and how often."""

    async def call(
        self,
        task: Task[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call the function and return its result.

        A cancelled call stops its work before it leaves; what can't be stopped sets
        ``task.leaked``.  A failure raises what the function raised.  Where a call waits for its
        place, ``task.queue()`` says so and ``task.start()`` when it has it: limits of time are for
        what runs.
        """


class Processes:
    """Calls synchronous functions in worker processes, for work that keeps a core busy.

    Functions, arguments and results are pickled, between processes of this program only.  A
    cancelled call kills its process.

    Attributes:
        size: How many calls may run at once.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise InvalidValue(f"size is {size}; give 1 or more processes")
        self.size = size
        self._limiter: anyio.CapacityLimiter | None = None

    async def call(
        self,
        task: Task[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """See `Executor.call`."""
        if is_async(function):
            raise InvalidValue(
                f"task {task.id} ({task.name}) is asynchronous; give processes a plain function"
            )
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.size)
        task.queue()
        async with self._limiter:
            task.start()
            try:
                return await anyio.to_process.run_sync(
                    partial(function, *args, **kwargs),
                    cancellable=True,
                    limiter=anyio.CapacityLimiter(1),
                )
            except anyio.BrokenWorkerProcess as error:
                if error.__cause__ is None or isinstance(error.__cause__, LOST):
                    raise
                reason = f"{type(error.__cause__).__name__}: {error.__cause__}"
                raise InvalidValue(
                    f"a worker process can't import this program ({reason}); put what only the "
                    'program itself does behind if __name__ == "__main__"'
                ) from error
