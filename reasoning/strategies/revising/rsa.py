"""Recursive self-aggregation: rounds in which new attempts are written from earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import ClassVar, Literal

from orchestrator import Task
from orchestrator.errors import InvalidValue
from pruning import Tally
from reasoning.language.forms import RevisionForm
from reasoning.run.run import PLAIN, Run
from reasoning.run.selection import select
from reasoning.run.thread import Thread
from reasoning.strategies.base import Strategy
from reasoning.values.capabilities import Capability

ROUND = "round "
"""Begins the names of its threads' tasks; the number of the round follows."""


@dataclass(frozen=True, kw_only=True)
class Rsa(Strategy):
    """Recursive self-aggregation (Venkatraman et al., arXiv 2509.26626).

    ``n`` attempts are made, each by itself.  In each of ``rounds`` rounds ``n`` new ones follow,
    each of which is shown ``k`` attempts of the round before, drawn at random without their
    thoughts.  The majority of the last round is the answer.  With ``last="one"`` the last round is
    a single attempt that is shown all, as in PaCoRe (arXiv 2601.05593).  An attempt starts as soon
    as those that it is shown have ended.
    """

    name: ClassVar[str] = "rsa"
    needs: ClassVar[frozenset[Capability]] = frozenset({"words"})
    most_n: ClassVar[int] = 256
    default_temperature: ClassVar[float] = 0.7

    n: int = 8

    k: int = 4
    rounds: int = 2
    last: Literal["vote", "one"] = "vote"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.k, self.rounds) < 1:
            raise InvalidValue("k, rounds: 0 is out of range; give 1 or more")

    async def solve(self, run: Run) -> Tally:
        form = run.dialect.forms(run.problem).revision()
        rng = Random(run.seed)
        async with run.graph:
            attempts = [run.spawn(attempt, form.prompt, name=f"{ROUND}0") for _ in range(self.n)]
            for number in range(1, self.rounds + 1):
                attempts = self._round(run, form, rng, number, attempts)
            for task in attempts:
                await task.wait()
            await select(run, _threads(run, self.rounds))
        return self.tally(run)

    def _round(
        self,
        run: Run,
        form: RevisionForm,
        rng: Random,
        number: int,
        earlier: Sequence[Task[str]],
    ) -> list[Task[str]]:
        """The attempts of a round, each behind those that it is shown."""
        alone = self.last == "one" and number == self.rounds
        width, shown = (1, self.n) if alone else (self.n, min(self.k, self.n))
        revise = partial(_revise, run, form)
        return [
            run.graph.add(revise, *rng.sample(earlier, shown), name=f"{ROUND}{number}")
            for _ in range(width)
        ]

    def tally(self, run: Run) -> Tally:
        """The vote of the last round that has an answer."""
        for number in range(self.rounds, 0, -1):
            tally = run.vote(_threads(run, number))
            if tally.winner is not None:
                return tally
        return run.vote(_threads(run, 0))


def _threads(run: Run, number: int) -> list[Thread]:
    """The threads of a round."""
    return [one for one in run.threads.values() if one.task.name == f"{ROUND}{number}"]


async def attempt(thread: Thread) -> str:
    """Let the thread write and read its answer; returns what it wrote."""
    await thread.write()
    thread.conclude()
    return thread.own_text


async def _revise(run: Run, form: RevisionForm, *texts: str) -> str:
    """Write an attempt that is shown others, in half of the context; the rest is its own."""
    room = run.max_tokens // 2 - len(form.aggregated([""] * len(texts)))
    said = [text for text in run.fitting_texts(texts, room) if text]
    with run.go_on(form.aggregated(said) if said else form.prompt, PLAIN) as thread:
        return await attempt(thread)
