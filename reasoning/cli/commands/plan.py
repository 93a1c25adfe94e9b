"""``reason plan``: a language model plans a request over the devices of a hub."""

from __future__ import annotations

import time
from dataclasses import field
from typing import TYPE_CHECKING, Any

import click
from click import IntRange

from orchestrator.errors import InvalidValue, leaf
from reasoning.cli.interrupts import raise_when_interrupted
from reasoning.cli.options import (
    BackendOptions,
    Duration,
    HubOptions,
    KeepOptions,
    argument,
    given_options,
    json_option,
    model_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import one_line, print_json, say, warn

if TYPE_CHECKING:
    from orchestrator import Event
    from protocol import Client, Hub
    from reasoning.planning import ChatClient, ConstellationResult
    from reasoning.runs.record import RecordedRun

SCHEMA = "reason.plan/1"
WAIT_S = 60.0
"""How long planning waits for as many devices as were asked for."""
MOST_SHOWN = 300
"""Characters of a value or of progress."""
UNTOLD = {"request", "as_json", "quiet", "resume", "keep", "keep_mb"}
"""Settings that say nothing of how a plan went, or stand in its record elsewhere."""


@settings_class
class PlanSettings:
    """A request, the model that plans it, and the hub whose devices carry it out."""

    request: str | None = argument(required=False)
    model: str | None = model_option("The chat model that plans.")
    backend: BackendOptions = field(default_factory=BackendOptions)
    hub: HubOptions = field(default_factory=HubOptions)
    devices: int = option(
        "How many devices to wait for before planning begins, up to a minute.",
        type=IntRange(1, 10_000),
        default=1,
    )
    turns: int = option("How often the planner may be asked.", type=IntRange(1, 10_000), default=30)
    patience: float = option(
        "How long a task waits while no device is able to run it, as 30s.",
        type=Duration(least=0.0),
        default=30.0,
    )
    journal: str | None = option(
        "Records edits, results and turns, so that a run that was cut off can go on.",
        metavar="FILE",
    )
    resume: bool = option(
        "Go on with the run in --journal, if it holds one; REQUEST may then be left out.",
        is_flag=True,
    )
    timeout: float | None = option(
        "As 90s or 10m; then it ends with what there is.", type=Duration()
    )
    temperature: float = option("The planner's.", default=0.0)
    held: bool | None = option(
        "Whether replies must be held to the schema of plans while they are generated; by "
        "default where the backend can.",
        "--held/--not-held",
        default=None,
        show_default=False,
    )
    seed: int = option("The planner's.", default=0)
    keeping: KeepOptions = field(default_factory=KeepOptions)
    as_json: bool = json_option()
    quiet: bool = option("Nothing on stderr while it runs.", "--quiet", "-q", is_flag=True)

    def check(self) -> str:
        """Refuse what could not be run, before anything is started; returns the request.

        Raises:
            InvalidValue: the request or the journal can't be used.
        """
        from pathlib import Path

        from reasoning.planning.journal_notes import check_journal

        if self.resume and self.journal is None:
            raise InvalidValue("resume: there is nothing to go on from; give --journal FILE too")
        if not self.resume and self.request is None:
            raise InvalidValue("request: there is none; say what is to be done")
        if self.request is not None and not self.request.strip():
            raise InvalidValue("request: it is empty; say what is to be done")
        if self.journal is None:
            return self.request or ""
        return check_journal(Path(self.journal), self.request, resume=self.resume) or ""

    @property
    def instance(self) -> str:
        """What a hub elsewhere knows the run by: the same for each process of one journal.

        So the hub gives the next process what it had for the last.  The journal's place says it,
        as the hub is dialled before the journal is opened.
        """
        import hashlib
        import os
        from pathlib import Path

        if self.journal is None:
            return f"plan.{os.getpid()}"
        place = str(Path(self.journal).resolve()).encode()
        return f"plan.{hashlib.sha256(place).hexdigest()[:16]}"


@click.command()
@options(PlanSettings)
def plan(settings: PlanSettings) -> int:
    """Have REQUEST carried out by devices, as a language model plans.

    The answer goes to stdout; each edit of the plan, and what becomes of it, to stderr.  Exits with
    0 for an answer and 1 for none.

    \b
    reason plan "Compare the logs of all machines" --base-url http://localhost:8000/v1
    reason plan --journal run.db --resume --base-url http://localhost:8000/v1
    """
    return carry_out(settings)


def carry_out(settings: PlanSettings) -> int:
    """Carry a plan out, print what came of it, and return the exit code."""
    import anyio

    from reasoning.planning import ChatClient

    request = settings.check()
    submitter = settings.hub.submitter(settings.instance)
    model = settings.backend.load(settings.model)
    chat = ChatClient(
        model, temperature=settings.temperature, seed=settings.seed, held=settings.held
    )
    raise_when_interrupted()
    kept = KeptPlan(settings, request, chat)
    kept.begin()
    try:
        result = anyio.run(_carry_out, settings, submitter, chat)
    except ExceptionGroup as errors:
        raise leaf(errors) from None
    run = kept.end(result)
    if chat.unheld is not None and not settings.quiet:
        warn(f"replies were not held to a schema: {chat.unheld}")
    if settings.as_json:
        _print_object(result, chat)
    elif result.answer is not None:
        say(result.answer, err=False)
    else:
        warn(f"no answer: {_REASONS[result.status].format('; '.join(result.reasons))}")
    if run is not None and not settings.quiet:
        say(f"run {run.id}")
    return 0 if result.status == "answered" else 1


class KeptPlan:
    """The record of a plan."""

    def __init__(self, settings: PlanSettings, request: str, chat: ChatClient) -> None:
        from reasoning.runs.record import RunJournal, RunOrigin

        given = given_options(settings)
        self._keeping = settings.keeping
        self._request = request
        self._chat = chat
        self._origin = RunOrigin(
            command="plan",
            settings={name: given[name] for name in given.keys() - UNTOLD},
            journal=None if settings.journal is None else RunJournal.at(settings.journal),
        )

    def begin(self) -> None:
        """Keep that it has begun, where a journal lets it go on when it is killed."""
        from reasoning.runs.planned import plan_report

        if self._origin.journal is not None:
            report = plan_report(self._request, self._chat.model.name)
            self._keeping.add(lambda: self._origin.record(report, ended=False))

    def end(self, result: ConstellationResult) -> RecordedRun | None:
        """Keep what came of it; returns the record, if it is kept."""
        from reasoning.runs.planned import plan_branches, plan_report

        def record() -> RecordedRun:
            report = plan_report(
                self._request,
                self._chat.model.name,
                result,
                written=self._chat.written,
                wall_s=time.time() - self._origin.began,
            )
            return self._origin.record(report, plan_branches(result))

        return self._keeping.add(record)


async def _carry_out(
    settings: PlanSettings, submitter: Hub | Client, chat: ChatClient
) -> ConstellationResult:
    import uuid

    import anyio

    from orchestrator import EventStream
    from protocol.hub.directory import devices
    from reasoning.planning import Constellation
    from reasoning.planning.calls import CallLimits

    events = EventStream()
    if not settings.quiet:
        events.subscribe(_show)
    async with submitter, chat:
        with anyio.move_on_after(WAIT_S):  # with fewer it begins all the same
            await devices(submitter, f"plan/{uuid.uuid4()}", least=settings.devices)
        constellation = Constellation(
            submitter,
            chat,
            events=events,
            limits=CallLimits(patience_s=settings.patience),
            most_turns=settings.turns,
        )
        return await constellation.run(
            settings.request,
            seconds=settings.timeout,
            journal=settings.journal,
            resume=settings.resume,
        )


_REASONS = {
    "stuck": "the planner had nothing to say while nothing ran; try another model",
    "refused": "the planner's replies were refused again and again ({}); try another model",
    "turns": "the planner was asked as often as it may be; raise --turns",
    "timed-out": "the time was over; raise --timeout",
}


def _print_object(result: ConstellationResult, chat: ChatClient) -> None:
    import json

    names = ("id", "state", "device", "attempts", "value", "error")
    tasks = [
        {"call": task.name, "arguments": dict(task.arguments)}
        | {name: getattr(task, name) for name in names}
        for task in result.tasks
    ]
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "status": result.status,
        "answer": result.answer,
        "turns": result.turns,
        "refused": result.refused,
        "reasons": result.reasons,
        "planner_tokens": chat.written,
        "unheld": chat.unheld,
        "tasks": tasks,
    }
    print_json(json.dumps(found, indent=2))


def _show(event: Event) -> None:
    from reasoning.planning import AnswerGiven, PlanApplied, PlanRefused, RunResumed

    match event:
        case RunResumed(version=version, ended=ended, left=left):
            say(f"resumed at version {version}: {ended} ended, {left} to go")
        case PlanApplied(turn=turn, version=version, plan=plan):
            say(f"plan {turn}: {one_line(plan.thought)}".rstrip(": "))
            for edit in plan.edits:
                said = edit.model_dump_json(exclude_defaults=True)
                say(f"  {edit.op} {said}")
            say(f"  applied: version {version}")
        case PlanRefused(turn=turn, reasons=reasons):
            for reason in reasons:
                say(f"plan {turn} refused: {one_line(reason)}")
        case AnswerGiven(turn=turn):
            say(f"plan {turn}: the answer")
        case _:
            _show_task(event)


def _show_task(event: Event) -> None:
    from orchestrator import AttemptFailed, TaskEnded, TaskStarted
    from reasoning.planning import TaskPlaced, TaskReturned

    match event:
        case TaskStarted(task=task):
            say(f"{task} started")
        case TaskReturned(task=task, value=value):
            say(f"{task} returned {_cut(value)}")
        case TaskPlaced(task=task, device=device, attempts=attempts):
            lost = f", after {attempts - 1} lost" if attempts > 1 else ""
            say(f"{task} was run by {device}{lost}")
        case TaskEnded(task=task, state=state, error=error) if state != "succeeded":
            say(f"{task} {state}" + (f": {one_line(error)}" if error else ""))
        case AttemptFailed(task=task, error=error):
            say(f"{task} failed: {one_line(error)}")
        case _:
            _show_devices(event)


def _show_devices(event: Event) -> None:
    from reasoning.planning import DeviceChanged, TaskGiven, TaskReported, TaskUnplaced

    match event:
        case TaskReported(task=task, text=text):
            say(f"{task}: {_cut(text)}")
        case TaskGiven(task=task, device=device, attempt=attempt):
            say(f"{task} goes on at {device}" if attempt > 1 else f"{task} is given to {device}")
        case TaskUnplaced(task=task, why=why):
            say(f"{task} waits: {one_line(why)}")
        case DeviceChanged(state="untold", why=why):
            warn(f"the hub tells nothing of its devices: {one_line(why)}")
        case DeviceChanged(device=device):
            say(f"{device} {one_line(event.said)}")


def _cut(text: str) -> str:
    """The beginning of a text, in one line."""
    line = one_line(text)
    return line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]}… ({len(text)} characters)"
