"""What a policy comes to over many questions: means, intervals, and self-consistency beside it.

The unit is the question: intervals are bootstrapped over questions, and what shuffles of one
question's traces give is averaged first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from pruning.evaluation.replay import Replay, Replayed
from pruning.evaluation.traces import Question, Trace
from pruning.judge.ruling import Judge
from pruning.policies.consensus import SelfConsistency
from pruning.policy import Policy, PolicyError

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One policy on one question, means over shuffles of its traces."""

    question: str
    accuracy: float
    tokens: float
    span: float
    traces: float
    probes: float
    judge_tokens: float = 0.0
    judge_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One policy over all questions: means, and the 95 % interval of accuracy."""

    policy: str
    n: int
    accuracy: float
    ci95: tuple[float, float]
    tokens: float
    span: float
    traces: float
    probes: float
    outcomes: tuple[Outcome, ...]
    judge_tokens: float = 0.0
    judge_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Accuracy of one policy less another's on the same questions, with a 95 % interval."""

    mean: float
    ci95: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A policy beside self-consistency with as many traces, and with as many tokens."""

    summary: Summary
    n_matched: Summary
    token_matched: Summary

    @property
    def gains(self) -> tuple[Gain, Gain]:
        """Over each of the two."""
        return gain(self.summary, self.n_matched), gain(self.summary, self.token_matched)


def bootstrap(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean, resampling ``values`` (Efron 1979)."""
    rng = Random(seed)
    count = len(values)
    means = sorted(sum(rng.choices(values, k=count)) / count for _ in range(RESAMPLES))
    return means[round(0.025 * (RESAMPLES - 1))], means[round(0.975 * (RESAMPLES - 1))]


def gain(summary: Summary, other: Summary) -> Gain:
    """The paired difference, question by question."""
    deltas = [
        ours.accuracy - theirs.accuracy
        for ours, theirs in zip(summary.outcomes, other.outcomes, strict=True)
    ]
    return Gain(mean=sum(deltas) / len(deltas), ci95=bootstrap(deltas))


@dataclass(kw_only=True)
class Evaluator:
    """Replays policies over the same shuffles of the same questions.

    Attributes:
        shuffles: How many orders of each question's traces; the same ones for every policy.
        probe_tokens: What a probe costs.
        judge_price: What a token costs that the judge reads.
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
        """The traces in one of their orders, which depends on nothing but seed and question."""
        traces = list(question.traces)
        if question.ordered:
            return traces
        Random(f"{self.seed}/{shuffle}/{question.id}").shuffle(traces)
        return traces

    def replay(self, policy: Policy[Any], question: Question, shuffle: int = 0) -> Replayed:
        """One run."""
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
        """One policy over all questions."""
        outcomes = []
        for question in self.questions:
            runs = [self.replay(policy, question, shuffle) for shuffle in range(self.shuffles)]
            outcomes.append(_outcome(question, runs))
            self.on_question()
        return summarise(policy.label, outcomes)

    def compare(self, policy: Policy[Any]) -> Compared:
        """One policy, and self-consistency with as many traces and with as many tokens."""
        summary = self.evaluate(policy)
        return Compared(
            summary=summary,
            n_matched=self.baseline(round(summary.traces)),
            token_matched=self.baseline(self._affordable(summary.tokens)),
        )

    def baseline(self, n: int) -> Summary:
        """Self-consistency of ``n`` traces; computed once."""
        n = max(1, n)
        if n not in self._baselines:
            self._baselines[n] = self.evaluate(SelfConsistency(n=n))
        return self._baselines[n]

    def _affordable(self, tokens: float) -> int:
        """How many whole traces come nearest to ``tokens``, each question's at its mean length."""
        means = [sum(t.tokens for t in q.traces) / len(q.traces) for q in self.questions]
        most = max(len(question.traces) for question in self.questions)
        return min(max(1, round(tokens * len(means) / sum(means))), most)


def _outcome(question: Question, runs: Sequence[Replayed]) -> Outcome:
    count = len(runs)
    return Outcome(
        question=question.id,
        accuracy=sum(run.answer in question.right for run in runs) / count,
        tokens=sum(run.tokens for run in runs) / count,
        span=sum(run.span for run in runs) / count,
        traces=sum(run.traces for run in runs) / count,
        probes=sum(run.probes for run in runs) / count,
        judge_tokens=sum(run.judge_tokens for run in runs) / count,
        judge_seconds=sum(run.judge_seconds for run in runs) / count,
    )


def summarise(label: str, outcomes: Sequence[Outcome]) -> Summary:
    """Means over questions."""
    count = len(outcomes)
    accuracies = [outcome.accuracy for outcome in outcomes]
    return Summary(
        policy=label,
        n=count,
        accuracy=sum(accuracies) / count,
        ci95=bootstrap(accuracies),
        tokens=sum(outcome.tokens for outcome in outcomes) / count,
        span=sum(outcome.span for outcome in outcomes) / count,
        traces=sum(outcome.traces for outcome in outcomes) / count,
        probes=sum(outcome.probes for outcome in outcomes) / count,
        outcomes=tuple(outcomes),
        judge_tokens=sum(outcome.judge_tokens for outcome in outcomes) / count,
        judge_seconds=sum(outcome.judge_seconds for outcome in outcomes) / count,
    )
