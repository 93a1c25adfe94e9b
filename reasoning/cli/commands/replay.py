"""``reason replay``: stopping and voting policies over stored traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

import click
from click import FloatRange, IntRange

from orchestrator.errors import InvalidValue, importing
from reasoning.cli.options import (
    TracesOptions,
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

    from pruning import Evaluator, Question, Summary
    from reasoning.evaluation.replay import (
        Beside,
        ReplayBaseline,
        ReplayFigures,
        ReplayResults,
        ReplayRow,
    )
    from reasoning.policies import SteeredBy


@settings_class
class ReplaySettings:
    """Files of traces, and the policies that are replayed over them."""

    traces: tuple[str, ...] = argument(nargs=-1, required=True, metavar="TRACES...")
    reading: TracesOptions = field(default_factory=TracesOptions)
    policies: tuple[str, ...] = named_option(
        "A policy and its parameters, as async:k=8,cap=20000; may be repeated.",
        "reasoning.policies:POLICIES",
        "--policy",
        multiple=True,
        default=("default",),
    )
    against: str | None = option(
        "Another policy, as sc:n=64, with which each is compared too.",
        metavar="NAME[:key=value,…]",
    )
    equal: tuple[str, ...] = option(
        "Self-consistency that the table shows: with as many traces, tokens, as long a span.",
        type=click.Choice(["traces", "tokens", "span"]),
        multiple=True,
        default=("traces", "tokens"),
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
    """Replay stopping and voting policies over stored TRACES.

    These are ours, or samples that other programs have stored: see --format.

    Beside each policy stands self-consistency with as many traces and with as many tokens,
    between whole numbers of samples too.  Intervals are over questions.

    \b
    reason replay traces.jsonl.gz --policy default --policy async:k=8 --against sc:n=64
    reason replay samples_gsm8k_*.jsonl --policy sc:n=8
    """
    if settings.plot is not None:
        _pyplot()  # what is missing is told before the work
    results = _replay(settings)
    if settings.plot is not None:
        _draw(results, settings.plot)
    if settings.as_json:
        print_object(results)
    else:
        print_tables(_table(results, settings.equal))


def _replay(settings: ReplaySettings) -> ReplayResults:
    """The rows of all policies.

    Raises:
        InvalidValue: a policy or a file of traces can't be used.
    """
    from pathlib import Path

    from pruning import Evaluator, PolicyError, TracesError
    from reasoning.evaluation.replay import ReplayResults, estimated_share
    from reasoning.policies import steered_by

    shared = {name: getattr(settings, name) for name in _SHARED}
    against = [] if settings.against is None else [settings.against]
    try:
        chosen = {text: steered_by(text) for text in (*settings.policies, *against)}
        imported = settings.reading.read(settings.traces)
        questions = _fresh(imported.questions, [*chosen.values()], settings.only_unseen)
        rows = _rows(Evaluator(questions=questions, **shared), chosen, settings)
    except (PolicyError, TracesError) as error:
        raise InvalidValue(str(error)) from error
    return ReplayResults(
        traces=[Path(path).name for path in settings.traces],
        tokens_estimated=estimated_share(questions),
        results=rows,
        **shared,
    )


def _rows(
    evaluator: Evaluator, chosen: Mapping[str, SteeredBy], settings: ReplaySettings
) -> list[ReplayRow]:
    from reasoning.evaluation.replay import matched, replay_row

    summaries: dict[str, Summary] = {}
    with progress_bar("replay", len(chosen) * len(evaluator.questions)) as advance:
        evaluator.on_question = advance
        for text, one in chosen.items():
            evaluator.judge, evaluator.scorer = one.judge, one.scorer
            summaries[text] = evaluator.evaluate(one.policy)
    rows, against = [], settings.against
    for text in settings.policies:
        beside = matched(evaluator.beside(summaries[text]))
        if against is not None and text != against:
            beside["against"] = replace(summaries[against], policy=against)
        rows.append(replay_row(text, summaries[text], beside))
    return rows


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


_WORDS: dict[Beside, str] = {
    "n_matched": "as many traces",
    "token_matched": "as many tokens",
    "span_matched": "as long a span",
    "against": "asked for",
}
_EQUAL: dict[Beside, str] = {
    "n_matched": "traces",
    "token_matched": "tokens",
    "span_matched": "span",
}
_CAPTION = """Gains are in points of accuracy, paired by question, with the 95 % interval over \
questions; orders: the standard error that the orders of traces leave in a gain; for ±1: the \
questions that an interval of one point either way takes."""


def _table(results: ReplayResults, equal: Sequence[str]) -> Table:
    count, shuffles = results.results[0].n, results.shuffles
    title = f"{', '.join(results.traces)}: {count} questions, {shuffles} orders of their traces"
    if results.tokens_estimated:
        title += f"; tokens estimated of {results.tokens_estimated:.0%} of the traces"
    made = table(
        title, "policy", "accuracy (95 %)", "tokens", "span", "policy gains", "orders", "for ±1"
    )
    made.caption = _CAPTION
    for row in results.results:
        made.add_row(f"{row.policy}{_short(row, count)}", *_cells(row))
        for name, base in row.beside.items():
            if _EQUAL.get(name) in (None, *equal):
                label = f"  {base.policy} ({_WORDS[name]}){_short(base, count)}"
                made.add_row(label, *_cells(base), *_gains(base), style="dim")
    return made


def _short(figures: ReplayFigures, count: int) -> str:
    """Of which policy traces are missing, as ``16 of 64 traces``."""
    if not figures.questions_short:
        return ""
    if figures.questions_short < count:
        some = f"{figures.questions_short:,} question{'s' * (figures.questions_short > 1)}"
        return f", too few traces on {some}"
    return f", {figures.traces:.4g} of {figures.traces + figures.traces_missing:.4g} traces"


def _cells(figures: ReplayFigures) -> tuple[str, ...]:
    low, high = figures.ci95
    return (
        f"{figures.accuracy:.1%} ({100 * low:.1f}–{100 * high:.1f})",
        f"{figures.tokens:,.0f}",
        f"{figures.span:,.0f}",
    )


def _gains(base: ReplayBaseline) -> tuple[str, ...]:
    low, high = base.gain_ci95
    shown = "" if base.verdict == "undecided" else f" {base.verdict}"
    return (
        f"{100 * base.gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{shown}",
        "" if base.orders_error is None else f"±{100 * base.orders_error:.1f}",
        f"{base.questions_needed:,}",
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
            bases = {base.policy: base for base in row.beside.values()}
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
