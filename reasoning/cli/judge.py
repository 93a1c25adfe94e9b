"""``reason judge train``, ``reason judge eval`` and ``reason calibrate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from orchestrator.errors import InvalidValue
from pruning import Cut, DeepPrune, PolicyError, parse_policy
from reasoning.cli.replaying import read
from reasoning.judging import calibration as calibrations
from reasoning.judging import training
from reasoning.judging.calibration import Calibration, RiskTarget
from reasoning.judging.evaluation import Evaluation, EvaluationOptions
from reasoning.judging.evaluation import evaluate as measure
from reasoning.judging.judge import LearnedJudge
from reasoning.judging.training import JudgeRecipe


def train(
    traces: Sequence[str], *, output: str, by: Any, prefix: int, steps: int, **options: Any
) -> int:
    """Train, store, and return the exit code."""
    target = Path(output)
    training.check_folder(target)
    recipe = JudgeRecipe(cut=Cut(by=by, tokens=prefix, steps=steps), **options)
    questions = read(traces)
    with _progress("train") as (progress, bar):

        def step(done: int, total: int, loss: float) -> None:
            progress.update(bar, completed=done, total=total, description=f"train, loss {loss:.3f}")

        judge = training.save(training.train(questions, recipe, step), target)
    card = judge.card
    click.echo(
        f"{output}: {card.form} judge of {card.pairs} pairs, loss {card.loss:.4f}, "
        f"{card.seconds:.0f} s; {card.questions} of {len(questions)} questions seen"
    )
    return 0


def evaluate(traces: Sequence[str], *, folder: str, each: int, tau: float, as_json: bool) -> int:
    """Evaluate, print, and return the exit code."""
    questions = read(traces)
    judge = LearnedJudge.load(folder)
    with _progress("eval", len(questions)) as (progress, bar):
        found = measure(
            judge,
            questions,
            EvaluationOptions(
                name=Path(folder).name,
                traces=[Path(path).name for path in traces],
                each=each,
                tau=tau,
                on_question=lambda: progress.advance(bar),
            ),
        )
    if as_json:
        click.echo(found.model_dump_json(by_alias=True, indent=2))
    else:
        _show(*_tables(found))
    return 0


def calibrate(
    traces: Sequence[str],
    *,
    folder: str,
    output: str,
    policy: str,
    orders: int,
    as_json: bool,
    **rates: float,
) -> int:
    """Calibrate, store, print, and return the exit code; ``rates`` are those of `RiskTarget`."""
    target = RiskTarget(**rates)
    chosen = _deepprune(policy)
    questions = read(traces)
    judge = LearnedJudge.load(folder)
    if "prefix=" not in policy:
        chosen = replace(chosen, prefix=judge.cut.tokens)
    with _progress("calibrate", len(questions)) as (progress, bar):
        found = calibrations.calibrate(
            judge,
            questions,
            target,
            policy=chosen,
            orders=orders,
            on_question=lambda: progress.advance(bar),
        )
    calibrations.write(found, Path(output))
    if as_json:
        click.echo(found.model_dump_json(by_alias=True, indent=2))
    else:
        _show(_tried(found))
        click.echo(_verdict(found, output))
    return 0


def _deepprune(text: str) -> DeepPrune:
    try:
        policy = parse_policy(text)
    except PolicyError as error:
        raise InvalidValue(str(error)) from error
    if not isinstance(policy, DeepPrune):
        raise InvalidValue(f"policy: {text!r} merges nothing; give deepprune")
    if "tau=" in text:
        raise InvalidValue("policy: tau is what is chosen; leave it out")
    return policy


# Showing.


@contextmanager
def _progress(what: str, total: int | None = None) -> Iterator[tuple[Progress, TaskID]]:
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        yield progress, progress.add_task(what, total=total)


def _show(*tables: Table) -> None:
    console = Console(width=None if sys.stdout.isatty() else 110)
    for table in tables:
        console.print(table)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title)
    for heading in headings:
        left = heading == headings[0]
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    return table


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}–{interval[1]:.3f}"


def _tables(found: Evaluation) -> Iterator[Table]:
    title = (
        f"{found.judge} ({found.form}): {found.questions} questions that it has not seen, "
        f"{found.mixed} with pairs of both kinds, {found.pairs} pairs"
    )
    ranks = _table(title, "AUROC", "within questions", "95 % interval", "pooled", "95 % interval")
    for one in found.rankings:
        ranks.add_row(
            one.name,
            f"{one.within:.3f}",
            _span(one.within_ci95),
            f"{one.pooled:.3f}",
            _span(one.pooled_ci95),
        )
    yield ranks
    title = f"Reliability: Brier score {found.brier:.3f}; best threshold {found.threshold:.3f}"
    reliability = _table(title, "said", "agreed")
    for some in found.reliability:
        reliability.add_row(f"{some.said:.3f}", f"{some.agreed:.3f}")
    yield reliability
    title = f"Clusters of traces against equal answers, tau = {found.tau:g}"
    clusters = _table(title, "clusters", "adjusted Rand", "homogeneity", "completeness", "clusters")
    for row in found.clusterings:
        clusters.add_row(
            row.name,
            f"{row.rand:.3f}",
            f"{row.homogeneity:.3f}",
            f"{row.completeness:.3f}",
            f"{row.clusters:.1f}",
        )
    clusters.caption = f"{found.cost.tokens:,.0f} tokens and {found.cost.seconds:.2f} s a question"
    yield clusters


def _tried(found: Calibration) -> Table:
    table = _table(
        f"Wrong merges: at most {found.risk:g} with probability {1 - found.delta:g}? "
        f"{found.questions} questions",
        "tau",
        "rate",
        "merges a question",
        "p-value",
        "valid",
    )
    for one in found.tried:
        valid = "yes" if one.valid else "no"
        table.add_row(
            f"{one.tau:g}", f"{one.loss:.3f}", f"{one.merges:.2f}", f"{one.p_value:.3g}", valid
        )
    return table


def _verdict(found: Calibration, output: str) -> str:
    if found.tau is None:
        return f"{output}: the gate is shut: {found.why}"
    return f"{output}: tau = {found.tau:g}"
