"""Policies replayed over many questions, each beside self-consistency at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

from pruning.evaluation.baseline import BaselineCurve, question_curve
from pruning.evaluation.replay import Replay, Replayed
from pruning.evaluation.statistics import (
    Gain,
    QuestionOutcome,
    Summary,
    gain,
    mean,
    mean_costs,
    summarise,
)
from pruning.evaluation.traces import Question, Trace, rescored
from pruning.judge.session import Judge
from pruning.policies.consensus import FixedSamples
from pruning.policies.scored import Scorer
from pruning.policy import Policy, PolicyError


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm beside self-consistency at as many traces, tokens, and at as long a span.

    Equal means are met between whole numbers of samples by a mixture; see `BaselineCurve`.
    """

    summary: Summary
    n_matched: Summary
    token_matched: Summary
    span_matched: Summary

    @property
    def gains(self) -> tuple[Gain, Gain]:
        """The gain at as many traces, and at as many tokens."""
        return gain(self.summary, self.n_matched), gain(self.summary, self.token_matched)


@dataclass(kw_only=True)
class Evaluator:
    """Replays policies over the same shuffles of the same questions.

    Attributes:
        shuffles: How many orders of each question's traces; the same ones for every policy.
        scorer: Scores the traces anew for policies that go by scores; None for those stored.
        probe_tokens: The price of a probe, in tokens.
        judge_price: The price of a token that the judge reads.
        on_question: Called whenever a policy is done with a question.
    """

    questions: Sequence[Question]
    shuffles: int = 16
    seed: int = 0
    judge: Judge | None = None
    scorer: Scorer | None = None
    probe_tokens: int = 0
    judge_price: float = 1.0
    on_question: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        if not self.questions:
            raise PolicyError("traces: no question; give a file with at least one")
        if empty := [question.id for question in self.questions if not question.traces]:
            raise PolicyError(f"question {empty[0]!r}: no trace; give at least one")
        if self.shuffles < 1:
            raise PolicyError(f"shuffles: {self.shuffles} is out of range; give 1 or more")

    def order(self, question: Question, shuffle: int) -> list[Trace]:
        """The traces in one of their orders, which depends on the seed and the question alone."""
        traces = list(question.traces)
        if not question.ordered:
            Random(f"{self.seed}/{shuffle}/{question.id}").shuffle(traces)
        return traces

    def replay(self, policy: Policy[Any], question: Question, shuffle: int = 0) -> Replayed:
        """One run of a policy over one order of a question's traces."""
        return self._replay(policy, question, self.order(question, shuffle), shuffle)

    def evaluate(self, policy: Policy[Any]) -> Summary:
        """The means of one policy over all questions.

        Raises:
            PolicyError: the policy needs what is not stored.
            TracesError: there is a scorer, and what it reads is not stored.
        """
        if type(policy) is FixedSamples:
            summary = replace(self.curve.summary(policy.n), policy=policy.label)
            for _ in self.questions:
                self.on_question()
            return summary
        outcomes = []
        for question, orders in zip(self.questions, self._orders, strict=True):
            runs = [
                self._replay(policy, question, order, shuffle)
                for shuffle, order in enumerate(self._scored(policy, question, orders))
            ]
            outcomes.append(_outcome(question, runs))
            self.on_question()
        return summarise(policy.label, outcomes)

    def compare(self, policy: Policy[Any]) -> Comparison:
        """A policy, and self-consistency at equal costs."""
        return self.beside(self.evaluate(policy))

    def beside(self, summary: Summary) -> Comparison:
        """An arm on these questions, and self-consistency at equal costs."""
        return Comparison(
            summary=summary,
            n_matched=self.curve.at("traces", summary.traces),
            token_matched=self.curve.at("tokens", summary.tokens),
            span_matched=self.curve.at("span", summary.span),
        )

    def baseline(self, n: float) -> Summary:
        """Self-consistency with ``n`` traces, or with a mixture; from the one `curve`."""
        return self.curve.summary(max(1, n))

    @cached_property
    def curve(self) -> BaselineCurve:
        """Self-consistency with each number of traces, over the same orders."""
        return BaselineCurve(
            questions=tuple(
                question_curve(question.id, question.right, orders)
                for question, orders in zip(self.questions, self._orders, strict=True)
            )
        )

    @cached_property
    def _orders(self) -> list[list[list[Trace]]]:
        """All orders of all questions, shuffled once."""
        return [
            [self.order(q, shuffle) for shuffle in range(self.shuffles)] for q in self.questions
        ]

    def _scored(
        self, policy: Policy[Any], question: Question, orders: list[list[Trace]]
    ) -> list[list[Trace]]:
        """The orders of a question's traces, with the scorer's scores where the policy asks."""
        if self.scorer is None or "score" not in policy.needs:
            return orders
        anew = rescored(question, self.scorer).traces
        known = {id(old): new for old, new in zip(question.traces, anew, strict=True)}
        return [[known[id(trace)] for trace in order] for order in orders]

    def _replay(
        self, policy: Policy[Any], question: Question, stored: Sequence[Trace], shuffle: int
    ) -> Replayed:
        return Replay(
            policy=policy,
            stored=stored,
            probe_every=question.probe_every,
            seed=self.seed + shuffle,
            judge=self.judge,
            probe_tokens=self.probe_tokens,
            judge_price=self.judge_price,
        ).run()


def _outcome(question: Question, runs: Sequence[Replayed]) -> QuestionOutcome:
    right = tuple(float(run.answer in question.right) for run in runs)
    return QuestionOutcome(
        question=question.id, accuracy=mean(right), orders=right, **mean_costs(runs)
    )
