"""One thread, or several independent ones and a vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orchestrator.errors import InvalidValue
from pruning import AsyncConsensus, MoreOnTie, Tally
from reasoning.run.driver import Driver
from reasoning.run.run import Run
from reasoning.run.selection import select
from reasoning.run.thread import Thread
from reasoning.strategies.base import Strategy


async def answer(thread: Thread) -> None:
    """Let the thread write until it ends, and read its answer."""
    await thread.write()
    thread.conclude()


@dataclass(frozen=True, kw_only=True)
class SelfConsistency(Strategy):
    """Samples of one prompt and a vote (Wang et al., arXiv 2203.11171), steered by a policy.

    By default up to ``n`` samples start together, and the rest is aborted once the votes of those
    that have ended are settled.

    Attributes:
        ahead: The first sample goes ahead by so many tokens; one that has answered by then needs
            no others.
    """

    name: ClassVar[str] = "self-consistency"
    default_temperature: ClassVar[float] = 0.7
    steerable: ClassVar[bool] = True

    n: int = 16
    ahead: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ahead < 0:
            raise InvalidValue(f"ahead: {self.ahead} is out of range; give 0 tokens or more")

    async def solve(self, run: Run) -> Tally:
        policy, election = run.policy or AsyncConsensus(k=self.n, ahead=self.ahead), run.election
        scored = bool({"score", "verifier"} & policy.needs)
        if election.on_tie == "more" and not scored:  # scores leave no tie
            policy = MoreOnTie(inner=policy, least=election.min_confidence)
        driver = Driver(run=run, policy=policy, judge=run.judge)
        async with run.graph:
            run.steering = await driver.steer()
            best = run.steering.finish.answer
            if not scored:
                await select(run, driver.voting)
            elif best is not None and any(one.score is not None for one in driver.traces):
                run.selected = best, "score"
        return driver.tally()


@dataclass(frozen=True, kw_only=True)
class Single(Strategy):
    """One thread."""

    name: ClassVar[str] = "single"
    most_n: ClassVar[int] = 1

    n: int = 1

    async def solve(self, run: Run) -> Tally:
        async with run.graph:
            run.spawn(answer, run.dialect.prompt(run.problem), name="sample")
        return self.tally(run)
