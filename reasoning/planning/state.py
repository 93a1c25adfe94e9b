"""A request that is being carried out, as its events tell it, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio

from orchestrator import Event, GraphPatched, TaskEnded, TaskGraph
from orchestrator.editing.patches import Add, Change, Patch, Remove
from orchestrator.views.record import TaskState
from reasoning.planning.calls import planned_call
from reasoning.planning.devices import DevicePool, PlannedCall
from reasoning.planning.events import (
    AnswerGiven,
    DeviceChanged,
    PlannerAsked,
    PlanRefused,
    RequestGiven,
    RunResumed,
    TaskGiven,
    TaskPlaced,
    TaskUnplaced,
)
from reasoning.planning.journal_notes import read_notes, record_event, request_in

Status = Literal["answered", "stuck", "refused", "turns", "timed-out"]
RESUMED = (
    "the run was interrupted and goes on: what had ended is kept, and what was running was started "
    "again"
)


@dataclass(frozen=True, kw_only=True)
class PlannedTask:
    """One task, as it ended.

    Attributes:
        device: The device that ran it to its end; None if none did.
        attempts: How many devices were given it, as far as known.
        value: Its result, as JSON values.
    """

    id: str
    name: str
    arguments: Mapping[str, Any]
    state: TaskState
    device: str | None = None
    attempts: int = 0
    value: Any = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConstellationResult:
    """What a request came to; it counts what was done before a resume, too.

    Attributes:
        status: ``answered``; ``stuck`` if the planner had nothing to say; ``refused`` if the same
            was wrong with its replies again and again; ``turns`` or ``timed-out`` if a limit was
            reached.
        reasons: Why its last reply was refused, if it was.
        turns: How often the planner was asked.
        refused: How many of its replies were refused.
        graph: As it was executed.
    """

    answer: str | None
    status: Status
    turns: int
    refused: int
    reasons: tuple[str, ...]
    tasks: tuple[PlannedTask, ...]
    graph: TaskGraph


@dataclass(kw_only=True)
class PlannerState:
    """A request that is being carried out.

    Attributes:
        notes: What the planner will be told in its next turn.
        reasons: Why the last reply was refused; empty if it was not.
        where: The device that has each task that runs.
        ended: How many tasks have ended.
        changes: How often something has happened that the planner is asked about.
        news: Set when that happens.
    """

    graph: TaskGraph
    request: str = ""
    devices: DevicePool = field(default_factory=lambda: DevicePool({}))
    calls: dict[str, PlannedCall] = field(default_factory=dict)
    placed: dict[str, TaskPlaced] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    turn: int = 0
    refused: int = 0
    reasons: tuple[str, ...] = ()
    where: dict[str, str] = field(default_factory=dict)
    answer: str | None = None
    ended: int = 0
    changes: int = 0
    news: anyio.Event = field(default_factory=anyio.Event)

    def begin(self, request: str | None) -> None:
        """Begin with a request, or go on with the journal's.

        Raises:
            JournalUnusable: the journal is not of a planner's run.
            InvalidValue: it is of another request, or there is none.
        """
        events = read_notes(self.graph.notes)
        if request_in(events, request, edited=self.graph.version > 0) is None:
            record_event(self.graph, RequestGiven(request=request or ""))
            return
        for event in events:
            self.hear(event)
        if self.graph.tasks:
            self.notes.append(RESUMED)
        version, left = self.graph.version, len(self.graph.tasks) - self.ended
        self.graph.events.emit(RunResumed(version=version, ended=self.ended, left=left))

    def hear(self, event: Event) -> None:
        """Take in an event, which happens now or was read from the journal."""
        match event:
            case RequestGiven(request=request):
                self.request = request
            case PlannerAsked(turn=turn):
                self.turn = turn
                self.notes.clear()
            case PlanRefused(reasons=reasons):
                self.refused += 1
                self.reasons = reasons
                self.notes += [f"your last reply was refused: {reason}" for reason in reasons]
            case AnswerGiven(answer=answer):
                self.answer = answer
            case TaskPlaced(task=task):
                self.placed[task] = event
            case GraphPatched(patch=patch):
                self.reasons = ()
                self._patched(patch)
            case TaskEnded(task=task):
                self.ended += 1
                self.where.pop(task, None)
                self.graph[task].acknowledge()  # the planner is told
                self._changed()
            case _:
                self._hear_of_devices(event)

    def _hear_of_devices(self, event: Event) -> None:
        match event:
            case TaskGiven(task=task, device=device):
                self.where[task] = device
            case TaskUnplaced(task=task, why=why):
                self._note(f"{task} waits: {why}")
                self._changed()
            case DeviceChanged(device=device, state="here"):
                self._note(f"device {device} is here")
            case DeviceChanged(device=device, state="away" | "gone"):
                had = sorted(id for id, where in self.where.items() if where == device)
                lost = f"; it had {', '.join(had)}" if had else ""
                self._note(f"device {device} {event.said}{lost}")
                if had:
                    self._changed()

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _changed(self) -> None:
        """Wake whoever asks the planner."""
        self.changes += 1
        self.news.set()

    def _patched(self, patch: Patch) -> None:
        for op in patch.ops:
            if isinstance(op, (Add, Change)):
                assert op.function is not None
                self.calls[op.id] = planned_call(op.function, op.kwargs or {})
            elif isinstance(op, Remove):
                del self.calls[op.id]

    @property
    def resting(self) -> bool:
        """Whether every task has ended."""
        return all(task.ended for task in self.graph.tasks)

    def result(self, status: Status) -> ConstellationResult:
        """What the request came to."""
        return ConstellationResult(
            answer=self.answer,
            status=status,
            turns=self.turn,
            refused=self.refused,
            reasons=self.reasons,
            tasks=tuple(self._record(id) for id in self.calls),
            graph=self.graph,
        )

    def _record(self, id: str) -> PlannedTask:
        task, call, placed = self.graph[id], self.calls[id], self.placed.get(id)
        return PlannedTask(
            id=id,
            name=call.name,
            arguments=call.arguments,
            state=task.state,
            device=None if placed is None else placed.device,
            attempts=0 if placed is None else placed.attempts,
            value=task.value if task.state == "succeeded" else None,
            error=task.error_text if task.state == "failed" else None,
        )
