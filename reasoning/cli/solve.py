"""``reason solve``: run, show the threads, print the answer."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import anyio
import click
from anyio.abc import TaskStatus

from protocol import Report, ThreadReport, UsageReport
from protocol.wire.report import DecisionReport, SteeringReport, TraceReport
from pruning import Accept, Decision, Escalate, Resample
from reasoning.cli.interrupts import INTERRUPTED, raise_when_interrupted
from reasoning.cli.tree import ThreadTree
from reasoning.problems import recognise
from reasoning.run.solution import Solution, Steering, Usage

if TYPE_CHECKING:
    from reasoning.models.loading import AnyModel
    from reasoning.run.solver import Options


def run(problem: str, *, as_json: bool, quiet: bool, **options: Any) -> int:
    """Solve, print, and return the exit code."""
    recognised = recognise(problem)  # what is wrong is told before torch is imported
    from reasoning.models.loading import load
    from reasoning.run.solver import Reasoner, check_options

    name, backend = options.pop("model"), options.pop("backend")
    base_urls, settings = options.pop("base_urls"), options.pop("settings")
    on, hub, token_file = options.pop("on"), options.pop("hub"), options.pop("token_file")
    check_options(cast("Options", options))
    model: AnyModel  # loaded before Ctrl-C is ours to handle
    if on == "devices":
        from reasoning.cli.devices import remote

        model = remote(name, hub, token_file, backend or base_urls or settings)
    else:
        model = load(name, backend=backend, base_urls=base_urls, settings=settings)
    small = options.pop("draft")
    draft = None if small is None else load_draft(small)
    tree = ThreadTree(quiet=quiet)

    async def main() -> Solution:
        scope = anyio.CancelScope()
        with tree:
            async with anyio.create_task_group() as group, Reasoner(model, draft=draft) as reasoner:
                await group.start(_cancel_on_interrupt, scope)
                solution = await reasoner.solve(
                    recognised, listener=tree.listen, stop=scope, **options
                )
                group.cancel_scope.cancel()
        return solution

    raise_when_interrupted()
    solution = anyio.run(main)
    if as_json:
        click.echo(report(solution).model_dump_json(by_alias=True, indent=2))
    elif solution.answer is not None:
        click.echo("".join(c for c in solution.answer if c.isprintable()))
    sys.stdout.flush()
    with contextlib.suppress(OSError):  # the answer is out; nobody reads the rest
        tree.print()
        _conclude(solution, options.get("timeout"))
    if solution.status == "interrupted":
        return INTERRUPTED
    return 0 if solution.answer is not None and solution.verified is not False else 1


def load_draft(name: str) -> AnyModel:
    """A draft by name or folder on the embedded engine, or by a server's address."""
    from reasoning.models.loading import load

    return load(base_urls=[name]) if "://" in name else load(name)


async def _cancel_on_interrupt(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if scope.cancel_called:  # asked twice: don't wait for anything
                os._exit(INTERRUPTED)
            scope.cancel()


def report(solution: Solution) -> Report:
    """The solution as a message."""
    usage = solution.usage
    return Report(
        status=solution.status,
        problem=solution.problem.question,
        answer=solution.answer,
        verified=solution.verified,
        reason=solution.verdict.reason if solution.verdict else None,
        votes=solution.votes,
        confidence=solution.confidence,
        strategy=solution.strategy,
        model=solution.model,
        usage=UsageReport(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            work_tokens=usage.work_tokens,
            span_tokens=usage.span_tokens,
            leaked_tokens=usage.leaked_tokens,
            cached_tokens=usage.cached_tokens,
        ),
        wall_s=round(solution.wall_s, 4),
        threads=tuple(
            ThreadReport(
                **{
                    name: getattr(thread, name)
                    for name in ThreadReport.model_fields
                    if name != "trace"
                },
                trace=None if thread.trace is None else TraceReport(**asdict(thread.trace)),
            )
            for thread in solution.threads
        ),
        steering=None if solution.steering is None else steering(solution.steering, usage),
        errors=solution.errors,
        parallelism=round(solution.parallelism, 4),
        emulated=solution.emulated,
    )


def steering(steered: Steering, usage: Usage) -> SteeringReport:
    """What a policy did, as a message."""
    shared = SteeringReport.model_fields.keys() - {"leaked", "reason", "decisions"}
    return SteeringReport(
        **{name: getattr(steered, name) for name in shared},
        leaked=usage.leaked_tokens,
        reason=steered.finish.reason,
        decisions=tuple(
            DecisionReport(told=told, do=type(decision).__name__.lower(), **_fields(decision))
            for told, decision in steered.log
        ),
    )


def _fields(decision: Decision) -> dict[str, Any]:
    if isinstance(decision, Accept | Escalate | Resample):
        return {"trace": decision.trace, "reason": decision.reason}
    return asdict(decision)


def _conclude(solution: Solution, timeout: float | None) -> None:
    """The last line on stderr: cost, and whether the verifier agreed."""
    usage = solution.usage
    for error in solution.errors:
        lost = sum(thread.lost == error for thread in solution.threads)
        click.echo(f"reason: lost {lost} of {len(solution.threads)} threads: {error}", err=True)
    match solution.status:
        case "timed-out":
            click.echo(
                f"reason: stopped at the time limit of {timeout:g} s; raise --timeout", err=True
            )
        case "interrupted":
            click.echo("reason: interrupted; this is what was found", err=True)
        case "finished" if solution.answer is None:
            click.echo("reason: no answer was found; try a larger --n or --max-tokens", err=True)
    verdict = "no answer"
    if solution.answer is not None:
        verdict = {True: "verified", False: "REJECTED by the verifier", None: "not verifiable"}[
            solution.verified
        ]
        if solution.verified is False and solution.verdict is not None:
            verdict += f" ({solution.verdict.reason})"
    if len(solution.votes) > 1 or solution.strategy == "self-consistency":
        verdict += f" · confidence {solution.confidence:.0%}"
    steered = solution.steering
    if steered is not None:
        verdict += f" · {steered.policy}: {steered.finish.reason}"
    leaked = f" ({usage.leaked_tokens:,} leaked)" if steered is not None else ""
    if solution.emulated:
        verdict += f" · emulated: {', '.join(solution.emulated)}"
    threads = "1 thread" if len(solution.threads) == 1 else f"{len(solution.threads)} threads"
    click.echo(
        f"{solution.strategy} · {threads} · work {usage.work_tokens:,} tokens{leaked}"
        f" · span {usage.span_tokens:,} · parallelism {solution.parallelism:.1f}"
        f" · {solution.wall_s:.2f} s · {verdict}",
        err=True,
    )
