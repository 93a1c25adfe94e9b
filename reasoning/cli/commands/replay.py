"""``reason replay``: stopping and voting policies over stored traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click import FloatRange, IntRange

from orchestrator.errors import InvalidValue, importing
from reasoning.cli.options import (
    argument,
    json_option,
    named_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import print_object, print_tables, progress_bar, table, warn

if TYPE_CHECKING:
    from rich.table import Table

    from pruning import Comparison, Evaluator, Question
    from reasoning.evaluation.replay import ReplayFigures, ReplayResults
    from reasoning.policies import SteeredBy


@settings_class
class ReplaySettings:
    """Files of traces, and the policies that are replayed over them."""

    traces: tuple[str, ...] = argument(nargs=-1, required=True, metavar="TRACES...")
    policies: tuple[str, ...] = named_option(
        "A policy and its parameters, as async:k=8,cap=20000; may be repeated.",
        "reasoning.policies:POLICIES",
        "--policy",
        multiple=True,
        default=("default",),
    )
    shuffles: int = option(
        "Orders in which each question's traces are launched.", type=IntRange(1, 1000), default=16
    )
    seed: int = option("The same seed gives the same orders.", default=0)
    probe_tokens: int = option(
        "What one probe of a running trace costs.", type=IntRange(0, 10_000), default=0
    )
    judge_price: float = option(
        "What a token costs that a judge reads.", type=FloatRange(0, 1000), default=1.0
    )
    only_unseen: bool = option(
        "Leave out what a judge or calibration has seen.", "--unseen", is_flag=True
    )
    as_json: bool = json_option("a table")
    plot: str | None = option("Draw accuracy against tokens and against span.", metavar="FILE")


_SHARED = ("shuffles", "seed", "probe_tokens", "judge_price")
"""Settings that the evaluator has too, and the results repeat."""


@click.command()
@options(ReplaySettings)
def replay(settings: ReplaySettings) -> None:
    """Replay stopping and voting policies over stored TRACES, JSON lines, gzipped or not.

    Beside each policy stands self-consistency with as many traces and with as many tokens.
    Intervals are over questions.

    \b
    reason replay traces.jsonl.gz --policy default --policy sc:n=64
    """
    if settings.plot is not None:
        _pyplot()  # what is missing is told before the work
    results = _replay(settings)
    if settings.plot is not None:
        _draw(results, settings.plot)
    if settings.as_json:
        print_object(results)
    else:
        print_tables(_table(results))


def _replay(settings: ReplaySettings) -> ReplayResults:
    """The rows of all policies.

    Raises:
        InvalidValue: a policy or a file of traces can't be used.
    """
    from pathlib import Path

    from pruning import Evaluator, PolicyError
    from reasoning.evaluation.replay import ReplayResults, replay_row
    from reasoning.evaluation.traces import read_traces
    from reasoning.policies import steered_by

    shared = {name: getattr(settings, name) for name in _SHARED}
    try:
        chosen = [steered_by(text) for text in settings.policies]
        questions = _fresh(read_traces(settings.traces), chosen, settings.only_unseen)
        compared = _compare(Evaluator(questions=questions, **shared), chosen)
    except PolicyError as error:
        raise InvalidValue(str(error)) from error
    return ReplayResults(
        traces=[Path(path).name for path in settings.traces],
        results=[
            replay_row(text, one) for text, one in zip(settings.policies, compared, strict=True)
        ],
        **shared,
    )


def _compare(evaluator: Evaluator, chosen: Sequence[SteeredBy]) -> list[Comparison]:
    compared = []
    with progress_bar("replay", 3 * len(chosen) * len(evaluator.questions)) as advance:
        evaluator.on_question = advance
        for one in chosen:
            evaluator.judge = one.judge
            compared.append(evaluator.compare(one.policy))
    return compared


def _fresh(
    questions: list[Question], chosen: Sequence[SteeredBy], only_unseen: bool
) -> list[Question]:
    """The questions, without those that a judge or calibration has seen, or with a note of them."""
    from pruning.judge.pairs import unseen

    fresh = unseen(questions, frozenset().union(*(one.seen for one in chosen)))
    if only_unseen:
        return fresh
    if len(fresh) < len(questions):
        warn(
            f"a judge or its calibration has seen {len(questions) - len(fresh)} of "
            f"{len(questions)} questions; --unseen leaves them out"
        )
    return questions


def _table(results: ReplayResults) -> Table:
    count, shuffles = results.results[0].n, results.shuffles
    title = f"{', '.join(results.traces)}: {count} questions, {shuffles} orders of their traces"
    made = table(title, "policy", "accuracy", "95 % interval", "tokens", "span", "policy gains")
    for row in results.results:
        made.add_row(row.policy, *_cells(row), "")
        for name, base in (("as many traces", row.n_matched), ("tokens", row.token_matched)):
            low, high = base.gain_ci95
            gained = f"{base.gain:+.1%} ({low:+.1%} to {high:+.1%})"
            made.add_row(f"  {base.policy} ({name})", *_cells(base), gained, style="dim")
    return made


def _cells(figures: ReplayFigures) -> tuple[str, ...]:
    low, high = figures.ci95
    return (
        f"{figures.accuracy:.1%}",
        f"{low:.1%}–{high:.1%}",
        f"{figures.tokens:,.0f}",
        f"{figures.span:,.0f}",
    )


def _pyplot() -> Any:
    """Matplotlib, which draws into files only.

    Raises:
        ExtraMissing: it is not installed.
    """
    with importing("pruning", "plot"):
        import matplotlib
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def _draw(results: ReplayResults, target: str) -> None:
    """Accuracy against tokens and against span, each with its interval and the baselines.

    Raises:
        ExtraMissing: matplotlib is not installed.
        InvalidValue: the file can't be written.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, cost in zip(axes, ("tokens", "span"), strict=True):
        for number, row in enumerate(results.results):
            bases = {base.policy: base for base in (row.n_matched, row.token_matched)}
            for figures, marker in ((row, "o"), *((base, "x") for base in bases.values())):
                low, high = figures.ci95
                axis.errorbar(
                    getattr(figures, cost),
                    figures.accuracy,
                    yerr=[[figures.accuracy - low], [high - figures.accuracy]],
                    fmt=marker,
                    color=f"C{number}",
                    alpha=1.0 if marker == "o" else 0.4,
                    label=figures.policy if marker == "o" else None,
                )
        axis.set_xscale("log")
        axis.set_xlabel(f"{cost} a question")
    axes[0].set_ylabel("accuracy")
    axes[0].legend()
    try:
        figure.savefig(target)
    except (OSError, ValueError) as error:
        raise InvalidValue(f"plot: {error}; give a file such as replay.png") from error
    finally:
        plt.close(figure)
