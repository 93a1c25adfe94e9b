"""Policies replayed over stored traces, each beside self-consistency at equal cost."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pruning import Comparison, Gain, Summary


class _ReplayValue(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class ReplayFigures(_ReplayValue):
    """One policy over the questions; tokens and span are means a question."""

    policy: str
    accuracy: float
    ci95: tuple[float, float]
    """Bootstrapped over questions."""
    tokens: float
    span: float
    """The critical path in tokens."""
    traces: float
    probes: float
    judge_tokens: float
    """Read by the judge, and charged to ``tokens`` at their price."""
    judge_seconds: float


class ReplayBaseline(ReplayFigures):
    """Self-consistency beside a policy, and what the policy gains over it."""

    gain: float
    """In accuracy, question by question."""
    gain_ci95: tuple[float, float]


class QuestionRow(_ReplayValue):
    """One question; the deltas are the policy's accuracy less the baseline's."""

    question: str
    accuracy: float
    tokens: float
    span: float
    delta_n_matched: float
    delta_token_matched: float


class ReplayRow(ReplayFigures):
    """One policy with all that stands beside it; ``n`` is the number of questions."""

    n: int
    n_matched: ReplayBaseline
    token_matched: ReplayBaseline
    questions: list[QuestionRow]


class ReplayResults(_ReplayValue):
    """What ``reason replay --json`` prints."""

    schema_: str = Field(default="reason.replay/1", alias="schema")
    traces: list[str]
    shuffles: int
    seed: int
    probe_tokens: int
    judge_price: float
    results: list[ReplayRow]


_DIGITS = {
    "accuracy": 4,
    "tokens": 1,
    "span": 1,
    "traces": 2,
    "probes": 1,
    "judge_tokens": 1,
    "judge_seconds": 4,
}


def _figures(summary: Summary) -> dict[str, Any]:
    low, high = summary.ci95
    means = {name: round(getattr(summary, name), digits) for name, digits in _DIGITS.items()}
    return means | {"ci95": (round(low, 4), round(high, 4))}


def _baseline(summary: Summary, gain: Gain) -> ReplayBaseline:
    low, high = gain.ci95
    return ReplayBaseline(
        policy=f"sc:n={round(summary.traces)}",
        gain=round(gain.mean, 4),
        gain_ci95=(round(low, 4), round(high, 4)),
        **_figures(summary),
    )


def replay_row(text: str, compared: Comparison) -> ReplayRow:
    """The row of the policy that ``text`` names."""
    n_gain, token_gain = compared.gains
    outcomes = zip(
        compared.summary.outcomes,
        compared.n_matched.outcomes,
        compared.token_matched.outcomes,
        strict=True,
    )
    return ReplayRow(
        policy=text,
        n=compared.summary.n,
        n_matched=_baseline(compared.n_matched, n_gain),
        token_matched=_baseline(compared.token_matched, token_gain),
        questions=[
            QuestionRow(
                question=ours.question,
                accuracy=round(ours.accuracy, 4),
                tokens=round(ours.tokens, 1),
                span=round(ours.span, 1),
                delta_n_matched=round(ours.accuracy - n.accuracy, 4),
                delta_token_matched=round(ours.accuracy - tokens.accuracy, 4),
            )
            for ours, n, tokens in outcomes
        ],
        **_figures(compared.summary),
    )
