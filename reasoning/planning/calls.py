"""A planned task as a function of the graph: a call on a device, over a hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pydantic_core

from orchestrator import current_task
from protocol import Budget, Order
from protocol.devices import stop
from protocol.tickets import Submitter
from protocol.wire import Progress
from reasoning.planning.events import StepPlaced
from reasoning.planning.fleet import Kind, Step


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What each task of a constellation may take.

    Attributes:
        patience_s: Seconds that it waits while no able device is connected.
        deadline_s: Seconds in all; None for no limit.
        attempts: Devices that may be lost under it before it fails.
    """

    patience_s: float = 30.0
    deadline_s: float | None = None
    attempts: int = 5


class Call:
    """Calls one tool or function, with the arguments of the task that it is.

    It is known to the hub by its run, task and attempt, so that a device that comes back with its
    result is believed once.
    """

    def __init__(self, submitter: Submitter, step: Step, kind: Kind, limits: Limits) -> None:
        self._submitter = submitter
        self._step = step
        self._kind = kind
        self._limits = limits

    async def __call__(self, **arguments: Any) -> Any:
        """Run it on a device.

        Raises:
            RemoteFailure: it failed there.
            NoWorker: no able device came in time.
            WorkerLost: too many devices were lost under it.
        """
        task = current_task()
        assert task is not None
        order = Order(
            id=f"{task.graph.run_id}/{task.id}/{task.attempt}",
            kind=self._kind,
            name=self._step.tool,
            arguments=pydantic_core.to_json(arguments).decode(),
            needs=self._step.needs,
            budget=Budget(attempts=self._limits.attempts),
            deadline_s=self._limits.deadline_s,
            patience_s=self._limits.patience_s,
        )

        def hear(said: object) -> None:
            if isinstance(said, Progress):
                task.progress(said.text or None)

        ticket = self._submitter.submit(order, hear)
        try:
            outcome = await ticket.outcome()
        except anyio.get_cancelled_exc_class():
            task.leaked = await stop(ticket)
            raise
        placed = StepPlaced(task=task.id, device=outcome.worker, attempts=outcome.attempts)
        task.graph.events.emit(placed)
        return pydantic_core.from_json(outcome.value)
