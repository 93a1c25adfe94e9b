"""``reason calibrate``: the threshold under which a judge may prune, or what steps score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

import click
from click import IntRange

from orchestrator.errors import InvalidValue
from reasoning.cli.options import (
    BackendOptions,
    argument,
    model_option,
    named_draft,
    option,
    options,
    settings_class,
)
from reasoning.cli.printing import print_object, print_tables, progress_bar, say, table

if TYPE_CHECKING:
    from rich.table import Table

    from pruning import DeepPrune, Question
    from reasoning.judging.calibration import Calibration


@settings_class
class CalibrateSettings:
    """A judge, a policy, and the risk that its merges may have; or two models for atts."""

    traces: tuple[str, ...] = argument(nargs=-1, required=True, metavar="TRACES...")
    folder: str | None = option("A trained judge.", "--judge", metavar="FOLDER")
    draft: str | None = model_option(
        "In place of a judge: the smaller model of atts, whose steps at the questions are scored.",
        metavar="NAME|PATH|URL",
    )
    model: str | None = model_option("The larger model, with --draft.")
    backend: BackendOptions = field(default_factory=BackendOptions)
    strategy: str = option(
        "With --draft: atts and its settings.",
        default="atts",
        metavar="NAME[:key=value,…]",
    )
    max_tokens: int | None = option(
        "With --draft: the context of each chain; by default the model's.", type=IntRange(min=16)
    )
    seed: int = option("With --draft: chooses what is drawn.", default=0)
    output: str = option("The calibration, JSON.", "--output", "-o", required=True, metavar="FILE")
    risk: float = option("The mean share of a question's merges that may be wrong.", default=0.1)
    delta: float = option(
        "How probable it may be that the risk is exceeded after all.", default=0.1
    )
    policy: str = option(
        "What is calibrated: deepprune, with all but its tau.",
        default="deepprune:vote=soft",
        metavar="NAME[:key=value,…]",
    )
    orders: int = option("Orders of each question's traces.", type=IntRange(1, 1000), default=4)
    as_json: bool = option("Print the calibration, not a table.", "--json", is_flag=True)


@click.command()
@options(CalibrateSettings)
def calibrate(settings: CalibrateSettings) -> None:
    """Choose the threshold under which a judge may prune, if there is one, on new questions.

    With --draft: store what the steps of a draft score with a model, for atts to begin with.

    Learn-then-Test: with probability 1 - delta the rate of wrong merges is at most the risk.  The
    file belongs to this judge and this policy; without a valid threshold it keeps the policy from
    pruning.

    \b
    reason calibrate traces.jsonl.gz --judge judge --risk 0.1 --delta 0.1 --output gate.json
    reason replay more.jsonl.gz --policy deepprune:judge=judge,calibration=gate.json
    reason calibrate traces.jsonl.gz --draft reason-1m --output steps.json
    reason solve "…" --strategy atts:calibration=steps.json --draft reason-1m
    """
    if (settings.folder is None) == (settings.draft is None):
        raise InvalidValue("judge, draft: give one of the two, to calibrate a judge or atts")
    if settings.draft is not None:
        _calibrate_steps(settings, settings.draft)
    else:
        _calibrate_judge(settings, settings.folder or "")


def _calibrate_judge(settings: CalibrateSettings, folder: str) -> None:
    from pathlib import Path

    from reasoning.evaluation.importers import read_traces
    from reasoning.judging.calibration import RiskTarget, calibrate, write
    from reasoning.judging.judge import LearnedJudge

    target = RiskTarget(risk=settings.risk, delta=settings.delta)
    policy = _deepprune(settings.policy)
    questions = read_traces(settings.traces)
    learned = LearnedJudge.load(folder)
    if "prefix=" not in settings.policy:
        policy = replace(policy, prefix=learned.cut.tokens)
    policy = _as_wide(policy, questions, given=re.search(r"[:,]n=", settings.policy) is not None)
    with progress_bar("calibrate", len(questions)) as advance:
        found = calibrate(
            learned, questions, target, policy=policy, orders=settings.orders, on_question=advance
        )
    write(found, Path(settings.output))
    if settings.as_json:
        print_object(found)
        return
    print_tables(_table(found))
    said = f"tau = {found.tau:g}" if found.tau is not None else f"the gate is shut: {found.why}"
    say(f"{settings.output}: {said}", err=False)


def _as_wide(policy: DeepPrune, questions: Sequence[Question], *, given: bool) -> DeepPrune:
    """The policy at the width of the traces, unless its own was given.

    Raises:
        InvalidValue: a question has fewer traces than the policy launches, so that what is measured
            is another policy's rate.
    """
    width = min(len(question.traces) for question in questions)
    if not given:
        return replace(policy, n=width)
    if width < policy.n:
        raise InvalidValue(
            f"policy: it launches {policy.n} traces, and a question has {width}; give n={width}, "
            "or more traces"
        )
    return policy


def _calibrate_steps(settings: CalibrateSettings, draft: str) -> None:
    """Store what the steps of a draft score at the questions of some traces."""
    from pathlib import Path

    import anyio

    from reasoning.evaluation.importers import read_traces
    from reasoning.evaluation.steps import calibrate_steps
    from reasoning.options import SolveOptions
    from reasoning.strategies import STRATEGIES
    from reasoning.strategies.atts import Atts

    atts = STRATEGIES.make(settings.strategy)
    if not isinstance(atts, Atts):
        raise InvalidValue(f"strategy: {settings.strategy!r} has no steps to score; give atts")
    asked = [question.words for question in read_traces(settings.traces)]
    if not all(asked):
        raise InvalidValue("traces: a question's words are missing; give some that have them")
    models = settings.backend.load(settings.model), named_draft(draft).load()
    how = SolveOptions(seed=settings.seed, max_tokens=settings.max_tokens)
    with progress_bar("calibrate", len(asked)) as advance:
        found = anyio.run(calibrate_steps, models, atts, asked, how, advance)
    Path(settings.output).write_text(found.model_dump_json(by_alias=True) + "\n")
    if settings.as_json:
        print_object(found)
        return
    steps = sum(len(scores) for _, scores in found.scores)
    said = f"{found.draft} for {found.model}: {steps} steps of {found.questions} questions"
    say(f"{settings.output}: {said}, scored by the {found.scored_by}", err=False)


def _deepprune(text: str) -> DeepPrune:
    """The policy to be calibrated.

    Raises:
        InvalidValue: it merges no traces, or its threshold is given.
    """
    from pruning import DeepPrune
    from reasoning.policies import parse_policy

    policy = parse_policy(text)
    if not isinstance(policy, DeepPrune):
        raise InvalidValue(f"policy: {text!r} merges nothing; give deepprune")
    if "tau=" in text:
        raise InvalidValue("policy: tau is what is chosen; leave it out")
    return policy


def _table(found: Calibration) -> Table:
    title = (
        f"Wrong merges: at most {found.risk:g} with probability {1 - found.delta:g}? "
        f"{found.questions} questions"
    )
    made = table(title, "tau", "rate", "merges a question", "p-value", "valid")
    for one in found.tried:
        valid = "yes" if one.valid else "no"
        made.add_row(
            f"{one.tau:g}", f"{one.loss:.3f}", f"{one.merges:.2f}", f"{one.p_value:.3g}", valid
        )
    return made
