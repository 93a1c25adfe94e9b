"""``reason bench``: strategies on held-out problems, with intervals and their cost."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click import IntRange

from reasoning.cli.options import (
    json_option,
    load_draft,
    named_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import print_object, print_tables, progress_bar, say, table

if TYPE_CHECKING:
    from rich.table import Table

    from reasoning.evaluation import Arm, BenchResults, BenchRow


def _count(default: int) -> Any:
    return option("How many held-out problems.", "--n", "--problems", default=default)


def _strategies(*default: str) -> Any:
    return named_option(
        "A strategy with its settings, as apr:n=16; may be repeated.",
        "reasoning.strategies:STRATEGIES",
        "--strategy",
        multiple=True,
        default=default,
    )


def _numbers(least: int, most: int, default: int, help: str) -> Any:
    return option(help, type=IntRange(least, most), default=default)


@settings_class
class BenchSettings:
    """Problems of one domain, and the strategies to be measured on them."""

    numbers: int = 4
    """The size of a problem; an option where the domain has sizes."""
    count: int = _count(50)
    strategies: tuple[str, ...] = ()
    policies: tuple[str, ...] = named_option(
        "Also self-consistency steered by this policy; may be repeated.",
        "reasoning.policies:POLICIES",
        "--policy",
        multiple=True,
    )
    contexts: tuple[int, ...] = option(
        "Context of each thread; may be repeated.",
        "--max-tokens",
        type=IntRange(min=16),
        multiple=True,
        default=(512,),
    )
    model: str | None = option("A shipped model or a Hugging Face folder.", metavar="NAME|PATH")
    draft: str | None = option("A smaller model, for strategies of two.", metavar="NAME|PATH|URL")
    temperature: float | None = option("By default the strategy's own.", type=float)
    seed: int = option("Chooses the problems and the samples.", default=0)
    parallel: int = option("Problems solved at once.", type=IntRange(1, 256), default=8)
    as_json: bool = json_option("a table")

    def arms(self) -> list[Arm]:
        """What is measured, in the order of the table."""
        from reasoning.evaluation import Arm

        named: list[tuple[str, str | None]] = [(name, None) for name in self.strategies]
        named += [("self-consistency", policy) for policy in self.policies]
        return [
            Arm(
                strategy=strategy,
                policy=policy,
                temperature=self.temperature,
                seed=self.seed,
                max_tokens=context,
                parallel=self.parallel,
            )
            for strategy, policy in named
            for context in self.contexts
        ]


@settings_class
class CountdownBench(BenchSettings):
    """Countdown: accuracy, work, span and wall time of each strategy at each context."""

    numbers: int = _numbers(4, 5, 4, "Numbers in each problem; 5 is the harder set.")
    strategies: tuple[str, ...] = _strategies("single", "apr")


@settings_class
class ArithmeticBench(BenchSettings):
    """Multi-step arithmetic: accuracy, work, span and wall time of each strategy."""

    strategies: tuple[str, ...] = _strategies("single", "self-consistency")


@settings_class
class SeveralBench(BenchSettings):
    """Several expressions in one prompt: accuracy, coverage, work and span."""

    numbers: int = _numbers(2, 12, 5, "Expressions in each problem.")
    strategies: tuple[str, ...] = _strategies("single", "multiverse", "hogwild")


@settings_class
class EnumerationBench(BenchSettings):
    """So many different items: accuracy, coverage, work and span."""

    numbers: int = _numbers(2, 100, 40, "Items in a problem, at most.")
    count: int = _count(40)
    strategies: tuple[str, ...] = _strategies("group-think:n=1", "group-think")


@settings_class
class ShortestPathsBench(BenchSettings):
    """Floyd-Warshall on small graphs: accuracy, coverage, work and span."""

    numbers: int = _numbers(3, 4, 4, "Nodes of each graph.")
    strategies: tuple[str, ...] = _strategies("group-think:n=1", "group-think")


@click.group()
def bench() -> None:
    """Measure strategies on held-out problems."""


def _measure(domain: str, settings: BenchSettings) -> None:
    """Measure, and print."""
    from reasoning.evaluation import BenchResults, draw_problems, measure
    from reasoning.models.loading import load_model

    arms = settings.arms()
    for arm in arms:
        _ = arm.options  # what is wrong is told before a model is loaded
    problems = draw_problems(domain, settings.count, numbers=settings.numbers, seed=settings.seed)
    model = load_model(settings.model)
    draft = None if settings.draft is None else load_draft(settings.draft)
    for arm in arms:
        arm.choose(model, problems[0])  # what can't run is told before the first row
    rows = []
    for arm in arms:
        with progress_bar(f"{arm.strategy} @ {arm.max_tokens}", len(problems)) as advance:
            rows.append(measure(model, arm, problems, advance, draft=draft))
        if not sys.stderr.isatty():
            say(summary_line(rows[-1]))
    results = BenchResults(
        domain=domain,
        model=model.name,
        numbers=None if domain == "arithmetic" else settings.numbers,
        seed=settings.seed,
        parallel=settings.parallel,
        results=rows,
    )
    if settings.as_json:
        print_object(results)
    else:
        print_tables(_table(results))


for _domain, _kind in (
    ("countdown", CountdownBench),
    ("arithmetic", ArithmeticBench),
    ("several", SeveralBench),
    ("enumeration", EnumerationBench),
    ("shortest-paths", ShortestPathsBench),
):
    bench.command(name=_domain, help=_kind.__doc__)(options(_kind)(partial(_measure, _domain)))


def summary_line(row: BenchRow) -> str:
    """The row as one line of text."""
    low, high = row.ci95
    covered = "" if row.coverage is None else f" · coverage {row.coverage:.1%}"
    return (
        f"{row.strategy} @ {row.max_tokens}: {row.accuracy:.1%} [{low:.1%}, {high:.1%}]{covered}"
        f" · work {row.tokens:,.0f} · span {row.span:,.0f} · {row.wall_s:.1f} s{_chosen(row)}"
    )


def _chosen(row: BenchRow) -> str:
    """How the steps were chosen that a draft left to the model."""
    if row.escalated is None:
        return ""
    strangest = "" if row.strangest is None else f", {row.strangest:.1%} among the strangest"
    auroc = "" if row.auroc is None else f", AUROC of wrong chains {row.auroc:.2f}"
    return f" · escalated {row.escalated:.1%}{strangest}{auroc}"


def _table(results: BenchResults) -> Table:
    title = f"{results.domain}, {results.results[0].n} held-out problems, {results.model}"
    headings = "strategy", "context", "accuracy", "95 % interval", "work", "span", "threads"
    made = table(title, *headings, "wall s")
    for row in results.results:
        made.add_row(
            row.strategy,
            str(row.max_tokens),
            f"{row.accuracy:.1%}",
            f"{row.ci95[0]:.1%}–{row.ci95[1]:.1%}",
            f"{row.tokens:,.0f}",
            f"{row.span:,.0f}",
            f"{row.threads:.1f}",
            f"{row.wall_s:.1f}",
        )
    return made
