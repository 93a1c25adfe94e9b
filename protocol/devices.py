"""Tasks of a graph on workers: an executor, over a hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio

from orchestrator import Task
from orchestrator.calls import signature
from orchestrator.errors import InvalidValue
from orchestrator.journal.codec import from_json
from protocol.hub.task_handles import Submitter, TaskHandle, TaskRequest
from protocol.wire.messages import Cancelled, Progress, Result, TaskBudget, TaskNeeds, TokenChunk
from protocol.worker.registry import bind, function_name


class Devices:
    """Calls registered functions on workers; an `Executor`::

        devices = Devices(hub, needs=TaskNeeds(tags=frozenset({"gpu"})))
        graph.add(render, scene, executor=devices)

    A task is known to workers by its run, its place in the graph and its attempt.  So a run that is
    resumed from its journal takes over what workers have meanwhile done, and does not have it done
    again.

    Attributes:
        needs: What the tasks ask of their workers.
    """

    def __init__(
        self,
        submitter: Submitter,
        *,
        needs: TaskNeeds | None = None,
        name: str | None = None,
        deadline_s: float | None = None,
        patience_s: float = 60.0,
        attempts: int = 5,
        at_once: int = 10_000,
    ) -> None:
        """Prepare an executor.

        Args:
            submitter: A hub here, or the client of one elsewhere.
            needs: See the attribute.
            name: The function's registered name, where that is not its own.
            deadline_s: Seconds for each task, waiting included.
            patience_s: Seconds that a task waits while no able worker is connected.
            attempts: Workers that may be lost under a task before it fails.
            at_once: Tasks under way at once.
        """
        if attempts < 1:
            raise InvalidValue(f"attempts: {attempts} is none; give 1 or more")
        self.needs = needs or TaskNeeds()
        self._submitter = submitter
        self._name = name
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._budget = TaskBudget(attempts=attempts)
        self._limiter = anyio.CapacityLimiter(at_once)

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
        request = TaskRequest(
            id=f"{task.graph.run_id}/{task.id}/{task.attempt}",
            kind="function",
            name=self._name or function_name(function),
            arguments=bind(function, args, kwargs),
            deadline_s=self._deadline_s,
            budget=self._budget,
            needs=self.needs,
            patience_s=self._patience_s,
        )
        async with self._limiter:
            handle = self._submitter.submit(request, lambda said: _hear(task, said))
            try:
                outcome = await handle.outcome()
            except anyio.get_cancelled_exc_class():
                task.leaked = await stop(handle)
                raise
        try:
            return from_json(outcome.value, signature(function).returns)
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
