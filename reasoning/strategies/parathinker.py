"""ParaThinker: several paths from one prompt, and a summary that sees all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from orchestrator import Task
from pruning import Tally
from reasoning.language.forms import PathForm
from reasoning.run.run import Run
from reasoning.run.selection import select
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
    needs: ClassVar[frozenset[Capability]] = frozenset({"shared-threads", "kv-join", "continuing"})
    emulates: ClassVar[dict[Capability, str]] = {
        "kv-join": "text-join",
        "continuing": "without-openings",
    }
    most_n: ClassVar[int] = 8
    chat_temperature: ClassVar[float] = 0.7

    n: int = 8

    need: int = 1
    """How many paths must have an answer: 1 is first-finish; ``n`` or more is all."""

    async def solve(self, run: Run) -> Tally:
        form = run.dialect.forms(run.problem).paths()
        if "continuing" not in run.dialect.capabilities:
            run.emulated.add("without-openings")
        async with run.graph:
            run.graph.add(partial(self._race, run, form), name="summary")
        return self.tally(run)

    async def _race(self, run: Run, form: PathForm) -> None:
        ends: dict[int, Context] = {}
        texts: dict[int, str] = {}
        paths: list[Task[None]] = []
        gang = Gang(size=self.n, lockstep=True)
        solved: list[int] = []

        async def path(thread: Thread, index: int) -> None:
            try:
                await thread.write()
                await run.turn(thread)
                if form.solved(thread.text, thread.conclude()):
                    solved.append(index)
                if len(solved) == self.need:
                    # While this thread is open its gang stands still.
                    others = [task for task in paths if task is not thread.task]
                    await run.stop(others, after=thread)
            finally:
                ends[index], texts[index] = thread.end, thread.text

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
        order = sorted(ends)
        await self._summarise(run, form, [ends[k] for k in order], [texts[k] for k in order])
        if run.join_skipped is not None:
            opened = [task.id for task in paths if task.id in run.threads]
            await select(run, [run.threads[id] for id in opened])

    async def _summarise(
        self, run: Run, form: PathForm, ends: list[Context], texts: list[str]
    ) -> None:
        context = None if "kv-join" in run.backend.capabilities else form.retold([""] * len(texts))
        if context is None:
            opening = form.closing(texts) + form.summary
            await run.conclude(run.join(form.prompt, ends, opening), ThreadOptions(opening=opening))
            return
        run.emulated.add("text-join")
        room = run.max_tokens - run.reserve - len(context)
        await run.conclude(form.retold(run.fitting_texts(texts, room)) or context, ThreadOptions())

    def tally(self, run: Run) -> Tally:
        """The summary's vote; where it gave none, those of the paths."""
        summaries = [thread for id, thread in run.threads.items() if "." not in id]
        if any(thread.answer is not None for thread in summaries):
            return run.vote(summaries)
        return run.vote(thread for id, thread in run.threads.items() if "." in id)
