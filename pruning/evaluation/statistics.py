"""Policies over many questions: means, intervals, and a comparison with self-consistency.

The unit is the question.  Outcomes over orders of one question's traces are averaged first, and
intervals are bootstrapped over questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from pruning.evaluation.replay import Replay, Replayed
from pruning.evaluation.traces import Question, Trace
from pruning.judge.session import Judge
from pruning.policies.consensus import FixedSamples
from pruning.policy import Policy, PolicyError

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class _Means:
    """What is measured of every run, as a mean.

    Attributes:
        accuracy: The share of right answers.
        tokens, span: Work and critical path, in tokens.
        traces, probes: How many were launched and answered.
    """

    accuracy: float
    tokens: float
    span: float
    traces: float
    probes: float
    judge_tokens: float = 0.0
    judge_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class QuestionOutcome(_Means):
    """One policy on one question, as means over orders of its traces."""

    question: str


@dataclass(frozen=True, kw_only=True)
class Summary(_Means):
    """One policy over all questions: means, and the 95 % interval of the accuracy."""

    policy: str
    n: int
    ci95: tuple[float, float]
    outcomes: tuple[QuestionOutcome, ...]


COSTS = ("tokens", "span", "traces", "probes", "judge_tokens", "judge_seconds")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The accuracy of one policy less that of another, by question, with a 95 % interval."""

    mean: float
    ci95: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A policy beside self-consistency with as many traces, and with as many tokens."""

    summary: Summary
    n_matched: Summary
    token_matched: Summary

    @property
    def gains(self) -> tuple[Gain, Gain]:
        """The gain over each of the two."""
        return gain(self.summary, self.n_matched), gain(self.summary, self.token_matched)


def bootstrap(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean, resampling ``values`` (Efron 1979)."""
    rng = Random(seed)
    count = len(values)
    means = sorted(sum(rng.choices(values, k=count)) / count for _ in range(RESAMPLES))
    return means[round(0.025 * (RESAMPLES - 1))], means[round(0.975 * (RESAMPLES - 1))]


def gain(summary: Summary, other: Summary) -> Gain:
    """The accuracy of ``summary`` less that of ``other``, paired by question."""
    deltas = [
        ours.accuracy - theirs.accuracy
        for ours, theirs in zip(summary.outcomes, other.outcomes, strict=True)
    ]
    return Gain(mean=mean(deltas), ci95=bootstrap(deltas))


@dataclass(kw_only=True)
class Evaluator:
    """Replays policies over the same shuffles of the same questions.

    Attributes:
        shuffles: How many orders of each question's traces; the same ones for every policy.
        probe_tokens: The price of a probe, in tokens.
        judge_price: The price of a token that the judge reads.
        on_question: Called whenever a policy is done with a question.
    """

    questions: Sequence[Question]
    shuffles: int = 16
    seed: int = 0
    judge: Judge | None = None
    probe_tokens: int = 0
    judge_price: float = 1.0
    on_question: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        if not self.questions:
            raise PolicyError("traces: no question; give a file with at least one")
        if self.shuffles < 1:
            raise PolicyError(f"shuffles: {self.shuffles} is out of range; give 1 or more")
        self._baselines: dict[int, Summary] = {}

    def order(self, question: Question, shuffle: int) -> list[Trace]:
        """The traces in one of their orders, which depends on the seed and the question alone."""
        traces = list(question.traces)
        if not question.ordered:
            Random(f"{self.seed}/{shuffle}/{question.id}").shuffle(traces)
        return traces

    def replay(self, policy: Policy[Any], question: Question, shuffle: int = 0) -> Replayed:
        """One run of a policy over one order of a question's traces."""
        return Replay(
            policy=policy,
            stored=self.order(question, shuffle),
            probe_every=question.probe_every,
            seed=self.seed + shuffle,
            judge=self.judge,
            probe_tokens=self.probe_tokens,
            judge_price=self.judge_price,
        ).run()

    def evaluate(self, policy: Policy[Any]) -> Summary:
        """The means of one policy over all questions."""
        outcomes = []
        for question in self.questions:
            runs = [self.replay(policy, question, shuffle) for shuffle in range(self.shuffles)]
            outcomes.append(_outcome(question, runs))
            self.on_question()
        return summarise(policy.label, outcomes)

    def compare(self, policy: Policy[Any]) -> Comparison:
        """A policy, and self-consistency with as many traces and with as many tokens."""
        summary = self.evaluate(policy)
        return Comparison(
            summary=summary,
            n_matched=self.baseline(round(summary.traces)),
            token_matched=self.baseline(self._affordable(summary.tokens)),
        )

    def baseline(self, n: int) -> Summary:
        """Self-consistency with ``n`` traces; computed once for each ``n``."""
        n = max(1, n)
        if n not in self._baselines:
            self._baselines[n] = self.evaluate(FixedSamples(n=n))
        return self._baselines[n]

    def _affordable(self, tokens: float) -> int:
        """How many whole traces come nearest to ``tokens``, at each question's mean length."""
        means = [mean([t.tokens for t in q.traces]) for q in self.questions]
        most = max(len(question.traces) for question in self.questions)
        return min(max(1, round(tokens * len(means) / sum(means))), most)


def _outcome(question: Question, runs: Sequence[Replayed]) -> QuestionOutcome:
    right = [run.answer in question.right for run in runs]
    return QuestionOutcome(question=question.id, accuracy=mean(right), **_mean_costs(runs))


def summarise(label: str, outcomes: Sequence[QuestionOutcome]) -> Summary:
    """The means of outcomes over questions."""
    accuracies = [outcome.accuracy for outcome in outcomes]
    return Summary(
        policy=label,
        n=len(outcomes),
        accuracy=mean(accuracies),
        ci95=bootstrap(accuracies),
        outcomes=tuple(outcomes),
        **_mean_costs(outcomes),
    )


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return sum(values) / len(values)


def _mean_costs(runs: Sequence[Replayed] | Sequence[QuestionOutcome]) -> dict[str, float]:
    return {name: mean([getattr(run, name) for run in runs]) for name in COSTS}
