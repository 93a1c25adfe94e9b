"""Adaptive Parallel Reasoning: the model itself decides when to spawn and what to join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orchestrator import Task
from pruning import Tally
from reasoning.language.forms import SpawnForm
from reasoning.run.run import Run
from reasoning.run.thread import Thread
from reasoning.strategies.base import Strategy
from reasoning.values.capabilities import Capability

MOST_DEEP = 4


@dataclass(frozen=True, kw_only=True)
class Apr(Strategy):
    """Spawn and join after APR (Pan et al., arXiv 2504.15466), with any number of rounds.

    A parent writes one message per child; a child sees its message and nothing else; when all
    children of a round have ended, the parent goes on from its own context and their answers.
    Children may spawn in turn.  ``n`` is each parent's budget of children.
    """

    name: ClassVar[str] = "apr"
    needs: ClassVar[frozenset[Capability]] = frozenset({"spawn-join"})
    most_n: ClassVar[int] = 32

    n: int = 24

    async def solve(self, run: Run) -> Tally:
        form = run.dialect.forms(run.problem).spawning()
        async with run.graph:
            self._spawn(run, form, form.message)
        return self.tally(run)

    def _spawn(self, run: Run, form: SpawnForm, message: str) -> Task[str | None]:
        return run.spawn(self._thread, form.prompt(message, self.n), form, name=message)

    async def _thread(self, thread: Thread, form: SpawnForm) -> str | None:
        """Write, spawn and join until the thread ends; its answer is its message to the parent."""
        left = self.n
        deep = thread.task.id.count(".") >= MOST_DEEP
        while True:
            written = await thread.write()
            if not form.asks(written.text):
                thread.conclude()
                return form.found(thread.text)
            asked = form.spawns(written.text)[:left]
            left -= len(asked)
            messages = [] if deep else [spawn.message for spawn in asked]
            children = [self._spawn(thread.run, form, message) for message in messages]
            found = [await child.result() for child in children]
            if not thread.append(form.report(asked, found)):
                return None
