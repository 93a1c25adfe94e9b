"""Self-consistency with 1, 2, ... samples over one pool of traces, and between whole numbers.

Each vote is counted once, from sample to sample, so the whole curve costs about as much as one
replay of all traces.  Between n and n + 1 samples lies a mixture: a share of all runs has n + 1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import floor
from typing import Literal

from pruning.evaluation.statistics import QuestionOutcome, Summary, mean, summarise
from pruning.evaluation.traces import Trace
from pruning.policy import require

Cost = Literal["tokens", "span", "traces"]


@dataclass(frozen=True, kw_only=True)
class QuestionCurve:
    """Self-consistency on one question; item n - 1 of each list is with n samples.

    Attributes:
        right: By order, whether the vote is right.
        tokens, span: Means over orders.
    """

    question: str
    right: tuple[tuple[bool, ...], ...]
    tokens: tuple[float, ...]
    span: tuple[float, ...]

    @property
    def most(self) -> int:
        """How many samples there are."""
        return len(self.tokens)

    def outcome(self, samples: float) -> QuestionOutcome:
        """The outcome with ``samples``, or with all that there are."""
        low = min(floor(samples), self.most)
        high = min(low + 1, self.most)
        share = samples - low if low < self.most else 0.0

        def between(values: Sequence[float]) -> float:
            return (1 - share) * values[low - 1] + share * values[high - 1]

        orders = tuple(between(right) for right in self.right)
        return QuestionOutcome(
            question=self.question,
            accuracy=mean(orders),
            orders=orders,
            tokens=between(self.tokens),
            span=between(self.span),
            traces=min(samples, self.most),
            traces_missing=max(0.0, samples - self.most),
        )


def question_curve(
    question: str, right: frozenset[str], orders: Sequence[Sequence[Trace]]
) -> QuestionCurve:
    """The curve over orders of one question's traces."""
    tokens = [tuple(accumulate(trace.tokens for trace in order)) for order in orders]
    span = [tuple(accumulate((trace.tokens for trace in order), max)) for order in orders]
    return QuestionCurve(
        question=question,
        right=tuple(
            tuple(answer in right for answer in votes(trace.answer for trace in order))
            for order in orders
        ),
        tokens=tuple(map(mean, zip(*tokens, strict=True))),
        span=tuple(map(mean, zip(*span, strict=True))),
    )


def votes(answers: Iterable[str | None]) -> Iterable[str | None]:
    """The winner after each vote, as `majority` has it: the earliest cast among equals."""
    counts: Counter[str] = Counter()
    places: dict[str, int] = {}
    leader: str | None = None
    for place, answer in enumerate(answers):
        if answer is not None:
            counts[answer] += 1
            first = places.setdefault(answer, place)
            ahead = counts[answer] - (counts[leader] if leader is not None else 0)
            if leader is None or ahead > 0 or (ahead == 0 and first < places[leader]):
                leader = answer
        yield leader


@dataclass(frozen=True, kw_only=True)
class BaselineCurve:
    """Self-consistency over all questions, by the number of samples."""

    questions: tuple[QuestionCurve, ...]

    @property
    def most(self) -> int:
        """The samples of the question with most."""
        return max(question.most for question in self.questions)

    def summary(self, samples: float) -> Summary:
        """Self-consistency with ``samples`` of each question; between whole numbers, a mixture.

        Raises:
            PolicyError: ``samples`` is below 1.
        """
        require(samples >= 1, f"samples: {samples} is out of range; give 1 or more")
        outcomes = [question.outcome(samples) for question in self.questions]
        return summarise(f"sc:n={round(samples, 2):g}", outcomes)

    def at(self, cost: Cost, value: float) -> Summary:
        """Self-consistency at a mean cost a question, linear between whole numbers of samples.

        Where one sample costs more, it is one sample, *the fewest*; where all cost less, it is all,
        *the most*; its name says so.
        """
        means, near = self._means[cost], 1e-9 * value
        low = bisect_right(means, value + near)
        if low == 0:
            return self._named(1, "the fewest")
        if low == len(means):
            return self._named(low, "the most" if means[-1] < value - near else "")
        share = (value - means[low - 1]) / (means[low] - means[low - 1])
        return self.summary(low + max(0.0, share))

    def _named(self, samples: int, word: str) -> Summary:
        summary = self.summary(samples)
        return replace(summary, policy=f"{summary.policy}, {word}") if word else summary

    @cached_property
    def _means(self) -> dict[Cost, list[float]]:
        """The mean cost with 1, 2, ... samples."""
        counts = range(1, self.most + 1)
        return {
            "tokens": [self._mean("tokens", count) for count in counts],
            "span": [self._mean("span", count) for count in counts],
            "traces": [mean([min(count, q.most) for q in self.questions]) for count in counts],
        }

    def _mean(self, cost: Literal["tokens", "span"], samples: int) -> float:
        return mean([getattr(q, cost)[min(samples, q.most) - 1] for q in self.questions])
