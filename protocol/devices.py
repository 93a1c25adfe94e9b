"""Tasks of a graph on workers: an executor, over a hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio

from orchestrator import Task
from orchestrator.calls import signature
from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import by_annotation
from protocol.hub.task_handles import Submitter, TaskHandle, TaskRequest
from protocol.settings import DeviceSettings
from protocol.wire.messages import Cancelled, Progress, Result, TaskBudget, TokenChunk
from protocol.worker.registry import bind, function_name


class Devices:
    """Calls registered functions on workers; an `Executor`::

        devices = Devices(hub, DeviceSettings(needs=TaskNeeds(tags=frozenset({"gpu"}))))
        graph.add(render, scene, executor=devices)

    A task is known to workers by its run, its place in the graph and its attempt.  So a run that is
    resumed from its journal takes over what workers have meanwhile done, and does not have it done
    again.
    """

    def __init__(self, submitter: Submitter, settings: DeviceSettings | None = None) -> None:
        """Prepare an executor over a hub here, or the client of one elsewhere."""
        self._submitter = submitter
        self._settings = settings = settings or DeviceSettings()
        self._budget = TaskBudget(attempts=settings.attempts, kills=settings.kills)
        self._limiter = anyio.CapacityLimiter(settings.at_once)

    async def call(
        self,
        task: Task[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """See `Executor.call`.

        Raises:
            RemoteFailure: the function raised, or was not there.
            NoWorker: no able worker came in time.
            WorkerLost: too many of its workers were lost.
        """
        settings = self._settings
        request = TaskRequest(
            id=f"{task.graph.run_id}/{task.id}/{task.attempt}",
            kind="function",
            name=settings.name or function_name(function),
            arguments=bind(function, args, kwargs),
            deadline_s=settings.deadline_s,
            budget=self._budget,
            needs=settings.needs,
            patience_s=settings.patience_s,
        )
        async with self._limiter:
            handle = self._submitter.submit(request, lambda said: _hear(task, said))
            try:
                outcome = await handle.outcome()
            except anyio.get_cancelled_exc_class():
                task.leaked = await stop(handle)
                raise
        try:
            return by_annotation(outcome.value, signature(function).returns)
        except ValueError as error:
            raise InvalidValue(
                f"what worker {outcome.worker} returned for {request.name} does not fit its "
                "annotation; install the same version there"
            ) from error


async def stop(handle: TaskHandle) -> bool:
    """Cancel a task and wait until it is over; whether something of it still runs."""
    handle.cancel()
    with anyio.CancelScope(shield=True):
        end = await handle.ended()
    return isinstance(end, Cancelled) and end.leaked


def _hear(task: Task[Any], said: Progress | TokenChunk | Result | Cancelled) -> None:
    if isinstance(said, Progress):
        task.progress(said.text or None)
