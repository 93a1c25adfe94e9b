"""What a strategy is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from orchestrator.errors import InvalidValue
from pruning import Tally
from reasoning.run.run import Run
from reasoning.values.capabilities import Capability


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """A coroutine over a run: it spawns threads, joins them, and returns a tally of answers.

    Attributes:
        steerable: Whether a policy may steer its threads.
        n: How many threads it may use; what that means is the strategy's own.
    """

    name: ClassVar[str] = ""
    """By default the name of the class."""
    needs: ClassVar[frozenset[Capability]] = frozenset()
    emulates: ClassVar[dict[Capability, str]] = {}
    """What the strategy can do without, and the name of what it then does instead."""
    most_n: ClassVar[int] = 1024
    default_temperature: ClassVar[float] = 0.0
    """Where neither the user nor the model says how to draw tokens."""
    chat_temperature: ClassVar[float | None] = None
    """The same for models that were not trained on the strategy, where it differs."""
    steerable: ClassVar[bool] = False
    drafted: ClassVar[bool] = False
    """Whether it takes a second, smaller model."""
    scored: ClassVar[bool] = False
    """Whether it needs a scorer, or a problem that has a verifier."""

    n: int = 1

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.name or cls.__name__

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.most_n:
            raise InvalidValue(f"n: {self.n} is out of range; {self.name} takes 1 to {self.most_n}")

    def temperature(self, *, trained: bool) -> float:
        """The default for models that were ``trained`` on our domains, or for others."""
        asked = None if trained else self.chat_temperature
        return self.default_temperature if asked is None else asked

    @abstractmethod
    async def solve(self, run: Run) -> Tally:
        """Solve ``run.problem``; the answers themselves are on ``run.threads``."""

    def tally(self, run: Run) -> Tally:
        """The tally of what there is so far, for a run that was stopped."""
        return run.vote(thread for thread in run.threads.values() if "." not in thread.task.id)
