"""A planned task as a function of the graph: a call on a device, over a hub."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import pydantic_core
from pydantic import ValidationError

from orchestrator import current_task
from orchestrator.editing.operations import Model
from protocol import TaskBudget, TaskNeeds, TaskRequest
from protocol.devices import stop
from protocol.hub.task_handles import Submitter
from protocol.wire.messages import Progress
from reasoning.planning.devices import Kind, PlannedCall
from reasoning.planning.events import TaskPlaced, TaskReported, TaskReturned
from reasoning.planning.journal_notes import record_event


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """What each task of a constellation may take.

    Attributes:
        patience_s: Seconds that it waits while no able device is connected.
        deadline_s: Seconds in all; None for no limit.
        attempts: Devices that may be lost under it before it fails.
    """

    patience_s: float = 30.0
    deadline_s: float | None = None
    attempts: int = 5


class _Called(Model):
    """What a function's name in the graph says."""

    kind: Kind
    tool: str
    device: str | None = None
    tags: tuple[str, ...] = ()


def function_name(call: PlannedCall, kind: Kind) -> str:
    """A name that says all that a function does, so that a journal's patches can be read again."""
    called = _Called(kind=kind, tool=call.tool, device=call.device, tags=call.tags)
    return called.model_dump_json(exclude_defaults=True)


def planned_call(name: str, arguments: Mapping[str, Any]) -> PlannedCall:
    """The call that a function's name and its arguments are."""
    called = _Called.model_validate_json(name).model_dump(exclude={"kind"})
    return PlannedCall(**called, arguments=arguments)


def find_call(submitter: Submitter, limits: CallLimits, name: str) -> DeviceCall | None:
    """The function that a name of `function_name` means; None for any other name."""
    try:
        return DeviceCall(submitter, _Called.model_validate_json(name), limits)
    except ValidationError:
        return None


def _of_run(run: str) -> str:
    return f"{run}/"


def task_of(run: str, id: str) -> str:
    """The task of a run that the hub knows by ``id``; empty if it is none of its tasks."""
    return id.removeprefix(_of_run(run)).rsplit("/", 2)[0] if id.startswith(_of_run(run)) else ""


@dataclass(frozen=True)
class DeviceCall:
    """Calls one tool or function, with the arguments of the task that it is.

    It is known to the hub by its run, task, attempt and content, so that what a device has done
    before the run was resumed, or while it was away itself, is believed, and once.
    """

    submitter: Submitter
    called: _Called
    limits: CallLimits

    @property
    def __orchestrator_identity__(self) -> tuple[Any, ...]:
        """What it is in a journal: not what its hub's client is doing, nor how patient it is."""
        return "on a device", find_call, self.called.model_dump_json()

    async def __call__(self, **arguments: Any) -> Any:
        """Run it on a device.

        Raises:
            RemoteFailure: it failed there.
            NoWorker: no able device came in time.
            WorkerLost: too many devices were lost under it.
        """
        task = current_task()
        assert task is not None

        def hear(said: object) -> None:
            if isinstance(said, Progress):
                task.progress(said.text or None)
                task.graph.events.emit(TaskReported(task=task.id, text=said.text))

        run = f"{_of_run(task.graph.run_id)}{task.id}/{task.attempt}"
        ticket = self.submitter.submit(self._order(run, arguments), hear)
        try:
            outcome = await ticket.outcome()
        except anyio.get_cancelled_exc_class():
            task.leaked = await stop(ticket)
            raise
        placed = TaskPlaced(task=task.id, device=outcome.worker, attempts=outcome.attempts)
        record_event(task.graph, placed)
        task.graph.events.emit(TaskReturned(task=task.id, value=outcome.value))
        return pydantic_core.from_json(outcome.value)

    def _order(self, run: str, arguments: Mapping[str, Any]) -> TaskRequest:
        called, limits = self.called, self.limits
        text = pydantic_core.to_json(arguments).decode()
        content = zlib.crc32(f"{called.model_dump_json()}{text}".encode())
        return TaskRequest(
            id=f"{run}/{content:08x}",
            kind=called.kind,
            name=called.tool,
            arguments=text,
            needs=TaskNeeds(worker=called.device, tags=frozenset(called.tags)),
            budget=TaskBudget(attempts=limits.attempts),
            deadline_s=limits.deadline_s,
            patience_s=limits.patience_s,
        )
