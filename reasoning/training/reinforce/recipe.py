"""How a run of reinforcement learning is made.  Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from orchestrator.errors import InvalidValue
from reasoning.training.recipe import check_threads

MODELS = ("reason-1m", "reason-5m")
"""Those that write `apr`."""


@dataclass(frozen=True, kw_only=True)
class ReinforceRecipe:
    """Everything that decides a run of reinforcement learning, beside the weights it starts from.

    Attributes:
        model: One of `MODELS`.
        rounds: Rounds of sampling and learning.
        problems, runs: How many problems a round has, and how many runs of each: a group.
        intermediate: The share of problems that have an intermediate result among four numbers, as
            a sub-search of five numbers has.
        fives: The share of problems of five numbers.
        budget, five_budget: How many children a thread may spawn, by the size of the problem.
        context: Of every thread, in tokens.
        span_bonus: The most that a right run earns beside 1 for a short critical path.
        rate: AdamW's learning rate, which rises over the first ``warmup`` steps and falls to zero
            at the last round.
        batches, epochs: Optimizer steps of one pass over a round, and passes over it.
        clip: How far the importance ratio may leave 1 before it earns nothing more.
        certain: Of threads whose sampled tokens have together a smaller negative log-probability
            only some are learned from (`learner.learnable`); 0 learns from all.
        anchor: The weight of the supervised loss on demonstrations, which keeps other skills.
        keep: After so many rounds the exported model is kept, beside the latest one.
        threads: CPU threads of the learner; the engine has one of its own beside it.
    """

    model: str = "reason-5m"
    seed: int = 0
    rounds: int = 100
    problems: int = 16
    runs: int = 8
    intermediate: float = 0.2
    fives: float = 0.05
    budget: int = 24
    five_budget: int = 6
    context: int = 512
    span_bonus: float = 0.2
    rate: float = 1e-4
    warmup: int = 4
    batches: int = 1
    epochs: int = 2
    clip: float = 0.2
    certain: float = 0.2
    anchor: float = 0.05
    keep: int = 20
    threads: int = 1

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise InvalidValue(f"model: {self.model!r} is none; choose {', '.join(MODELS)}")
        for name in (
            "problems",
            "budget",
            "five_budget",
            "batches",
            "epochs",
            "keep",
            "warmup",
        ):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        for name in ("rounds", "span_bonus", "certain", "anchor"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        check_threads(self.threads)
        self._check("runs", self.runs >= 2, "2 or more, for an advantage is against the others")
        self._check("batches", self.batches <= self.problems, "at most one for each problem")
        for name in ("rate", "context"):
            self._check(name, getattr(self, name) > 0, "more than 0")
        self._check("clip", 0 < self.clip < 1, "above 0, below 1")
        for name in ("intermediate", "fives"):
            self._check(name, 0 <= getattr(self, name) <= 1, "a share from 0 to 1")
        self._check("fives", self.fives + self.intermediate <= 1, "at most 1 with intermediate")

    def _check(self, name: str, allowed: bool, right: str) -> None:
        if not (allowed and isfinite(getattr(self, name))):
            raise InvalidValue(f"{name}: {getattr(self, name)} is out of range; give {right}")
