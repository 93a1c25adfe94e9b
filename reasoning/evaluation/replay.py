"""Arms over the same questions, each beside self-consistency at equal cost and beside another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import InvalidValue, ReasonError
from pruning import (
    Allocation,
    BaselineCurve,
    Evaluator,
    PolicyError,
    Question,
    Summary,
    gain,
)
from pruning.evaluation.allocating import allocate
from pruning.judge.pairs import unseen
from reasoning.policies import SteeredBy, parse_allocation, steered_by

Beside: TypeAlias = Literal["n_matched", "token_matched", "span_matched", "against"]
"""What stands beside an arm: self-consistency with as many traces or tokens or as long a span, or
the arm that was asked for."""


class ReplayValue(BaseModel):
    """A frozen value of what is printed."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class ReplayFigures(ReplayValue):
    """One arm over the questions; tokens and span are means a question."""

    policy: str
    accuracy: float
    ci95: tuple[float, float]
    """Over questions."""
    tokens: float
    span: float
    """The critical path in tokens."""
    traces: float
    traces_missing: float
    """How many more it would have launched, had they been stored."""
    questions_short: int
    """On how many questions traces were missing."""
    probes: float
    judge_tokens: float
    """Read by the judge, and charged to ``tokens`` at their price."""
    judge_seconds: float


class ReplayBaseline(ReplayFigures):
    """What stands beside an arm, and what the arm gains over it."""

    gain: float
    """In accuracy, question by question."""
    gain_ci95: tuple[float, float]
    verdict: Literal["better", "worse", "undecided"]
    """The sign of the gain, where its interval excludes 0."""
    orders_error: float | None
    """The standard error of ``gain`` from the orders of traces alone; null where it isn't known."""
    questions_needed: int
    """How many such questions an interval of ±1 point takes."""


class QuestionRow(ReplayValue):
    """One question; the deltas are the arm's accuracy less that of what stands beside it."""

    question: str
    accuracy: float
    tokens: float
    span: float
    delta_n_matched: float | None = None
    delta_token_matched: float | None = None
    delta_span_matched: float | None = None
    delta_against: float | None = None


class BatchFigures(ReplayValue):
    """What one budget for all questions came to, as means over orders."""

    rounds: float
    span: float
    """The clock, in tokens, at which the last round ended."""


class ReplayedArm(NamedTuple):
    """What an arm came to, and of an allocation what its rounds were."""

    summary: Summary
    batch: BatchFigures | None = None


class ReplayRow(ReplayFigures):
    """One arm with all that stands beside it; ``n`` is the number of questions."""

    n: int
    batch: BatchFigures | None = None
    """Of an allocation."""
    n_matched: ReplayBaseline | None = None
    token_matched: ReplayBaseline | None = None
    span_matched: ReplayBaseline | None = None
    against: ReplayBaseline | None = None
    questions: list[QuestionRow]

    @property
    def beside(self) -> dict[Beside, ReplayBaseline]:
        """What stands beside it; an arm does not stand beside itself."""
        both: dict[Beside, ReplayBaseline | None] = {
            "n_matched": self.n_matched,
            "token_matched": self.token_matched,
            "span_matched": self.span_matched,
            "against": self.against,
        }
        known = {name: one for name, one in both.items() if one is not None}
        return {name: one for name, one in known.items() if one.policy != self.policy}


class CurvePoint(ReplayValue):
    """Self-consistency with ``n`` samples, as means over questions."""

    n: int
    accuracy: float
    tokens: float
    span: float


class ReplayResults(ReplayValue):
    """What ``reason replay --json`` prints."""

    schema_: str = Field(default="reason.replay/1", alias="schema")
    traces: list[str]
    shuffles: int
    seed: int
    probe_tokens: int
    judge_price: float
    tokens_estimated: float = 0.0
    """The share of traces whose tokens were not counted, but follow from their length."""
    results: list[ReplayRow]
    curve: list[CurvePoint]
    """Self-consistency over the same traces."""


def estimated_share(questions: Sequence[Question]) -> float:
    """The share of traces whose tokens were not counted."""
    traces = [trace for question in questions for trace in question.traces]
    return round(sum(trace.estimated for trace in traces) / len(traces), 4)


_DIGITS = {
    "accuracy": 4,
    "tokens": 1,
    "span": 1,
    "traces": 2,
    "traces_missing": 2,
    "probes": 1,
    "judge_tokens": 1,
    "judge_seconds": 4,
}


def replayed_arm(text: str) -> SteeredBy | Allocation:
    """The policy, or the allocation, that a text names.

    Raises:
        UnknownName, InvalidValue: as `steered_by` and `parse_allocation`.
    """
    spreads = text.partition(":")[0] == Allocation.name
    return parse_allocation(text) if spreads else steered_by(text)


def fresh_to(
    chosen: Iterable[SteeredBy | Allocation | None], questions: Iterable[Question]
) -> list[Question]:
    """The questions that no judge or calibration among policies has seen."""
    return unseen(
        questions, {mark for one in chosen if isinstance(one, SteeredBy) for mark in one.seen}
    )


def replayed_arms(
    evaluator: Evaluator, chosen: Mapping[str, SteeredBy | Allocation]
) -> dict[str, ReplayedArm]:
    """Policies and allocations over all questions, by the texts that name them.

    Raises:
        InvalidValue: one needs what the traces lack; or it is somebody's own, and fails.
    """
    return {text: _replayed(evaluator, text, arm) for text, arm in chosen.items()}


def _replayed(evaluator: Evaluator, text: str, arm: SteeredBy | Allocation) -> ReplayedArm:
    if isinstance(arm, Allocation):
        spread = allocate(evaluator, arm)
        batch = BatchFigures(rounds=round(spread.rounds, 2), span=round(spread.span, 1))
        return ReplayedArm(spread.summary, batch)
    evaluator.judge, evaluator.scorer = arm.judge, arm.scorer
    try:
        return ReplayedArm(evaluator.evaluate(arm.policy))
    except PolicyError as error:
        raise InvalidValue(str(error)) from error
    except ReasonError:
        raise
    except Exception as error:  # whatever somebody else's code does
        raise InvalidValue(
            f"policy: {text}: {type(error).__name__}: {error}; mend it, REASON_DEBUG=1 shows where"
        ) from error


def replay_row(text: str, arm: ReplayedArm, beside: Mapping[Beside, Summary]) -> ReplayRow:
    """The row of the arm that ``text`` names.

    Raises:
        PolicyError: what stands beside it is over other questions.
    """
    summary = arm.summary
    baselines: dict[str, Any] = {name: _baseline(summary, other) for name, other in beside.items()}
    return ReplayRow(
        policy=text,
        n=summary.n,
        batch=arm.batch,
        questions=_questions(summary, beside),
        **baselines,
        **_figures(summary),
    )


def arm_rows(
    arms: Mapping[str, ReplayedArm],
    shown: Sequence[str],
    evaluator: Evaluator | None,
    against: str | None = None,
) -> list[ReplayRow]:
    """The rows of the ``shown`` arms, each beside self-consistency at equal cost, and ``against``.

    An arm that was lost on some questions stands beside no self-consistency, which is over all; and
    ``against`` stands beside an arm on the questions of this, where it has all of them.
    """
    rows = []
    for text in shown:
        summary = arms[text].summary
        beside = {} if evaluator is None else _equal(evaluator, summary)
        other = None if against in (None, text) else _among(arms[str(against)].summary, summary)
        if other is not None:
            beside["against"] = replace(other, policy=str(against))
        rows.append(replay_row(text, arms[text], beside))
    return rows


def _equal(evaluator: Evaluator, summary: Summary) -> dict[Beside, Summary]:
    """Self-consistency at equal costs."""
    if _asked(summary) != {question.id for question in evaluator.questions}:
        return {}
    found = evaluator.beside(summary)
    return {
        "n_matched": found.n_matched,
        "token_matched": found.token_matched,
        "span_matched": found.span_matched,
    }


def _among(summary: Summary, other: Summary) -> Summary | None:
    """An arm on the questions of another only; None where it lost one of them."""
    asked = _asked(other)
    return summary.over(asked) if asked <= _asked(summary) else None


def _asked(summary: Summary) -> set[str]:
    return {outcome.question for outcome in summary.outcomes}


def curve_points(curve: BaselineCurve) -> list[CurvePoint]:
    """Self-consistency with 1, 2, ... samples, and in steps of a tenth from 10 on."""
    counts, n = [], 1
    while n < curve.most:
        counts.append(n)
        n += max(1, n // 10)
    summaries = ((n, curve.summary(n)) for n in (*counts, curve.most))
    return [
        CurvePoint(
            n=n,
            accuracy=round(one.accuracy, 4),
            tokens=round(one.tokens, 1),
            span=round(one.span, 1),
        )
        for n, one in summaries
    ]


def _figures(summary: Summary) -> dict[str, Any]:
    means = {name: round(getattr(summary, name), digits) for name, digits in _DIGITS.items()}
    return means | {"ci95": _rounded(summary.ci95), "questions_short": summary.questions_short}


def _baseline(summary: Summary, other: Summary) -> ReplayBaseline:
    gained = gain(summary, other)
    error = gained.orders_error
    return ReplayBaseline(
        policy=other.policy,
        gain=round(gained.mean, 4),
        gain_ci95=_rounded(gained.ci95),
        verdict=gained.verdict,
        orders_error=None if error is None else round(error, 5),
        questions_needed=gained.questions_needed,
        **_figures(other),
    )


def _questions(summary: Summary, beside: Mapping[Beside, Summary]) -> list[QuestionRow]:
    theirs = {
        name: {outcome.question: outcome.accuracy for outcome in other.outcomes}
        for name, other in beside.items()
    }
    return [
        QuestionRow(
            question=ours.question,
            accuracy=round(ours.accuracy, 4),
            tokens=round(ours.tokens, 1),
            span=round(ours.span, 1),
            **{
                f"delta_{name}": round(ours.accuracy - accuracies[ours.question], 4)
                for name, accuracies in theirs.items()
                if ours.question in accuracies
            },
        )
        for ours in summary.outcomes
    ]


def _rounded(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    return round(low, 4), round(high, 4)
