"""``reason replay``: stopping and voting policies over stored traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click import FloatRange, IntRange

from orchestrator.errors import InvalidValue
from reasoning.cli.arms_table import arms_table
from reasoning.cli.commands.kept.samples import answers_of, check_samples, run_called
from reasoning.cli.options import (
    RunStoreOptions,
    TracesOptions,
    argument,
    json_option,
    named_option,
    option,
    options,
    settings_class,
)
from reasoning.cli.picture import check_picture, draw
from reasoning.cli.printing import print_object, print_tables, progress_bar, warn

if TYPE_CHECKING:
    from pruning import Allocation, Question
    from reasoning.evaluation.replay import ReplayResults
    from reasoning.policies import SteeredBy


@settings_class
class ReplaySettings:
    """Files of traces, or kept runs, and the policies that are replayed over them."""

    traces: tuple[str, ...] = argument(nargs=-1, required=True, metavar="TRACES|RUN...")
    reading: TracesOptions = field(default_factory=TracesOptions)
    place: RunStoreOptions = field(default_factory=RunStoreOptions)
    policies: tuple[str, ...] = named_option(
        "A policy, as async:k=8,cap=20000, or one budget for all questions, as "
        "allocation:mean=8; may be repeated.",
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
    plot: tuple[str, ...] = option(
        "Draw accuracy against tokens and against span; repeat for other formats.",
        metavar="FILE",
        multiple=True,
    )


_SHARED = ("shuffles", "seed", "probe_tokens", "judge_price")
"""Settings that the evaluator has too, and the results repeat."""


@click.command()
@options(ReplaySettings)
def replay(settings: ReplaySettings) -> None:
    """Replay stopping and voting policies over stored TRACES, or the samples of a kept RUN.

    Traces are ours, or samples that other programs have stored: see --format.  A run, also one of
    reason eval, is named by the beginning of its id, or last; see reason runs.

    Beside each policy stands self-consistency with as many traces and with as many tokens,
    between whole numbers of samples too.  Intervals are over questions.

    \b
    reason replay traces.jsonl.gz --policy default --policy async:k=8 --against sc:n=64
    reason replay samples_gsm8k_*.jsonl --policy sc:n=8
    reason replay last --policy async:k=3
    """
    for target in settings.plot:
        check_picture(target)  # what is wrong is told before the work
    results = _replay(settings)
    title = f"{', '.join(results.traces)}: {results.results[0].n} questions"
    for target in settings.plot:
        draw(title, results.results, results.curve, target)
    if settings.as_json:
        print_object(results)
    else:
        title = f"{title}, {results.shuffles} orders of their traces"
        if results.tokens_estimated:
            title += f"; tokens estimated of {results.tokens_estimated:.0%} of the traces"
        print_tables(arms_table(title, results.results, settings.equal))


def _replay(settings: ReplaySettings) -> ReplayResults:
    """The rows of all policies.

    Raises:
        InvalidValue: a policy or a file of traces can't be used.
    """
    from tempfile import TemporaryDirectory

    from pruning import Evaluator, PolicyError, TracesError
    from reasoning.evaluation.replay import (
        ReplayResults,
        arm_rows,
        curve_points,
        estimated_share,
        replayed_arm,
        replayed_arms,
    )

    shared = {name: getattr(settings, name) for name in _SHARED}
    against = [] if settings.against is None else [settings.against]
    try:
        chosen = {text: replayed_arm(text) for text in (*settings.policies, *against)}
        with TemporaryDirectory() as folder:
            named = [_file(name, settings.place, Path(folder)) for name in settings.traces]
            imported = settings.reading.read([str(path) for path in named])
        questions = _fresh(imported.questions, [*chosen.values()], settings.only_unseen)
        evaluator = Evaluator(questions=questions, **shared)
        with progress_bar("replay", len(chosen) * len(questions)) as evaluator.on_question:
            arms = replayed_arms(evaluator, chosen)
        rows = arm_rows(arms, settings.policies, evaluator, settings.against)
    except (PolicyError, TracesError) as error:
        raise InvalidValue(str(error)) from error
    return ReplayResults(
        traces=[path.name for path in named],
        tokens_estimated=estimated_share(questions),
        results=rows,
        curve=curve_points(evaluator.curve),
        **shared,
    )


def _file(name: str, place: RunStoreOptions, folder: Path) -> Path:
    """A file of traces, or one in ``folder`` that is made of a kept run.

    Raises:
        UnknownName: no such run is kept.
        InvalidValue: it has no samples.
    """
    run = run_called(name, place)
    if run is None:
        return Path(name)
    if run.command == "eval":
        return answers_of(run)
    check_samples(run)
    made = folder / f"run-{run.id}.jsonl"
    made.write_text(run.report.model_dump_json(by_alias=True) + "\n", encoding="utf-8")
    return made


def _fresh(
    questions: list[Question], chosen: Sequence[SteeredBy | Allocation], only_unseen: bool
) -> list[Question]:
    """The questions, without those that a judge or calibration has seen, or with a note of them."""
    from reasoning.evaluation.replay import fresh_to

    fresh = fresh_to(chosen, questions)
    if only_unseen:
        return fresh
    if len(fresh) < len(questions):
        warn(
            f"a judge or its calibration has seen {len(questions) - len(fresh)} of "
            f"{len(questions)} questions; --unseen leaves them out"
        )
    return questions
