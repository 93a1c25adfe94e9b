"""Simulated question populations, for choosing a policy where few samples are not enough.

Each question has a distribution over answers: the right one has a share p, and wrong ones share the
rest, the strongest rival a part of it and the others less and less.  In each population p varies
over questions.  Hard questions have longer traces, and so have wrong ones among them, by the
factors seen in stored traces of Qwen3-8B on AIME 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp
from random import Random

from pruning import Question, Trace

TRACES = 128
RIGHT = "right"


@dataclass(frozen=True, kw_only=True)
class Population:
    """A distribution over questions.

    Attributes:
        share: Draws the share of right answers of a question.
        rival: Draws the strongest rival's part of the wrong answers.
        unanswered: The share of traces without an answer, among the wrong ones.
        length: Of a right trace of an easy question, in tokens.
        longer: The mean logarithm of how much longer traces to a wrong answer are.  It was 0.46 on
            AIME 2024, and -0.22 on MATH-500.
    """

    share: Callable[[Random], float]
    rival: Callable[[Random], float]
    unanswered: float = 0.05
    length: float = 5000
    longer: float = 0.1


def _mixture(*parts: tuple[float, float, float]) -> Callable[[Random], float]:
    """A mixture of beta distributions, each given as its weight and its two parameters."""

    def draw(rng: Random) -> float:
        weights = [part[0] for part in parts]
        _, alpha, beta = rng.choices(parts, weights)[0]
        return rng.betavariate(alpha, beta)

    return draw


def _between(low: float, high: float) -> Callable[[Random], float]:
    return lambda rng: rng.uniform(low, high)


POPULATIONS = {
    # all difficulties alike, with one rival that holds a third to nine tenths of what is wrong
    "broad": Population(share=_mixture((1, 1.2, 1.2)), rival=_between(0.35, 0.9)),
    # right answers are mostly a plurality among many
    "plurality": Population(share=_mixture((1, 3, 5)), rival=_between(0.2, 0.5), longer=-0.2),
    # one strong rival, close to the right answer: hard to tell apart for any number of samples
    "rival": Population(
        share=_mixture((2, 8, 8), (3, 6, 2)), rival=_between(0.7, 0.95), longer=0.0
    ),
    # as a competition that the model half knows: mostly settled, some open, many out of reach
    "competition": Population(
        share=_mixture((40, 12, 1), (22, 3, 4), (38, 0.6, 8)), rival=_between(0.2, 0.7), length=9000
    ),
    # a small model: hardly a question is settled, answers scatter
    "weak": Population(
        share=_mixture((1, 1.2, 4)), rival=_between(0.15, 0.5), unanswered=0.15, length=300
    ),
}


def simulated(name: str, count: int, *, seed: int = 0) -> list[Question]:
    """Questions of the population of this name, with 128 traces each."""
    population = POPULATIONS[name]
    return [_question(name, population, index, seed) for index in range(count)]


def _question(name: str, population: Population, index: int, seed: int) -> Question:
    rng = Random(f"{name}/{seed}/{index}")
    share = population.share(rng)
    weights = _wrong(rng, population)
    length = population.length * exp(1.4 * (1 - share)) * rng.lognormvariate(0, 0.25)
    lengths = {answer: length * rng.lognormvariate(population.longer, 0.4) for answer in weights}
    lengths[RIGHT] = length
    traces = tuple(_trace(rng, share, weights, lengths) for _ in range(TRACES))
    return Question(id=f"{name}-{index:04}", right=frozenset({RIGHT}), traces=traces)


def _wrong(rng: Random, population: Population) -> dict[str | None, float]:
    """The parts of the wrong answers: the rival, a falling tail, and no answer."""
    rival = population.rival(rng)
    parts: dict[str | None, float] = {"wrong-0": rival}
    left = 1 - rival
    for place in range(1, 40):
        part = min(rival, left * rng.betavariate(1, 3))
        parts[f"wrong-{place}"] = part
        left -= part
    scale = 1 - population.unanswered
    return {**{answer: part * scale for answer, part in parts.items()}, None: 1 - scale}


def _trace(
    rng: Random, share: float, wrong: dict[str | None, float], lengths: dict[str | None, float]
) -> Trace:
    right = rng.random() < share
    answer = RIGHT if right else rng.choices([*wrong], [*wrong.values()])[0]
    tokens = lengths[answer] * rng.lognormvariate(0, 0.3)
    return Trace(tokens=max(1, round(tokens)), answer=answer)


def tilted(questions: Sequence[Question], shares: Sequence[float]) -> list[Question]:
    """Stored questions made harder: traces are drawn anew so that a given share is right.

    Each trace is a real one, with its length and its probes, drawn with replacement; what is wrong
    keeps its own distribution.  Questions without a right or a wrong trace are left out.
    """
    return [
        _tilted(question, share)
        for question in questions
        for share in shares
        if 0 < sum(trace.answer in question.right for trace in question.traces) < TRACES
    ]


def _tilted(question: Question, share: float) -> Question:
    rng = Random(f"{question.id}/{share}")
    right = [trace for trace in question.traces if trace.answer in question.right]
    wrong = [trace for trace in question.traces if trace.answer not in question.right]
    traces = tuple(rng.choice(right if rng.random() < share else wrong) for _ in range(TRACES))
    return replace(question, id=f"{question.id}-{share:g}", traces=traces)
