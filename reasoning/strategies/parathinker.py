"""ParaThinker: several paths from one prompt, and a summary that sees all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from orchestrator import Task
from pruning import Tally
from reasoning.language.forms import PathForm
from reasoning.run.run import Run
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies.base import Strategy
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context, Gang


@dataclass(frozen=True, kw_only=True)
class ParaThinker(Strategy):
    """Parallel paths and a summary after ParaThinker (Wen et al., arXiv 2509.04475).

    ``n`` paths advance in lock-step.  When ``need`` of them have an answer the others are stopped
    where they are, and the summary is written over all of them, finished or not, from their keys
    and values.  Each path's tokens carry its identity vector where the model has them.
    """

    name: ClassVar[str] = "parathinker"
    needs: ClassVar[frozenset[Capability]] = frozenset({"shared-threads", "kv-join"})
    emulates: ClassVar[dict[Capability, str]] = {"kv-join": "text-join"}
    most_n: ClassVar[int] = 8

    n: int = 8

    need: int = 1
    """How many paths must have an answer: 1 is first-finish; ``n`` or more is all."""

    async def solve(self, run: Run) -> Tally:
        form = run.dialect.forms(run.problem).paths()
        async with run.graph:
            run.graph.add(partial(self._race, run, form), name="summary")
        return self.tally(run)

    async def _race(self, run: Run, form: PathForm) -> None:
        ends: dict[int, Context] = {}
        paths: list[Task[None]] = []
        lock_step = "live-contexts" in run.backend.capabilities
        gang = Gang(size=self.n, lockstep=True) if lock_step else None
        solved: list[int] = []

        async def path(thread: Thread, index: int) -> None:
            try:
                await thread.write()
                thread.conclude()
                if form.solved(thread.text):
                    solved.append(index)
                if len(solved) == self.need:
                    # While this thread is open its gang stands still.
                    others = [task for task in paths if task is not thread.task]
                    await run.stop(others, after=thread)
            finally:
                ends[index] = thread.end

        for index in range(1, self.n + 1):
            options = ThreadOptions(
                opening=form.opening(index),
                path=index,
                stop=form.stop,
                gang=gang,
                reserve=run.reserve,
            )
            paths.append(run.spawn(path, form.prompt, index, name=f"path {index}", options=options))
        await run.ended(paths)
        context = run.join(form.prompt, [ends[index] for index in sorted(ends)])
        await run.conclude(context, ThreadOptions(opening=form.summary))

    def tally(self, run: Run) -> Tally:
        """The summary's vote; where there is none, or it had no room, those of the paths."""
        summaries = [thread for id, thread in run.threads.items() if "." not in id]
        if summaries and "join-skipped" not in run.emulated:
            return run.vote(summaries)
        return run.vote(thread for id, thread in run.threads.items() if "." in id)
