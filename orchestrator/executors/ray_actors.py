"""Processes on a Ray cluster that stay, for calls that load something large once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from orchestrator.errors import InvalidValue
from orchestrator.executors.ray import Ray
from orchestrator.task import Task


class RayActors(Ray):
    """Calls synchronous functions in processes of a Ray cluster that stay; an `Executor`.

    What a call loads and keeps in its module, such as a model, the next call there finds.  Ray's
    own tasks leave that to chance, and with ``num_gpus`` each has a process of its own.  A process
    has one call at a time, and a call goes to whichever process is free or comes up first.  One
    that dies is replaced, and its call raises ray's ``RayActorError``; that of a cancelled call is
    killed, for Ray can't interrupt it.  They stay, and keep what they reserve of the cluster, as
    long as this object and the event loop that used it.  All else is as with `Ray`.

    Attributes:
        size: How many there are at most; None for as many as the cluster has room for.
    """

    def __init__(
        self, size: int | None = None, *, address: str | None = None, **options: Any
    ) -> None:
        if size is not None and size < 1:
            raise InvalidValue(f"size is {size}; give 1 or more processes")
        options = {"num_cpus": 1, **options}  # as a task has; else Ray places them without end
        super().__init__(address=address, **options)
        self.size = size
        self._actor = self._ray.remote(max_restarts=0, **options)(_actor_class())
        self._pools: dict[asyncio.AbstractEventLoop, ActorPool] = {}

    def _forget(self) -> None:
        super()._forget()
        self._pools.clear()

    async def _called(
        self,
        task: Task[Any],
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        pool = self._pool()
        task.queue()
        actor = await self._living(pool)
        running = None
        try:
            task.start()
            running = actor.call.options(name=task.name).remote(function, *args, **kwargs)
            value = await running
        except anyio.get_cancelled_exc_class():
            pool.lose(actor)
            await self._kill(task, actor, running)
            raise
        except self._ray.exceptions.RayActorError:
            pool.lose(actor)
            raise
        except BaseException:
            pool.release(actor)
            raise
        pool.release(actor)
        return value, running

    def _pool(self) -> ActorPool:
        """That of this event loop; those of loops that are closed end."""
        for closed in [loop for loop in self._pools if loop.is_closed()]:
            for actor in self._pools.pop(closed).known:
                self._ray.kill(actor)
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            self._pools[loop] = ActorPool(self._actor.remote, self._ray.kill, self.size)
        return self._pools[loop]

    async def _living(self, pool: ActorPool) -> Any:
        """A process that answers; of those that were free, some may have died."""
        actor = await pool.take()
        while not await self._lives(pool, actor):
            actor = await pool.take()
        return actor

    async def _lives(self, pool: ActorPool, actor: Any) -> bool:
        try:
            await actor.ready.remote()
        except self._ray.exceptions.RayActorError:
            pool.lose(actor)
            return False
        except BaseException:
            pool.release(actor)
            raise
        return True

    async def _kill(self, task: Task[Any], actor: Any, running: Any) -> None:
        """End the process of a cancelled call."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(self._ray.kill, actor, no_restart=True))
            task.leaked = not await self._ended(running)


class ActorPool:
    """The processes that one event loop uses.

    Attributes:
        known: Those that are there, or are to come.
    """

    def __init__(
        self, begin: Callable[[], Any], end: Callable[[Any], None], size: int | None
    ) -> None:
        """``begin`` has a process come up, or wait until the cluster has room for it."""
        self.known: set[Any] = set()
        self._coming: set[Any] = set()
        self._begin = begin
        self._end = end
        self._size = size
        self._waiting = 0
        self._free: asyncio.Queue[tuple[Any, BaseException | None]] = asyncio.Queue()

    async def take(self) -> Any:
        """The process that is free, or up, first; who asks first is served first.

        Raises:
            ray.exceptions.RayError: one that was begun did not come up.
        """
        self._waiting += 1
        try:
            self._grow()
            actor, error = await self._free.get()
        finally:
            self._waiting -= 1
            self._withdraw()
        if error is not None:
            raise error
        return actor

    def release(self, actor: Any) -> None:
        """A process is free again."""
        self._free.put_nowait((actor, None))

    def lose(self, actor: Any) -> None:
        """A process is gone."""
        self.known.discard(actor)
        self._grow()

    def _grow(self) -> None:
        """Begin one more where somebody waits for it.

        Without a size, one that has not come up yet shows that the cluster may be full.
        """
        room = not self._coming if self._size is None else len(self.known) < self._size
        if room and self._waiting > len(self._coming) + self._free.qsize():
            actor = self._begin()
            self.known.add(actor)
            self._coming.add(actor)
            actor.ready.remote().as_future().add_done_callback(partial(self._up, actor))

    def _withdraw(self) -> None:
        """End those that are still to come once nobody waits for them."""
        while self._coming and not self._waiting:
            actor = self._coming.pop()
            self.known.discard(actor)
            self._end(actor)

    def _up(self, actor: Any, up: asyncio.Future[None]) -> None:
        error = up.exception()
        if actor not in self._coming:  # it was withdrawn
            return
        self._coming.discard(actor)
        if error is not None:
            self.known.discard(actor)
        if error is None or self._waiting > self._free.qsize():
            self._free.put_nowait((actor, error))
        self._grow()


def _actor_class() -> type:
    """What such a process has; being local it travels by value."""

    class CallingActor:
        def ready(self) -> None:
            """Returns when the process is there."""

        def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

    return CallingActor
