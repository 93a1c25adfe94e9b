"""What an evaluation came to: a row for each arm, all on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from pydantic import Field

from orchestrator.errors import InvalidValue, ReasonError
from pruning import Allocation, Evaluator, PolicyError, Summary
from pruning.evaluation.statistics import summarise
from reasoning.evaluation.arms import GradedEval
from reasoning.evaluation.kept.records import StrategyRun
from reasoning.evaluation.measure import chosen
from reasoning.evaluation.replay import (
    Beside,
    CurvePoint,
    ReplayedArm,
    ReplayRow,
    ReplayValue,
    curve_points,
    evaluated,
    matched,
    replay_row,
    replayed_arm,
)
from reasoning.policies import SteeredBy
from reasoning.values.accounting import ParallelStats


class RunFigures(ReplayValue):
    """What is known of a strategy's runs beside accuracy and tokens; means are over questions."""

    wall_s: float
    """Mean, while others ran beside it."""
    prompt_tokens: float
    """Mean, given to all threads."""
    threads: float
    leaked: float
    """Mean tokens written after they were no longer wanted."""
    lost: int
    """Questions without a run, because the backend failed; no row counts them."""
    coverage: float | None = None
    """Mean share of a problem that the answer covers, where a problem has parts."""
    emulated: tuple[str, ...] = ()
    """What was done in place of what the backend lacks."""
    escalated: float | None = None
    """Share of steps that a draft left to the model."""
    strangest: float | None = None
    """Share of these among as many strangest steps, a mean over problems; by chance it is as
    ``escalated``."""
    auroc: float | None = None
    """P(a chain with a wrong answer was stranger than one with a right one), over all problems."""
    parallel: ParallelFigures | None = None
    """As `ParallelStats`; None where some run was kept before it was counted."""


class ParallelFigures(ReplayValue):
    """What a strategy's branches cost and saved, as papers count it; means over questions."""

    tokens: float
    longest_thread: float
    critical_path: float
    acceleration: float
    parallel_ratio: float
    degree: float


class PoolFigures(ReplayValue):
    """What is known of the samples over which policies were replayed."""

    samples: int
    """Those that were not lost."""
    answered: float
    """Share of the samples that gave an answer."""
    right: float
    """Share of the samples whose answer is right: the accuracy of one sample."""
    cut: float
    """Share of the samples that were cut, by their context or by ``max_new_tokens``."""
    lost: int
    """Samples that the backend lost; the same command asks for them again."""


class EvalRow(ReplayRow):
    """One arm: a policy over the samples, or the runs of a strategy."""

    runs: RunFigures | None = None
    """Of a strategy that was run."""


class EvalResults(ReplayValue):
    """What ``reason eval --json`` prints."""

    schema_: str = Field(default="reason.eval-results/1", alias="schema")
    questions: str
    model: str
    samples: int
    """Of each question, over which policies were replayed."""
    shuffles: int
    seed: int
    pool: PoolFigures | None = None
    results: list[EvalRow]
    curve: list[CurvePoint]
    """Self-consistency over the same samples; empty where there are none."""


def compared(
    graded: GradedEval,
    *,
    policies: Mapping[str, SteeredBy | Allocation],
    strategies: Sequence[str] = (),
    against: str | None = None,
    shuffles: int = 16,
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[EvalRow], list[CurvePoint]]:
    """All arms, each beside self-consistency at equal cost where there are samples, and its curve.

    Args:
        graded: The samples and runs.
        policies: Policies and allocations to be replayed, by the texts that name them.
        strategies: The texts of those that were run.
        against: The arm with which the others are compared too; it may be a policy beside these.
        progress: Called whenever a policy is done with a question.

    Raises:
        InvalidValue: there is no such arm, or nothing that an arm could be made from.
    """
    pool = [question for question in graded.pool() if question.traces]
    evaluator = None if not pool else Evaluator(questions=pool, shuffles=shuffles)
    arms = {text: ReplayedArm(_runs_of(graded, text)) for text in strategies}
    chosen = dict(policies)
    if against is not None and against not in (*arms, *chosen):
        chosen[against] = _asked_for(against)
    if chosen and evaluator is None:
        raise InvalidValue("samples: a policy is replayed over samples; there is none")
    for text, arm in chosen.items():
        assert evaluator is not None
        evaluator.on_question = progress
        arms[text] = evaluated(evaluator, text, arm)
    rows = []
    for text in (*policies, *strategies):
        beside = _beside(arms[text].summary, evaluator)
        if against is not None and text != against:
            other = _among(arms[against].summary, arms[text].summary)
            if other is not None:
                beside["against"] = replace(other, policy=against)
        row = replay_row(text, arms[text], beside)
        figures = run_figures(graded.runs(text)) if text in strategies else None
        rows.append(EvalRow(**dict(row), runs=figures))
    return rows, [] if evaluator is None else curve_points(evaluator.curve)


def _asked_for(against: str) -> SteeredBy | Allocation:
    try:
        return replayed_arm(against)
    except ReasonError as error:
        raise InvalidValue(f"against: no arm, and {error}") from error


def _runs_of(graded: GradedEval, text: str) -> Summary:
    try:
        return graded.arm(text)
    except PolicyError as error:
        raise InvalidValue(
            f"strategy: {text} has no run that was not lost; mend the backend, and go on"
        ) from error


def _among(summary: Summary, other: Summary) -> Summary | None:
    """An arm, on the questions of another only; None where it lost one of them."""
    asked = {outcome.question for outcome in other.outcomes}
    common = [one for one in summary.outcomes if one.question in asked]
    return summarise(summary.policy, common) if len(common) == len(asked) else None


def _beside(summary: Summary, evaluator: Evaluator | None) -> dict[Beside, Summary]:
    if evaluator is None:
        return {}
    asked = {outcome.question for outcome in summary.outcomes}
    if asked != {question.id for question in evaluator.questions}:
        return {}  # what was lost on some questions stands beside nothing
    return dict(matched(evaluator.beside(summary)))


def pool_figures(graded: GradedEval) -> PoolFigures | None:
    """The figures of all samples; None where there is none."""
    samples = graded.samples()
    kept = [one for one in samples if one.lost is None]
    if not kept:
        return None

    def share(counted: Iterable[bool]) -> float:
        return round(sum(counted) / len(kept), 4)

    return PoolFigures(
        samples=len(kept),
        answered=share(one.answer is not None for one in kept),
        right=share(graded.right(one) for one in kept),
        cut=share(one.ending in ("context", "max-new-tokens") for one in kept),
        lost=len(samples) - len(kept),
    )


def run_figures(runs: Sequence[StrategyRun]) -> RunFigures:
    """The figures of one strategy's runs."""
    kept = [run for run in runs if run.lost is None]
    count = len(kept) or 1
    covered = [run.coverage for run in kept if run.coverage is not None]

    def mean(name: str) -> float:
        return round(sum(float(getattr(run, name)) for run in kept) / count, 3)

    return RunFigures(
        lost=len(runs) - len(kept),
        coverage=round(sum(covered) / len(covered), 4) if covered else None,
        emulated=tuple(sorted({one for run in kept for one in run.emulated})),
        wall_s=mean("wall_s"),
        prompt_tokens=mean("prompt_tokens"),
        threads=mean("threads"),
        leaked=mean("leaked"),
        parallel=parallel_figures([run.parallel for run in kept]),
        **chosen(run.choice for run in kept),
    )


def parallel_figures(runs: Sequence[ParallelStats | None]) -> ParallelFigures | None:
    """The means of runs' figures; None where there is none, or one is not known."""
    known = [one for one in runs if one is not None]
    if not known or len(known) < len(runs):
        return None

    def mean(name: str) -> float:
        return round(sum(float(getattr(one, name)) for one in known) / len(known), 4)

    return ParallelFigures(**{name: mean(name) for name in ParallelFigures.model_fields})
