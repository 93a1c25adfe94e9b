"""Tasks on a Ray cluster: Ray executes, this scheduler alone owns graph, retries and journal."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from orchestrator.calls import is_async
from orchestrator.errors import InvalidValue, importing
from orchestrator.task import Task

if TYPE_CHECKING:
    import ray

PATIENCE_S = 5.0
"""How long a cancelled call may take to clean up before its worker is killed."""


_starting = threading.Lock()
"""Held in threads, one for each of the first calls, of which only one may start Ray."""


class Ray:
    """Calls synchronous functions as Ray tasks; an `Executor`.

    Ray is started on this machine unless the program has connected to a cluster before.  Retries
    are the graph's, so that each attempt is counted once: Ray's own are off.  A cancelled call is
    interrupted where it runs, and killed if it does not end.  What a worker process raises
    arrives as its own type; a process that dies raises ray's ``WorkerCrashedError``.

    Attributes:
        options: Of each Ray task, such as ``num_cpus`` and ``num_gpus``.
    """

    def __init__(self, **options: Any) -> None:
        if {"max_retries", "retry_exceptions"} & options.keys():
            raise InvalidValue("ray's retries stay off; give retry=Retry(...) to the task instead")
        with importing("ray", "this executor"):
            import ray
        self.options = options
        self._ray = ray

    async def call(
        self,
        task: Task[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """See `Executor.call`."""
        if is_async(function):
            raise InvalidValue(f"task {task.id} ({task.name}) is asynchronous; give ray a function")
        if not self._ray.is_initialized():
            await anyio.to_thread.run_sync(self._start)
        remote = self._ray.remote(max_retries=0, **self.options)(function)
        reference = remote.options(name=task.name).remote(*args, **kwargs)
        try:
            return await reference
        except self._ray.exceptions.RayTaskError as error:
            raise getattr(error, "cause", None) or error from None
        except anyio.get_cancelled_exc_class():
            task.leaked = not await self._stop(reference)
            raise

    def _start(self) -> None:
        with _starting:
            if not self._ray.is_initialized():
                self._ray.init(
                    include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
                )

    async def _stop(self, reference: ray.ObjectRef[Any]) -> bool:
        """Stop a call where it runs; whether it has ended."""
        with anyio.CancelScope(shield=True):
            for force in (False, True):
                await anyio.to_thread.run_sync(partial(self._ray.cancel, reference, force=force))
                if await self._ended(reference):
                    return True
        return False

    async def _ended(self, reference: ray.ObjectRef[Any]) -> bool:
        with anyio.move_on_after(PATIENCE_S), contextlib.suppress(self._ray.exceptions.RayError):
            await reference
            return True
        done, _ = await anyio.to_thread.run_sync(
            lambda: self._ray.wait([reference], timeout=0, fetch_local=False)
        )
        return bool(done)
