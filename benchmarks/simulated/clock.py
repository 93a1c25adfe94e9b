"""Virtual time: an event loop whose clock jumps to its next timer when nothing is ready.

Code that waits, by asyncio or anyio, and that reads `time.monotonic` runs on it unchanged, as fast
as the processor goes and the same each time.  What waits for real sockets or for
threads of its own does not.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

BEGIN = 1000.0
"""When virtual time begins; 0 means "never" to some code."""


class StandingStill(Exception):
    """Everything waits for something that is not in virtual time."""


class JumpingSelector(selectors.SelectSelector):
    """Reports what is ready at once, and moves its clock instead of waiting.

    Attributes:
        now: Virtual seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN

    def time(self) -> float:
        return self.now

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, selectors._EventMask]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise StandingStill("nothing is ready, and no timer is set")
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on the time of its selector."""

    def __init__(self, selector: JumpingSelector) -> None:
        super().__init__(selector)
        self._jumping = selector

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call it here: a thread would take real time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def in_virtual_time(program: Callable[[], Awaitable[T]]) -> T:
    """What a program returns that runs in virtual time, which `time.monotonic` shows as well.

    Raises:
        StandingStill: it can't end.
    """
    selector = JumpingSelector()

    async def run() -> T:
        return await program()

    with (
        mock.patch("time.monotonic", selector.time),
        asyncio.Runner(loop_factory=lambda: VirtualLoop(selector)) as runner,
    ):
        return runner.run(run())
