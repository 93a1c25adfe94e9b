"""What an evaluation came to: a row for each arm, all on the same questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from pydantic import Field

from orchestrator.errors import InvalidValue, ReasonError
from pruning import Allocation, Evaluator, PolicyError
from reasoning.evaluation.arms import GradedEval
from reasoning.evaluation.kept.records import Record, StrategyRun
from reasoning.evaluation.measure import chosen
from reasoning.evaluation.replay import (
    CurvePoint,
    ReplayedArm,
    ReplayRow,
    ReplayValue,
    arm_rows,
    curve_points,
    replayed_arm,
    replayed_arms,
)
from reasoning.evaluation.run import TooManyLost
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
    forked: float | None = None
    """Share of the runs in which a model forked that does so by itself; None for other arms."""

    def __str__(self) -> str:
        parts = [f"{self.threads:.1f} threads", f"{self.wall_s:.1f} s a question"]
        parts += [] if self.coverage is None else [f"coverage {self.coverage:.1%}"]
        parts += [f"{self.leaked:.1f} tokens leaked"] if self.leaked else []
        parts += [f"lost on {self.lost:,} questions"] if self.lost else []
        parts += [] if self.forked is None else [f"forked in {self.forked:.1%}"]
        parts += [f"emulated: {', '.join(self.emulated)}"] if self.emulated else []
        if self.escalated is not None:
            parts.append(f"escalated {self.escalated:.1%}")
            parts += [] if self.strangest is None else [f"{self.strangest:.1%} among the strangest"]
            parts += [] if self.auroc is None else [f"AUROC of wrong chains {self.auroc:.2f}"]
        return " · ".join(parts)


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
    logprobs: float | None = None
    """Share of the samples whose log-probability the backend told; null in older results."""

    def __str__(self) -> str:
        parts = [
            f"{self.samples:,} samples",
            f"{self.right:.1%} right",
            f"{self.answered:.1%} answered",
        ]
        parts += [f"{self.cut:.1%} cut before their end"] if self.cut else []
        parts += [f"{self.lost:,} lost"] if self.lost else []
        if self.logprobs is not None and self.logprobs < 1:
            parts.append(f"log-probabilities of {self.logprobs:.0%}, as the backend told them")
        return " · ".join(parts)


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

    @property
    def title(self) -> str:
        """The questions, how many were asked, and the model."""
        count = max(row.n for row in self.results)
        return f"{self.questions}, {count} questions, {self.model}"


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
        TooManyLost: all that an arm could be made from was lost.
    """
    pool = [question for question in graded.pool() if question.traces]
    evaluator = None
    if pool:
        evaluator = Evaluator(questions=pool, shuffles=shuffles, on_question=progress)
    arms = {text: _runs_of(graded, text) for text in strategies}
    chosen = dict(policies)
    if against is not None and against not in (*arms, *chosen):
        chosen[against] = _asked_for(against)
    if evaluator is not None:
        arms |= replayed_arms(evaluator, chosen)
    elif chosen:
        raise _none_left("samples", graded.samples())
    figures = {text: run_figures(graded.runs(text)) for text in strategies}
    rows = [
        EvalRow(**dict(row), runs=figures.get(row.policy))
        for row in arm_rows(arms, (*policies, *strategies), evaluator, against)
    ]
    return rows, [] if evaluator is None else curve_points(evaluator.curve)


def _asked_for(against: str) -> SteeredBy | Allocation:
    try:
        return replayed_arm(against)
    except ReasonError as error:
        raise InvalidValue(f"against: no arm, and {error}") from error


def _runs_of(graded: GradedEval, text: str) -> ReplayedArm:
    try:
        return ReplayedArm(graded.arm(text))
    except PolicyError as error:
        raise _none_left(f"strategy: {text}", graded.runs(text)) from error


def _none_left(what: str, records: Sequence[Record]) -> ReasonError:
    if not records:
        return InvalidValue(f"{what}: there is none; give --samples, and ask")
    (why, _), *_ = Counter(one.lost for one in records).most_common(1)
    return TooManyLost(
        f"{what}: all {len(records):,} were lost ({why}); mend that and give the same command to "
        "go on"
    )


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
        logprobs=share(one.logprob is not None for one in kept),
    )


def run_figures(runs: Sequence[StrategyRun]) -> RunFigures:
    """The figures of one strategy's runs."""
    kept = [run for run in runs if run.lost is None]
    count = len(kept) or 1
    covered = [run.coverage for run in kept if run.coverage is not None]
    forked = [run.forked for run in kept if run.forked is not None]

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
        forked=round(sum(forked) / len(forked), 4) if forked else None,
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
