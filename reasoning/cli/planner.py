"""What ``reason plan`` does, and the second door of ``reason hub``."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator import AttemptFailed, Event, EventStream, TaskEnded, TaskStarted
from orchestrator.errors import InvalidValue, leaf
from protocol import Client, Hub, TokenStore
from protocol.hub.directory import devices as connected
from protocol.ufo import Pilot, UfoServer
from reasoning.cli.hub import PORT, read_token, seconds, tokens_path
from reasoning.cli.interrupts import raise_when_interrupted
from reasoning.models.loading import AnyModel, load
from reasoning.planning import (
    ChatMind,
    Constellation,
    ModelPilot,
    Outcome,
    PlanApplied,
    PlanGiven,
    PlanRefused,
    RunResumed,
    StepPlaced,
)
from reasoning.planning.journal_notes import check

SCHEMA = "reason.plan/1"
WAIT_S = 60.0


def run(
    request: str | None,
    *,
    model: str | None,
    backend: str | None,
    base_urls: Sequence[str],
    settings: Sequence[str],
    url: str | None,
    token_file: str | None,
    devices: int,
    turns: int,
    journal: str | None,
    resume: bool,
    timeout: str | None,
    temperature: float,
    held: bool | None,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Carry out a request, print what it came to, and return the exit code."""
    _check(request, journal, resume)
    limit = seconds(timeout, "timeout")
    submitter: Hub | Client
    if url is not None:
        submitter = Client(url, read_token(token_file), instance=f"plan.{_instance(journal)}")
    elif token_file is not None:
        raise InvalidValue("token-file: a token is for a hub elsewhere; give --hub as well")
    else:
        submitter = Hub(port=PORT, tokens=TokenStore(tokens_path(None)))
    loaded = load(model, backend=backend, base_urls=base_urls, settings=settings)
    mind = ChatMind(loaded, temperature=temperature, seed=seed, held=held)
    events = EventStream()
    if not quiet:
        events.subscribe(_tell)

    async def main() -> Outcome:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(submitter)
            await stack.enter_async_context(mind)
            await _arrived(submitter, devices)
            constellation = Constellation(submitter, mind, events=events, most_turns=turns)
            return await constellation.run(request, seconds=limit, journal=journal, resume=resume)

    try:
        raise_when_interrupted()
        outcome = anyio.run(main)
    except ExceptionGroup as group:
        raise leaf(group) from None
    if mind.unheld is not None and not quiet:
        click.echo(f"reason: replies were not held to a schema: {mind.unheld}", err=True)
    _print(outcome, mind, as_json=as_json)
    return 0 if outcome.status == "answered" else 1


def _check(request: str | None, journal: str | None, resume: bool) -> None:
    """Refuse what could not be run, before anything is started."""
    if resume and journal is None:
        raise InvalidValue("resume: there is nothing to go on from; give --journal FILE as well")
    if not resume and request is None:
        raise InvalidValue("request: there is none; say what is to be done")
    if request is not None and not request.strip():
        raise InvalidValue("request: it is empty; say what is to be done")
    if journal is not None:
        check(Path(journal), request, resume=resume)


def _instance(journal: str | None) -> str:
    """The same for each process of a run, so that the hub gives the next what it had for the last.

    It is told by the journal's place, as the hub is dialled before the journal is opened.
    """
    if journal is None:
        return str(os.getpid())
    return hashlib.sha256(str(Path(journal).resolve()).encode()).hexdigest()[:16]


async def _arrived(submitter: Hub | Client, count: int) -> None:
    """Wait until so many devices are there; with fewer after a minute, go on with them."""
    with anyio.move_on_after(WAIT_S):
        while len(await connected(submitter, f"plan/{uuid.uuid4()}")) < count:  # noqa: ASYNC110
            await anyio.sleep(0.2)


def _print(outcome: Outcome, mind: ChatMind, *, as_json: bool) -> None:
    if not as_json:
        if outcome.answer is not None:
            click.echo(outcome.answer)
        else:
            click.echo(f"reason: no answer: {_WHY[outcome.status]}", err=True)
        return
    tasks = [
        {
            "id": task.id,
            "call": task.name,
            "arguments": dict(task.arguments),
            "state": task.state,
            "device": task.device,
            "attempts": task.attempts,
            "value": task.value,
            "error": task.error,
        }
        for task in outcome.tasks
    ]
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "status": outcome.status,
        "answer": outcome.answer,
        "turns": outcome.turns,
        "refused": outcome.refused,
        "planner_tokens": mind.written,
        "unheld": mind.unheld,
        "tasks": tasks,
    }
    click.echo(json.dumps(found, indent=2))


_WHY = {
    "stuck": "the planner had nothing to say while nothing ran; try another model",
    "turns": "the planner was asked as often as it may be; raise --turns",
    "timed-out": "the time was over; raise --timeout",
}


def _tell(event: Event) -> None:
    match event:
        case RunResumed(version=version, ended=ended, left=left):
            click.echo(f"resumed at version {version}: {ended} ended, {left} to go", err=True)
        case PlanApplied(turn=turn, version=version, plan=plan):
            click.echo(f"plan {turn}: {plan.thought}".rstrip(": "), err=True)
            for edit in plan.edits:
                said = edit.model_dump_json(exclude_defaults=True)
                click.echo(f"  {edit.op} {said}", err=True)
            click.echo(f"  applied: version {version}", err=True)
        case PlanRefused(turn=turn, reasons=reasons):
            for reason in reasons:
                click.echo(f"plan {turn} refused: {reason}", err=True)
        case PlanGiven(turn=turn):
            click.echo(f"plan {turn}: the answer", err=True)
        case _:
            _tell_of_task(event)


def _tell_of_task(event: Event) -> None:
    match event:
        case TaskStarted(task=task):
            click.echo(f"{task} started", err=True)
        case StepPlaced(task=task, device=device, attempts=attempts):
            lost = f", after {attempts - 1} lost" if attempts > 1 else ""
            click.echo(f"{task} was run by {device}{lost}", err=True)
        case TaskEnded(task=task, state=state) if state != "succeeded":
            click.echo(f"{task} {state}", err=True)
        case AttemptFailed(task=task, error=error):
            click.echo(f"{task} failed: {error}", err=True)


# ---- reason hub --ufo ----------------------------------------------------------------------------


def pilot_model(
    name: str | None, *, backend: str | None, base_urls: Sequence[str], settings: Sequence[str]
) -> AnyModel | None:
    """The model that steers UFO³ devices, if one was asked for."""
    if name is None and not base_urls and backend is None:
        return None
    return load(name, backend=backend, base_urls=base_urls, settings=settings)


async def open_door(stack: AsyncExitStack, hub: Hub, model: AnyModel | None, **options: Any) -> str:
    """Let UFO³ clients in until ``stack`` is closed; returns what they dial."""
    pilot: Pilot | None = None
    if model is not None:
        pilot = ModelPilot(await stack.enter_async_context(ChatMind(model)))
    server = await stack.enter_async_context(UfoServer(hub, pilot=pilot, **options))
    return server.url
