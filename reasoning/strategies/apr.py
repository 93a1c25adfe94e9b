"""Adaptive Parallel Reasoning: the model itself decides when to spawn and what to join."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from orchestrator import Task
from pruning import Tally
from reasoning.errors import ProblemRefused
from reasoning.language import markup
from reasoning.language.dialects import MarkupDialect, countdown_message, raw_answer
from reasoning.problems import Countdown
from reasoning.run.run import Run, Thread
from reasoning.strategies.base import Strategy
from reasoning.values.capabilities import Capability

MOST_DEEP = 4


class Spawn(NamedTuple):
    """One child that a parent asked for: what the parent notes for itself, and the message."""

    number: str
    note: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Apr(Strategy):
    """Spawn and join after APR (Pan et al., arXiv 2504.15466), with any number of rounds.

    A parent writes one message per child; a child sees its message and nothing else; when all
    children of a round have ended, the parent goes on from its own context and their answers.
    Children may spawn in turn.  ``n`` is each parent's budget of children.
    """

    name: ClassVar[str] = "apr"
    needs: ClassVar[frozenset[Capability]] = frozenset({"spawn-join"})
    default_n: ClassVar[int] = 24
    most_n: ClassVar[int] = markup.BUDGETS[-1]

    async def solve(self, run: Run) -> Tally:
        if not isinstance(run.problem, Countdown):
            raise ProblemRefused(
                f"the shipped model learned apr for Countdown, not for {run.problem.domain}; "
                "use --strategy self-consistency"
            )
        async with run.graph:
            self._spawn(run, countdown_message(run.problem))
        return self.tally(run)

    def _spawn(self, run: Run, message: str) -> Task[str | None]:
        assert isinstance(run.dialect, MarkupDialect)
        context = run.dialect.spawning_prompt(message, self.n)
        return run.spawn(self._thread, context, name=message)

    async def _thread(self, thread: Thread) -> str | None:
        """Write, spawn and join until the thread ends; its answer is its message to the parent."""
        left = self.n
        while True:
            written = await thread.write()
            if not written.text.endswith(markup.JOIN):
                thread.conclude()
                return raw_answer(thread.text)
            asked = spawns(written.text)[:left]
            left -= len(asked)
            deep = thread.task.id.count(".") >= MOST_DEEP
            children = [] if deep else [self._spawn(thread.run, s.message) for s in asked]
            answers = [await child.result() for child in children]
            reports = [
                f"{spawn.number} : {spawn.note} , {found} ;"
                for spawn, found in zip(asked, answers, strict=False)
                if found is not None
            ]
            if not thread.append(" ".join([*reports, markup.JOINED])):
                return None


_SPAWN = re.compile(rf"(\d+) : ([^;<]*?) {markup.SPAWN} ([^;<]+?) ;")


def spawns(text: str) -> list[Spawn]:
    """The children that a parent's text asks for; a message asked for twice counts once."""
    found: dict[str, Spawn] = {}
    for number, note, message in _SPAWN.findall(text):
        found.setdefault(message, Spawn(number, note, message))
    return list(found.values())
