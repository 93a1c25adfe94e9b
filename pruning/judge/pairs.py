"""Pairs of traces of a question, whether they agree, and splits that keep questions whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import TypeVar

from pruning.evaluation.traces import Question, Trace

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two traces of one question, and whether their answers agree."""

    question: str
    one: Trace
    other: Trace
    same: bool


def agree(one: Trace, other: Trace) -> bool:
    """Whether both gave an answer and it is the same; two without an answer do not agree."""
    return one.answer is not None and one.answer == other.answer


def pairs(question: Question, most: int | None = None, *, seed: int = 0) -> list[Pair]:
    """All pairs of a question's traces, or ``most`` of them drawn at random."""
    drawn = list(combinations(question.traces, 2))
    if most is not None and len(drawn) > most:
        drawn = Random(f"{seed}/{question.id}").sample(drawn, most)
    return [
        Pair(question=question.id, one=one, other=other, same=agree(one, other))
        for one, other in drawn
    ]


def balanced(question: Question, most: int, *, seed: int = 0) -> list[Pair]:
    """Up to ``most`` pairs of a question, as many that agree as that do not.

    The rarer class is oversampled within the question, so that the question's difficulty (how often
    its traces agree) predicts nothing.  A question with pairs of one class only gives none.
    """
    every = pairs(question)
    classes = [[p for p in every if p.same], [p for p in every if not p.same]]
    if not all(classes):
        return []
    rng = Random(f"{seed}/{question.id}")
    half = min(most // 2, max(map(len, classes)))
    return [pair for some in classes for pair in _draw(some, half, rng)]


def oversampled(drawn: Sequence[Pair]) -> list[Pair]:
    """All pairs, those of the rarer class twice, as in the paper."""
    same = sum(pair.same for pair in drawn)
    rarer = same * 2 < len(drawn)
    return [p for p in drawn for _ in range(2 if p.same is rarer else 1)]


def _draw(items: Sequence[T], count: int, rng: Random) -> Iterator[T]:
    """Draw ``count`` items, each as often as the others up to one time."""
    left = count
    while left > 0:
        yield from rng.sample(items, min(left, len(items)))
        left -= len(items)


# Splits.


def mark(question: Question) -> str:
    """A hash by which a question is recognised in any file."""
    text = question.words or question.id
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def unseen(questions: Iterable[Question], seen: Iterable[str]) -> list[Question]:
    """The questions whose mark is not among ``seen``."""
    known = frozenset(seen)
    return [question for question in questions if mark(question) not in known]


def split(
    questions: Sequence[Question], share: float, *, seed: int = 0
) -> tuple[list[Question], list[Question]]:
    """The questions in random order in two parts; the second has about ``share`` of them."""
    order = list(questions)
    Random(seed).shuffle(order)
    count = round(share * len(order))
    return order[count:], order[:count]
