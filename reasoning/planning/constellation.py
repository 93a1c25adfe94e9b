"""A constellation: a planner's graph of tasks on devices, edited while it runs (after UFO³)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from orchestrator import EventStream, TaskGraph
from orchestrator.editing.operations import Connect, Disconnect
from orchestrator.editing.patches import Patch
from orchestrator.errors import InvalidValue, PatchRefused
from protocol.hub.directory import HubNews, devices, follow
from protocol.hub.task_handles import Submitter
from reasoning.planning import prompts
from reasoning.planning.calls import CallLimits, find_call, function_name, task_of
from reasoning.planning.chat_client import Chat
from reasoning.planning.devices import DevicePool, PlannedCall
from reasoning.planning.events import (
    AnswerGiven,
    DeviceChanged,
    PlanApplied,
    PlannerAsked,
    PlanRefused,
    TaskGiven,
    TaskUnplaced,
)
from reasoning.planning.journal_notes import NAME, record_event
from reasoning.planning.reply import AddTask, ChangeTask, PlannerReply
from reasoning.planning.reply_schema import ReplyBounds, schema_of
from reasoning.planning.state import ConstellationResult, PlannerState, Status

MOST_IDLE = 4
"""A planner is stuck after so many replies in a row that change nothing while nothing runs."""

MOST_SAME = 4
"""The run ends after so many replies in a row that are refused for the same reasons."""

IDLE = "nothing runs and nothing waits: edit the graph, or give the answer"
BOTH = "edits and an answer came together; the answer was ignored: give it when all is done"


@dataclass
class Constellation:
    """Carries out requests on a hub's devices, as a planner plans::

    async with ChatClient(load_model("my-model", base_urls=[url])) as chat:
        outcome = await Constellation(hub, chat).run("Summarise the logs of all machines")

    The planner is asked once at first, and again whenever tasks have ended, or wait for a device
    that is not heard of any more or was never there; the graph runs on meanwhile, so that nothing
    waits for it but what it has yet to plan.  Each reply is checked as
    a whole: the JSON, the devices, the names of arguments, and all that `TaskGraph.apply` checks.
    What does not hold is refused by name, and the planner is told.

    Attributes:
        submitter: A hub here, or the client of one elsewhere.
        chat: The planner's model.
        events: Where everything that happens can be seen.
        limits: The time and the devices that each task may take.
        most_turns: How often the planner may be asked.
        at_once: How many tasks may run at once.
        bounds: How long a reply may be, where the backend can hold it to a schema.

    Raises:
        InvalidValue: a number is out of range.
    """

    submitter: Submitter
    chat: Chat
    _: KW_ONLY
    events: EventStream = field(default_factory=EventStream)
    limits: CallLimits = field(default_factory=CallLimits)
    most_turns: int = 30
    at_once: int | None = None
    bounds: ReplyBounds = field(default_factory=ReplyBounds)

    def __post_init__(self) -> None:
        if self.most_turns < 1:
            raise InvalidValue(f"turns: {self.most_turns} is none; give 1 or more")

    async def run(
        self,
        request: str | None,
        *,
        seconds: float | None = None,
        journal: str | Path | None = None,
        resume: bool = False,
    ) -> ConstellationResult:
        """Carry out one request, and return what it came to.

        Args:
            request: What is to be done; None for the request in the journal.
            seconds: The time limit; then the run ends as ``timed-out``, and can be resumed.
            journal: A file that records the run, so that it can be resumed.
            resume: Whether to go on with the run that the journal holds, if it holds one.

        Raises:
            BackendLost: the planner's model can't be reached any more.
            JournalUnusable: the journal is damaged, or of something else.
            InvalidValue: the journal is of another request.
            ReasonError: by its leaf, what else stops it.
        """
        graph = TaskGraph(
            name=NAME,
            limit=self.at_once,
            resolver=partial(find_call, self.submitter, self.limits),
            journal=journal,
            resume=resume,
            errors="first",
        )
        graph.events.subscribe(self.events.emit)
        state = PlannerState(graph=graph)
        graph.events.subscribe(state.hear)
        status: Status = "timed-out"
        with anyio.move_on_after(seconds) as scope, ExitStack() as stack:
            async with graph:
                state.begin(request)
                question = f"{graph.run_id}/news/{secrets.token_hex(8)}"
                stack.callback(follow(self.submitter, question, partial(_tell, graph)))
                status = "answered" if state.answer is not None else await self._converse(state)
                if status == "answered":
                    for task in graph.tasks:
                        task.cancel()
                else:  # what still runs has not ended: the journal must not say so
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
        return state.result(status)

    async def _converse(self, state: PlannerState) -> Status:
        idle = failed = same = 0
        while state.turn < self.most_turns:
            seen, before = state.changes, state.reasons
            plan = await self._turn(state)
            if state.answer is not None:
                return "answered"
            same = 0 if plan is not None else same + 1 if state.reasons == before else 1
            if same == MOST_SAME:
                return "refused"
            idle = idle + 1 if state.resting and seen == state.changes else 0
            if idle == MOST_IDLE:
                return "stuck"
            if plan is not None and state.resting:
                state.notes.append(IDLE)
            failed = 0 if plan is not None else failed + 1
            if plan is not None or failed >= MOST_IDLE:  # a refused one is mended at once
                while state.changes == seen and not state.resting:
                    state.news = anyio.Event()
                    await state.news.wait()
        return "turns"

    async def _turn(self, state: PlannerState) -> PlannerReply | None:
        """Ask the planner, and apply its plan; None if the plan was refused."""
        graph, version = state.graph, state.graph.version
        question = f"{graph.run_id}/devices/{secrets.token_hex(8)}"
        state.devices = DevicePool(await devices(self.submitter, question))
        prompt = prompts.ask(state.request, state.devices, graph, state.calls, state.notes)
        record_event(graph, PlannerAsked(turn=state.turn + 1, version=version))
        text = await self.chat.reply(prompt, schema_of(state.devices, graph, self.bounds))
        try:
            plan = PlannerReply.parse(text)
            if plan.edits:
                self._apply(state, plan, version)
        except InvalidValue as error:
            reasons: tuple[str, ...] = (str(error),)
        except PatchRefused as error:
            reasons = tuple(
                f"{c.operation} {_id(plan, c.index)}: {c.reason}" for c in error.conflicts
            )
        else:
            if plan.answer and plan.edits:
                state.notes.append(BOTH)
            elif plan.answer:
                record_event(graph, AnswerGiven(turn=state.turn, answer=plan.answer))
            return plan
        record_event(graph, PlanRefused(turn=state.turn, reasons=reasons, text=text))
        return None

    def _apply(self, state: PlannerState, plan: PlannerReply, version: int) -> None:
        """Apply all edits, or none.

        Raises:
            InvalidValue: no connected device can run one of the calls.
            PatchRefused: the graph refuses an edit.
        """
        calls = dict(state.calls)
        ops = []
        for edit in plan.edits:
            if isinstance(edit, (AddTask, ChangeTask)):
                call = _planned(edit, calls)
                ops.append(self._operation(state, edit, call))
                calls[edit.id] = call
            else:
                ops.append(edit.model_dump(mode="json"))
                if edit.op == "remove":
                    calls.pop(edit.id, None)
        patch = Patch.model_validate({"base": version, "ops": ops})
        made = state.graph.apply(patch)
        state.graph.events.emit(PlanApplied(turn=state.turn, version=made, plan=plan))

    def _operation(
        self, state: PlannerState, edit: AddTask | ChangeTask, call: PlannedCall
    ) -> dict[str, Any]:
        """The patch's operation for a task that calls something."""
        try:
            function = function_name(call, state.devices.kind(call))
        except InvalidValue as error:
            raise InvalidValue(f"{edit.op} {edit.id}: {error}") from error
        op = {"op": edit.op, "id": edit.id, "function": function, "kwargs": dict(call.arguments)}
        op["name"] = call.name
        return op | ({"after": edit.after} if isinstance(edit, AddTask) else {})


def _tell(graph: TaskGraph, news: HubNews) -> None:
    """Emit what a hub tells, in the run's words."""
    task = task_of(graph.run_id, news.task)
    match news.what:
        case "given" | "stranded" if not task:
            return  # of another run
        case "given":
            graph.events.emit(TaskGiven(task=task, device=news.worker, attempt=news.attempt))
        case "stranded":
            graph.events.emit(TaskUnplaced(task=task, why=news.why))
        case "here" | "away" | "gone" | "untold":
            changed = DeviceChanged(device=news.worker, state=news.what, why=news.why)
            graph.events.emit(changed)


def _planned(edit: AddTask | ChangeTask, calls: Mapping[str, PlannedCall]) -> PlannedCall:
    """What a task calls after an edit.

    Raises:
        InvalidValue: there is no such task to be changed.
    """
    if isinstance(edit, AddTask):
        return PlannedCall(**edit.model_dump(include={"tool", "arguments", "device", "tags"}))
    if edit.id not in calls:
        raise InvalidValue(f"change {edit.id}: there is no such task; add it")
    given = edit.model_dump(exclude={"op", "id"}, exclude_none=True)
    return replace(calls[edit.id], **given)


def _id(plan: PlannerReply, index: int) -> str:
    """The task that an operation of the plan is about."""
    edit = plan.edits[index]
    return edit.target if isinstance(edit, (Connect, Disconnect)) else edit.id
