"""One thread, or several independent ones and a vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pruning import Tally
from reasoning.run import Run, Thread
from reasoning.strategies.base import Strategy


async def answer(thread: Thread) -> None:
    """Let the thread write until it ends, and read its answer."""
    await thread.write()
    thread.conclude()


@dataclass(frozen=True, kw_only=True)
class SelfConsistency(Strategy):
    """``n`` samples of one prompt and a majority vote (Wang et al., arXiv 2203.11171)."""

    name: ClassVar[str] = "self-consistency"
    default_n: ClassVar[int] = 16
    default_temperature: ClassVar[float] = 0.7

    async def solve(self, run: Run) -> Tally:
        prompt = run.dialect.prompt(run.problem)
        async with run.graph:
            for _ in range(self.n):
                run.spawn(answer, prompt, name="sample")
        return self.tally(run)


@dataclass(frozen=True, kw_only=True)
class Single(SelfConsistency):
    """One thread."""

    name: ClassVar[str] = "single"
    default_n: ClassVar[int] = 1
    most_n: ClassVar[int] = 1
    default_temperature: ClassVar[float] = 0.0
