"""What an evaluation will cost, and what it has cost so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from reasoning.evaluation.arms import GradedEval
from reasoning.evaluation.kept.records import Record, StrategyRun
from reasoning.evaluation.kept.store import StoredEval
from reasoning.evaluation.run import EvalPlan

Price = tuple[float, float]
"""Of a million tokens: given, and written."""


@dataclass(kw_only=True)
class EvalCost:
    """Tokens and time of samples and runs.

    Attributes:
        wall_s: Of each, added up, as if one came after the other.
        span: The longest chain of tokens of any.
    """

    count: int = 0
    lost: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    span: int = 0
    wall_s: float = 0.0

    def add(self, record: Record) -> None:
        """Count one record."""
        self.count += 1
        self.lost += record.lost is not None
        self.prompt_tokens += record.prompt_tokens
        self.tokens += record.tokens
        self.span = max(
            self.span, record.span if isinstance(record, StrategyRun) else record.tokens
        )
        self.wall_s += record.wall_s

    def price(self, price: Price) -> float:
        """What that costs."""
        return (self.prompt_tokens * price[0] + self.tokens * price[1]) / 1e6


class EvalProgress:
    """What an evaluation has come to so far, in one line."""

    def __init__(self, graded: GradedEval, price: Price | None) -> None:
        self._graded = graded
        self._price = price
        self._cost = EvalCost()
        self._right = 0
        self._reasons: Counter[str] = Counter()

    @property
    def lost(self) -> str:
        """Why most of the lost answers were lost; empty where none was."""
        return self._reasons.most_common(1)[0][0] if self._reasons else ""

    def add(self, record: Record) -> None:
        """Count one more record."""
        self._cost.add(record)
        if record.lost is not None:
            self._reasons[record.lost] += 1
        if record.lost is None and self._graded.quick:
            self._right += self._graded.right(record)

    def __str__(self) -> str:
        cost = self._cost
        kept = cost.count - cost.lost
        parts = [f"{cost.count:,} answers"]
        if kept and self._graded.quick:
            parts.append(f"{self._right / kept:.1%} right")
        if kept:
            parts.append(f"{cost.tokens / kept:,.0f} tokens each")
        parts += [f"{cost.lost:,} lost"] if cost.lost else []
        parts += [f"{cost.price(self._price):,.4g} in money"] if self._price else []
        return " · ".join(parts)


class Forecast(BaseModel):
    """What is still to be asked, and what that is expected to cost.

    Attributes:
        samples, runs: How many are missing.
        tokens, prompt_tokens, span, seconds, cost: Expected by the mean of those that are there;
            None where there are none yet, or nobody said the price.
        most: The most tokens that can be written, where that is bounded.
        known: How many samples and runs the means are of.
    """

    model_config = ConfigDict(frozen=True)

    questions: int
    samples: int
    runs: int
    known: int
    tokens: int | None = None
    prompt_tokens: int | None = None
    span: int | None = None
    seconds: float | None = None
    cost: float | None = None
    most: int | None = None

    def __str__(self) -> str:
        parts = [f"{self.questions:,} questions", f"{self.samples:,} samples to ask"]
        parts += [f"{self.runs:,} runs of strategies"] if self.runs else []
        if self.tokens is None:
            parts.append("nothing sampled yet that says what one costs")
        else:
            parts.append(f"about {self.tokens:,} tokens written, {self.prompt_tokens:,} given")
            parts.append(f"the longest chain so far {self.span:,} tokens")
            parts.append(f"about {self.seconds:,.0f} s, by the {self.known:,} that are there")
        parts += [f"at most {self.most:,} tokens written"] if self.most is not None else []
        parts += [f"about {self.cost:,.4g} in money"] if self.cost is not None else []
        return " · ".join(parts)


def forecast(plan: EvalPlan, stored: StoredEval, price: Price | None = None) -> Forecast:
    """What an evaluation will still ask, and cost.

    The mean of a strategy's runs stands for its others, and that of samples for other samples.
    """
    missing = plan.missing(stored)
    costs: dict[str | None, EvalCost] = {arm.text: EvalCost() for arm in plan.arms}
    costs[None] = EvalCost()
    for record in (one for found in stored.samples.values() for one in found.values()):
        costs[None].add(record)
    for arm, runs in stored.runs.items():
        for run in runs.values():
            costs.setdefault(arm, EvalCost()).add(run)
    total, certain = EvalCost(), True
    for job in missing:
        mean = costs[job.arm]
        if not mean.count:
            certain = False
            continue
        total.prompt_tokens += round(mean.prompt_tokens / mean.count)
        total.tokens += round(mean.tokens / mean.count)
        total.wall_s += mean.wall_s / mean.count
    samples = sum(job.arm is None for job in missing)
    bound = plan.options.max_new_tokens
    told = Forecast(
        questions=len(plan.questions),
        samples=samples,
        runs=len(missing) - samples,
        known=sum(cost.count for cost in costs.values()),
        most=None if bound is None or samples < len(missing) else bound * samples,
    )
    if not certain or not missing:
        return told
    expected = {
        "tokens": total.tokens,
        "prompt_tokens": total.prompt_tokens,
        "span": max(cost.span for cost in costs.values()),
        "seconds": total.wall_s / plan.parallel,
        "cost": None if price is None else total.price(price),
    }
    return told.model_copy(update=expected)
