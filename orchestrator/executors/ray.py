"""Tasks on a Ray cluster: Ray executes, this scheduler alone owns graph, retries and journal."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
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


LARGE, MOST_KEPT = 100_000, 256 * 2**20
"""Bytes of a value that travels by reference, and of all such values that are remembered."""
_starting = threading.Lock()
"""Held in threads, one for each of the first calls, of which only one may start Ray."""


class Ray:
    """Calls synchronous functions as Ray tasks; an `Executor`.

    Whatever can be called and pickled can be run: functions, methods, partials, classes.  Ray is
    started on this machine unless the program has connected to a cluster before, or ``address``
    names one.  Retries are the graph's, so that each attempt is counted once: Ray's own are off.
    ``Timeout(run=...)`` counts from when a call starts on its worker.  A cancelled call is
    interrupted where it runs, and killed if it does not end.  What a worker process raises
    arrives as its own type; a process that dies raises ray's ``WorkerCrashedError``.

    Bytes, texts and read-only arrays of 100 kB or more that a task returned, or that were given
    before, go to other tasks by reference, as far as they are arguments by themselves.

    Attributes:
        options: Of each Ray task, such as ``num_cpus`` and ``num_gpus``.
        address: Of the cluster, as ``ray.init`` takes it; None for one that is started here.

    Raises:
        InvalidValue: by its tasks, the cluster is not there, or the token is not its own.
    """

    def __init__(self, *, address: str | None = None, **options: Any) -> None:
        if {"max_retries", "retry_exceptions"} & options.keys():
            raise InvalidValue("ray's retries stay off; give retry=Retry(...) to the task instead")
        with importing("ray", "this executor"):
            import ray
        self.options = options
        self.address = address
        self._ray = ray
        self._stored = StoredValues()
        call, announced = _wrappers()
        self._wrapped = ray.remote(max_retries=0, **options)(call)
        self._announced = ray.remote(max_retries=0, num_returns="streaming", **options)(announced)

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
        given = [self._sent(value) for value in args]
        named = {name: self._sent(value) for name, value in kwargs.items()}
        try:
            value, reference = await self._called(task, function, given, named)
        except self._ray.exceptions.RayTaskError as error:
            raise getattr(error, "cause", None) or error from None
        self._stored.keep(value, reference)
        return value

    async def _called(
        self,
        task: Task[Any],
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        """What a call returned, and the reference to it."""
        wrapped = self._announced if task.timed else self._wrapped
        running = wrapped.options(name=task.name).remote(function, *args, **kwargs)
        try:
            return await self._value(task, running)
        except anyio.get_cancelled_exc_class():
            end = running.completed() if task.timed else running
            task.leaked = not await self._stop(running, end)
            raise

    async def _value(self, task: Task[Any], running: Any) -> tuple[Any, Any]:
        """What a task of Ray's returned, and the reference to it."""
        if not task.timed:
            return await running, running
        task.queue()
        await (await anext(running))
        task.start()
        reference = await anext(running)
        return await reference, reference

    def _sent(self, value: Any) -> Any:
        """What stands for an argument: a reference to it where it is large."""
        known = self._stored.of(value)
        if known is None and size_of(value) >= LARGE:
            known = self._ray.put(value)
            self._stored.keep(value, known)
        return value if known is None else known

    def _start(self) -> None:
        with _starting:
            if not self._ray.is_initialized():
                self._forget()
                self._connect()

    def _connect(self) -> None:
        here: dict[str, Any] = {} if self.address else {"include_dashboard": False}
        refused = (self._ray.exceptions.AuthenticationError, ConnectionError)
        try:
            self._ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except refused as error:
            raise InvalidValue(
                f"address: {self.address} is no Ray cluster that lets this program in; see that it "
                "runs, and if it has authentication set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            ) from error

    def _forget(self) -> None:
        """Forget what another cluster had, which is gone."""
        self._stored = StoredValues()

    async def _stop(self, running: Any, end: ray.ObjectRef[Any]) -> bool:
        """Stop a call where it runs; whether it has ended."""
        with anyio.CancelScope(shield=True):
            for force in (False, True):
                await anyio.to_thread.run_sync(partial(self._ray.cancel, running, force=force))
                if await self._ended(end):
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


class StoredValues:
    """References to values that can't change, by the values themselves; the oldest are let go."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        self._bytes = 0

    def keep(self, value: Any, reference: Any) -> None:
        """Remember where a value is stored, if it is large enough and can't change."""
        size = size_of(value)
        if size < LARGE or id(value) in self._known:
            return
        self._known[id(value)] = value, reference  # which keeps its id from being another's
        self._bytes += size
        while self._bytes > MOST_KEPT:
            _, (oldest, _) = self._known.popitem(last=False)
            self._bytes -= size_of(oldest)

    def of(self, value: Any) -> Any:
        """The reference to a value; None where there is none."""
        known = self._known.get(id(value))
        return None if known is None else known[1]


def size_of(value: Any) -> int:
    """The bytes of a value that can't change: bytes, text, or a read-only array; else 0."""
    if isinstance(value, bytes | str):
        return len(value)
    fixed = not getattr(getattr(value, "flags", None), "writeable", True)
    return int(getattr(value, "nbytes", 0)) if fixed else 0


def _wrappers() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What Ray runs: one wrapper for all functions, and one that also says when it starts.

    The cluster learns each once.  Being local they travel by value, so that workers need nothing
    of this package.
    """

    def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def announced(function: Any, /, *args: Any, **kwargs: Any) -> Any:
        yield None
        yield function(*args, **kwargs)

    return call, announced
