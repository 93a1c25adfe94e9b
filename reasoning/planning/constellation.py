"""A constellation: a planner's graph of tasks on devices, edited while it runs (after UFO³)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import anyio

from orchestrator import Event, EventStream, TaskEnded, TaskGraph
from orchestrator.errors import InvalidValue, PatchRefused
from orchestrator.operations import Connect, Disconnect
from orchestrator.patches import Patch
from orchestrator.record import TaskState
from protocol.directory import devices
from protocol.tickets import Submitter
from reasoning.planning import prompts
from reasoning.planning.calls import Call, Limits
from reasoning.planning.events import PlanApplied, PlanGiven, PlannerAsked, PlanRefused, StepPlaced
from reasoning.planning.fleet import Fleet, Step
from reasoning.planning.mind import Mind
from reasoning.planning.schema import (
    SCHEMA,
    AddTask,
    ChangeTask,
    Plan,
)

Status = Literal["answered", "stuck", "turns", "timed-out"]
MOST_IDLE = 4
"""Replies in a row that bring nothing, while nothing runs, after which a planner is stuck."""

IDLE = "nothing runs and nothing waits: edit the graph, or give the answer"
BOTH = "edits and an answer came together; the answer was ignored: give it when all is done"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One task, as it ended.

    Attributes:
        device: Who ran it to its end; None if nobody did.
        attempts: Devices that it was given to, as far as known.
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
class Outcome:
    """What a request came to.

    Attributes:
        status: ``answered``; ``stuck`` if the planner had nothing to say; ``turns`` or
            ``timed-out`` if a limit was reached.
        turns: How often the planner was asked.
        refused: How many of its replies were refused.
        graph: As it was executed.
    """

    answer: str | None
    status: Status
    turns: int
    refused: int
    tasks: tuple[StepRecord, ...]
    graph: TaskGraph


@dataclass(kw_only=True)
class _State:
    """One request under way."""

    request: str
    graph: TaskGraph
    fleet: Fleet = field(default_factory=lambda: Fleet({}))
    steps: dict[str, Step] = field(default_factory=dict)
    placed: dict[str, StepPlaced] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    turn: int = 0
    refused: int = 0
    answer: str | None = None
    ended: int = 0
    news: anyio.Event = field(default_factory=anyio.Event)

    def hear(self, event: Event) -> None:
        if isinstance(event, StepPlaced):
            self.placed[event.task] = event
        elif isinstance(event, TaskEnded):
            self.ended += 1
            self.graph.observed.add(self.graph[event.task])  # the planner is told
            self.news.set()

    @property
    def resting(self) -> bool:
        return all(task.ended for task in self.graph.tasks)


class Constellation:
    """Carries out requests on a hub's devices, as a planner plans::

    async with ChatMind(load("my-model", base_urls=[url])) as mind:
        outcome = await Constellation(hub, mind).run("Summarise the logs of all machines")

    The planner is asked once at first, and again whenever tasks have ended; the graph runs on
    meanwhile, so that nothing waits for it but what it has yet to plan.  Each reply is checked as
    a whole: the JSON, the devices, the names of arguments, and all that `TaskGraph.apply` checks.
    What does not hold is refused by name, and the planner is told.

    Attributes:
        events: Where everything that happens can be seen.
    """

    def __init__(
        self,
        submitter: Submitter,
        mind: Mind,
        *,
        events: EventStream | None = None,
        limits: Limits | None = None,
        most_turns: int = 30,
        at_once: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            submitter: A hub here, or the client of one elsewhere.
            mind: What plans.
            events: A stream to report to.
            limits: What each task may take.
            most_turns: How often the planner may be asked.
            at_once: How many tasks may run at once.

        Raises:
            InvalidValue: a number is out of range.
        """
        if most_turns < 1:
            raise InvalidValue(f"turns: {most_turns} is none; give 1 or more")
        self.events = events or EventStream()
        self._submitter = submitter
        self._mind = mind
        self._limits = limits or Limits()
        self._most_turns = most_turns
        self._at_once = at_once

    async def run(self, request: str, *, seconds: float | None = None) -> Outcome:
        """Carry out one request; after ``seconds`` with what there is.

        Raises:
            BackendLost: the planner's model can't be reached any more.
            ReasonError: by its leaf, what else stops it.
        """
        graph = TaskGraph(name="constellation", limit=self._at_once)
        graph.events.subscribe(self.events.emit)
        state = _State(request=request, graph=graph)
        graph.events.subscribe(state.hear)
        status: Status = "timed-out"
        with anyio.move_on_after(seconds):
            async with graph:
                status = await self._converse(state)
                for task in graph.tasks:
                    task.cancel()
        return Outcome(
            answer=state.answer,
            status=status,
            turns=state.turn,
            refused=state.refused,
            tasks=tuple(_record(state, id) for id in state.steps),
            graph=graph,
        )

    async def _converse(self, state: _State) -> Status:
        idle = failed = 0
        while state.turn < self._most_turns:
            seen = state.ended
            plan = await self._turn(state)
            if state.answer is not None:
                return "answered"
            idle = idle + 1 if state.resting and seen == state.ended else 0
            if idle == MOST_IDLE:
                return "stuck"
            if plan is not None and state.resting:
                state.notes.append(IDLE)
            failed = 0 if plan is not None else failed + 1
            if plan is not None or failed >= MOST_IDLE:  # a refused one is mended at once
                await self._something(state, seen)
        return "turns"

    async def _something(self, state: _State, seen: int) -> None:
        """Wait until a task has ended that the planner was not shown, or nothing runs."""
        while state.ended == seen and not state.resting:
            state.news = anyio.Event()
            await state.news.wait()

    async def _turn(self, state: _State) -> Plan | None:
        """Ask the planner and do what it says; None if that was refused."""
        state.turn += 1
        graph, version = state.graph, state.graph.version
        number = f"{graph.run_id}/devices/{state.turn}"
        state.fleet = Fleet(await devices(self._submitter, number))
        prompt = prompts.ask(state.request, state.fleet, graph, state.steps, state.notes)
        graph.events.emit(PlannerAsked(turn=state.turn, version=version))
        text = await self._mind.reply(prompt, SCHEMA)
        state.notes.clear()
        try:
            plan = Plan.parse(text)
            if plan.edits:
                self._apply(state, plan, version)
        except InvalidValue as error:
            self._refuse(state, text, (str(error),))
            return None
        except PatchRefused as error:
            reasons = (f"{c.operation} {_id(plan, c.index)}: {c.reason}" for c in error.conflicts)
            self._refuse(state, text, tuple(reasons))
            return None
        if plan.answer and plan.edits:
            state.notes.append(BOTH)
        elif plan.answer:
            state.answer = plan.answer
            graph.events.emit(PlanGiven(turn=state.turn, answer=plan.answer))
        return plan

    def _refuse(self, state: _State, text: str, reasons: tuple[str, ...]) -> None:
        state.refused += 1
        state.notes += [f"your last reply was refused: {reason}" for reason in reasons]
        event = PlanRefused(turn=state.turn, reasons=reasons, text=text)
        state.graph.events.emit(event)

    def _apply(self, state: _State, plan: Plan, version: int) -> None:
        """Apply all edits, or none.

        Raises:
            InvalidValue: no device could do it.
            PatchRefused: the graph is not so.
        """
        steps = dict(state.steps)
        ops = []
        for edit in plan.edits:
            if isinstance(edit, (AddTask, ChangeTask)):
                step = _step(edit, steps)
                ops.append(self._call(state, edit, step))
                steps[edit.id] = step
            else:
                ops.append(edit.model_dump(mode="json"))
                if edit.op == "remove":
                    steps.pop(edit.id, None)
        patch = Patch.model_validate({"base": version, "ops": ops})
        made = state.graph.apply(patch)
        state.steps = steps
        state.graph.events.emit(PlanApplied(turn=state.turn, version=made, plan=plan))

    def _call(self, state: _State, edit: AddTask | ChangeTask, step: Step) -> dict[str, Any]:
        """The patch's operation for a task that calls something."""
        try:
            kind = state.fleet.kind(step)
        except InvalidValue as error:
            raise InvalidValue(f"{edit.op} {edit.id}: {error}") from error
        call = Call(self._submitter, step, kind, self._limits)
        state.graph.register(call, step.name)
        op = {"op": edit.op, "id": edit.id, "function": step.name, "kwargs": dict(step.arguments)}
        op["name"] = step.name
        return op | ({"after": edit.after} if isinstance(edit, AddTask) else {})


def _step(edit: AddTask | ChangeTask, steps: Mapping[str, Step]) -> Step:
    """What a task is to call after an edit.

    Raises:
        InvalidValue: there is no such task to be changed.
    """
    if isinstance(edit, AddTask):
        return Step(tool=edit.tool, arguments=edit.arguments, device=edit.device, tags=edit.tags)
    if edit.id not in steps:
        raise InvalidValue(f"change {edit.id}: there is no such task; add it")
    given = edit.model_dump(exclude={"op", "id"}, exclude_none=True)
    return replace(steps[edit.id], **given)


def _id(plan: Plan, index: int) -> str:
    """What a refused operation was about."""
    edit = plan.edits[index]
    return edit.target if isinstance(edit, (Connect, Disconnect)) else edit.id


def _record(state: _State, id: str) -> StepRecord:
    task, step, placed = state.graph[id], state.steps[id], state.placed.get(id)
    return StepRecord(
        id=id,
        name=step.name,
        arguments=step.arguments,
        state=task.state,
        device=None if placed is None else placed.device,
        attempts=0 if placed is None else placed.attempts,
        value=task.value if task.state == "succeeded" else None,
        error=task.error_text if task.state == "failed" else None,
    )
