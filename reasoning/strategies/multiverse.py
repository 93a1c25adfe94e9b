"""Multiverse: the model itself forks into branches and concludes from all that they wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pruning import Tally
from reasoning.language.forms import ForkForm, Outline
from reasoning.run.run import NO_ROOM, Run
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies.base import Strategy
from reasoning.strategies.sampling import answer
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context

MOST_DEEP = 3
ALONE = "alone"
"""Names the thread that solves the problem by itself, where a plan can't be worked on."""
MOST_THREADS = 256
"""So many threads a run may have in all, however often its branches fork."""
LEAST_ROOM = 64
"""Tokens that a context must have left for a fork to be worth it."""


class EndedBranch(NamedTuple):
    """A branch that has ended: what may be joined, and its text."""

    end: Context
    text: str


@dataclass(frozen=True, kw_only=True)
class Multiverse(Strategy):
    """Map, process, reduce after Multiverse (Yang et al., arXiv 2506.09991).

    A thread writes a goal with outlines; each outline becomes a branch that sees everything before
    the fork and no sibling; the conclusion sees all branches, whose keys and values are reused
    where the backend can.  Branches may fork in turn.  ``n`` is the most branches of one fork;
    of more outlines the first are taken.  A fork without sense or room is refused
    (`Solution.fork_refused`); the thread goes on by itself, or where the form has a plan in place
    of an answer, another one solves the problem alone.
    """

    name: ClassVar[str] = "multiverse"
    needs: ClassVar[frozenset[Capability]] = frozenset({"shared-threads", "kv-join"})
    emulates: ClassVar[dict[Capability, str]] = {"kv-join": "text-join"}
    most_n: ClassVar[int] = 64

    n: int = 8

    async def solve(self, run: Run) -> Tally:
        form = run.dialect.forms(run.problem).fork()
        options = ThreadOptions(stop=form.stop)
        async with run.graph:
            run.spawn(self._trunk, form.prompt, form, name="trunk", options=options)
        return self.tally(run)

    async def _trunk(self, thread: Thread, form: ForkForm) -> None:
        await self._write(thread, form, depth=0)
        if form.once and thread.run.fork_refused is not None:
            run = thread.run
            run.spawn(answer, run.dialect.prompt(run.problem), name=ALONE)
        else:
            thread.conclude(last_turn=form.once)

    async def _write(self, thread: Thread, form: ForkForm, depth: int) -> None:
        """Write, and fork and join as often as the thread asks for it."""
        while True:
            written = await thread.write()
            asks = form.asks(written.text, depth)
            if written.reason != "stop" and asks and form.once:
                thread.run.refuse_fork(
                    thread.task, f"its plan was {'lost' if thread.lost else 'cut'}"
                )
            if written.reason != "stop" or not asks:
                return
            if not await self._may_go_on(thread, form, written.text, depth):
                return
            if form.once:
                await thread.write()
                return

    async def _may_go_on(self, thread: Thread, form: ForkForm, text: str, depth: int) -> bool:
        """Fork and join, or refuse to; False where the thread has no room to write on."""
        run = thread.run
        try:
            outlines = self._permitted(thread, form.outlines(text), depth)
        except ValueError as error:
            thread.run.refuse_fork(thread.task, str(error))
            return not form.once and thread.append("")
        branches = await self._fork(thread, form, outlines, depth)
        opening = form.closing([branch.text for branch in branches]) + form.conclusion
        context = run.join(thread.end, [branch.end for branch in branches], opening)
        joined = thread.resume(context, opening)
        if not joined:
            run.skip_join(NO_ROOM)
        return joined

    async def _fork(
        self, thread: Thread, form: ForkForm, outlines: list[Outline], depth: int
    ) -> list[EndedBranch]:
        base = thread.end
        ends: dict[int, EndedBranch] = {}

        async def branch(own: Thread, index: int) -> None:
            try:
                await self._write(own, form, depth + 1)
                own.conclude()
            finally:
                ends[index] = EndedBranch(own.end, own.text)

        tasks = [
            thread.run.spawn(
                branch,
                base,
                index,
                name=f"branch {index + 1}: {outline.goal}",
                options=ThreadOptions(
                    opening=outline.opening, stop=form.stop, reserve=self._reserve(thread, depth)
                ),
            )
            for index, outline in enumerate(outlines)
        ]
        for task in tasks:
            await task.result()
        return [ends[index] for index in sorted(ends)]

    def tally(self, run: Run) -> Tally:
        """The trunk's vote, or that of the thread that went on alone.

        Where the join had no room, those of branches that stated an answer.
        """
        if alone := [one for one in run.threads.values() if one.task.name == ALONE]:
            return run.vote(alone)
        tally = super().tally(run)
        if tally.winner is not None or run.join_skipped is None:
            return tally
        return run.vote(
            thread
            for thread in run.threads.values()
            if thread.answer_source not in ("none", "text")
        )

    def _permitted(self, thread: Thread, outlines: list[Outline], depth: int) -> list[Outline]:
        """The branches that a fork may have: the first ``n`` of those it asks for.

        Raises:
            ValueError: it may have none, and why.
        """
        outlines = outlines[: self.n]
        encode = thread.run.dialect.encode
        longest = max((len(encode(outline.opening)) for outline in outlines), default=0)
        limit = thread.run.max_tokens - self._reserve(thread, depth)
        room = limit - thread.end.position - longest
        if depth >= MOST_DEEP:
            raise ValueError(f"forks are {MOST_DEEP} deep already")
        if len(outlines) < 2:
            raise ValueError("fewer than two parts are allowed")
        if len(thread.run.threads) + len(outlines) > MOST_THREADS:
            raise ValueError(f"the run would have more than {MOST_THREADS} threads")
        if room < LEAST_ROOM:
            raise ValueError(f"only {max(room, 0)} tokens are left")
        return outlines

    def _reserve(self, thread: Thread, depth: int) -> int:
        """What a fork's branches leave to the conclusion."""
        return thread.options.reserve + thread.run.reserve // (depth + 1)
