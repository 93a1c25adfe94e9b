"""One budget over many questions: each sample goes where it is likeliest to change an answer.

The chance that the leader of a vote changes follows from the votes so far: the next answers are
drawn from a Pólya urn (a Chinese restaurant process, Blackwell and MacQueen 1973), in which a new
answer has the weight of one vote.  Of every question, the chance per expected cost of so many more
samples is known, and the samples of a round go to where it is largest.  The rule is our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from math import exp, inf, lgamma
from typing import ClassVar

from pruning.policy import check_range, require

NEW = 1.0
"""The weight of an answer that nobody has given yet, in votes."""
HORIZON = 12
"""So many more samples of a question are looked at."""


@lru_cache(maxsize=1 << 16)
def _beta_binomial(count: int, of: int, one: float, other: float) -> float:
    """The chance that ``count`` of the next ``of`` draws from an urn are of one colour of two."""
    return exp(
        lgamma(of + 1)
        - lgamma(count + 1)
        - lgamma(of - count + 1)
        + lgamma(count + one)
        + lgamma(of - count + other)
        - lgamma(of + one + other)
        + lgamma(one + other)
        - lgamma(one)
        - lgamma(other)
    )


@lru_cache(maxsize=1 << 16)
def _overtakes(first: int, second: int, draws: int) -> float:
    """The chance that the second answer has more votes than the first, after draws of the two."""
    need = (first - second + draws) // 2 + 1
    weight = second or NEW
    return sum(_beta_binomial(n, draws, weight, first) for n in range(need, draws + 1))


@lru_cache(maxsize=1 << 16)
def overtaking(first: int, second: int, others: float) -> tuple[float, ...]:
    """The chance that the second answer leads after 0, 1, ... `HORIZON` more samples.

    Args:
        first: Votes of the leader, 1 or more.
        others: The weight of all else: other answers, new ones, samples without an answer.
    """
    two = first + (second or NEW)
    return tuple(
        sum(
            _beta_binomial(draws, samples, two, others) * _overtakes(first, second, draws)
            for draws in range(first - second + 1, samples + 1)
        )
        for samples in range(HORIZON + 1)
    )


def changes(votes: Mapping[str, int], samples: int) -> tuple[float, ...]:
    """The chance that another answer leads after 0, 1, ... `HORIZON` more samples.

    It is the sum over rivals, which is an upper bound.

    Args:
        samples: How many samples were drawn, those without an answer included.
    """
    if not votes:
        return (0.0, *(1.0,) * HORIZON)
    first, *rivals = sorted(votes.values(), reverse=True)
    total = samples + NEW
    chances = [0.0] * (HORIZON + 1)
    for second, many in Counter([*rivals, 0]).items():
        others = max(total - first - (second or NEW), 1e-9)
        for place, chance in enumerate(overtaking(first, second, others)):
            chances[place] += many * chance
    return tuple(min(1.0, chance) for chance in chances)


def slopes(values: tuple[float, ...]) -> Iterator[float]:
    """The steps of the least concave curve that is nowhere below ``values``."""
    at, last = 0, len(values) - 1
    while at < last:
        best, to = -inf, at
        for place in range(at + 1, last + 1):
            slope = (values[place] - values[at]) / (place - at)
            if slope >= best:
                best, to = slope, place
        yield from [max(0.0, best)] * (to - at)
        at = to


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """How a budget is spread over questions.

    Attributes:
        mean: The budget in samples a question; what is spent are tokens, so it is as many times
            the mean length of the first round's samples.
        first: Samples of each question in the first round; 0 to begin with what the default
            policy leaves.
        rounds: At most so many rounds follow.
        most: The most samples of a question.
    """

    name: ClassVar[str] = "allocation"
    mean: float = 8.0
    first: int = 4
    rounds: int = 6
    most: int = 64

    def __post_init__(self) -> None:
        check_range(self, "rounds most", 1)
        check_range(self, "first", 0, self.most)
        check_range(self, "mean", max(1, self.first))

    @property
    def label(self) -> str:
        """As a command line takes it."""
        changed = [
            f"{one.name}={getattr(self, one.name):g}"
            for one in fields(self)
            if getattr(self, one.name) != one.default
        ]
        return ":".join([self.name, ",".join(changed)]) if changed else self.name


@dataclass(kw_only=True, slots=True)
class QuestionState:
    """What is known of one question.

    Attributes:
        samples, cost: Drawn so far, and what they cost.
        most: The most samples that can be drawn.
    """

    votes: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    cost: float = 0.0
    most: int | None = None

    @property
    def left(self) -> float:
        """How many more samples can be drawn."""
        return inf if self.most is None else self.most - self.samples


@dataclass(kw_only=True)
class Allocator:
    """Spreads one budget over questions, in rounds; it knows votes and costs, and does no I/O.

    Costs may be tokens, or 1 for each sample.  A question that was not sampled yet is expected to
    cost as much as the mean sample so far.
    """

    states: dict[str, QuestionState]

    def tell(self, question: str, answer: str | None, cost: float) -> None:
        """Take in one sample; ``answer`` is None where it gave none."""
        state = self.states[question]
        state.samples += 1
        state.cost += cost
        if answer is not None:
            state.votes[answer] += 1

    def expected(self, question: str) -> float:
        """What another sample of a question is expected to cost."""
        mean = self.mean_cost
        state = self.states[question]
        return (state.cost + mean) / (state.samples + 1)

    def next_round(self, left: float) -> dict[str, int]:
        """How many samples of which questions to draw at once, for an expected cost up to ``left``.

        Empty where the budget pays for no sample, or none can be drawn.

        Raises:
            PolicyError: ``left`` is below 0.
        """
        require(left >= 0, f"budget: {left} is out of range; give 0 or more")
        pieces = []
        for place, (question, state) in enumerate(self.states.items()):
            cost = self.expected(question)
            steps = slopes(changes(state.votes, state.samples))
            for step, slope in enumerate(steps):
                if step < state.left:
                    pieces.append((-slope / cost, step, place, cost, question))
        counts: Counter[str] = Counter()
        full: set[str] = set()
        for _, _, _, cost, question in sorted(pieces):
            if cost > left or question in full:
                full.add(question)
                continue
            counts[question] += 1
            left -= cost
        return dict(counts)

    @property
    def mean_cost(self) -> float:
        samples = sum(state.samples for state in self.states.values())
        return sum(state.cost for state in self.states.values()) / samples if samples else 1.0
