"""What Hogwild! and Group Think have in common: workers on one task, and one joint answer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import anyio.lowlevel

from orchestrator import Task
from pruning import Tally
from reasoning.language.forms import ShareForm
from reasoning.run.run import Run, Thread
from reasoning.strategies.base import Strategy
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import StopReason


class Cohort:
    """The workers of one run and what they have written."""

    def __init__(self, run: Run, form: ShareForm, count: int) -> None:
        self.run = run
        self.form = form
        self.count = count
        self.gang = Gang(size=count, lockstep=True)
        self.threads: dict[int, Thread] = {}
        self.tasks: list[Task[None]] = []
        self.over = False
        """Whether somebody found that nothing is left to do, and stops the others."""
        self._stopped: set[int] = set()
        """Those who wait for their turn to go on."""
        self.written: list[Segment] = []
        """Everybody's segments, in the order in which they were begun."""

    def begin(self, worker: int, context: Context, *, check: bool = False) -> Segment:
        """A segment for a worker's next words, with what opens them."""
        text = self.form.opening(worker, self.count) + (self.form.check if check else "")
        segment = Segment(context, self.run.dialect.encode(text))
        self.written.append(segment)
        self.run.segments.add(segment)
        return segment

    @property
    def reserve(self) -> int:
        """What workers leave of their context to whoever reads them all."""
        return self.run.reserve if self.form.finisher else 0

    @property
    def texts(self) -> list[str]:
        return [self.threads[worker].text for worker in sorted(self.threads)]

    @property
    def tokens(self) -> int:
        """Tokens written by all."""
        return sum(thread.written for thread in self.threads.values())

    async def may_go_on(self, worker: int, last: StopReason) -> bool:
        """Whether a worker whose thread stopped has more to do.

        Where nothing is left to do, the others are stopped while this one, and so their gang,
        stands still.
        """
        thread = self.threads[worker]
        if last != "lost":
            await self._turn(worker)
        if last != "stop" or self.over:
            return False
        if not self.form.complete(self.texts):
            return thread.segment.tokens[-1] not in self.run.dialect.ends
        self.over = True
        await self.run.stop([task for task in self.tasks if task is not thread.task], after=thread)
        return False

    async def _turn(self, worker: int) -> None:
        """Have those who stopped in one and the same step go on, or leave, in their order."""
        self._stopped.add(worker)
        try:
            await self.run.caught_up(self.threads[worker])
            while min(self._stopped) < worker:
                await anyio.lowlevel.checkpoint()
        finally:
            self._stopped.remove(worker)


@dataclass(frozen=True, kw_only=True)
class Working(Strategy):
    """``n`` workers on one task, each seeing what the others write, and one joint answer.

    Where the backend has no live contexts they see the others' finished steps only, and what they
    see is computed again for each step.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset({"shared-threads", "live-contexts"})
    emulates: ClassVar[dict[Capability, str]] = {"live-contexts": "step-wise"}
    default_n: ClassVar[int] = 4
    most_n: ClassVar[int] = 8

    blind: bool = False
    """Nobody sees the others: a baseline to compare with."""

    async def solve(self, run: Run) -> Tally:
        form = run.dialect.forms(run.problem).share(self.n)
        async with run.graph:
            run.graph.add(partial(self._together, run, form), name="workers")
        return self.tally(run)

    async def _together(self, run: Run, form: ShareForm) -> None:
        cohort = Cohort(run, form, self.n)
        if "live-contexts" in run.backend.capabilities:
            self.gather(cohort)
        else:
            run.emulated.add("step-wise")
            self._take_turns(cohort)
        await run.ended(cohort.tasks)
        if form.finisher and form.merged(cohort.texts) is None:
            base = form.prompt
            context = run.join(base, [base.after(segment) for segment in cohort.written])
            with run.go_on(context, opening=form.finisher) as thread:
                await thread.write()
                thread.conclude()

    @abstractmethod
    def gather(self, cohort: Cohort) -> None:
        """Open the workers' threads, each with its view of the others."""

    def _take_turns(self, cohort: Cohort) -> None:
        shared: list[int] = []
        prompt = cohort.form.prompt

        async def work(thread: Thread, worker: int) -> None:
            cohort.threads[worker] = thread
            history = [] if self.blind else shared
            while await cohort.may_go_on(worker, (await thread.write()).reason):
                history += thread.segment.tokens
                context = prompt.then(history)
                own = cohort.begin(worker, context)
                if not thread.resume(context, "", own=own):
                    return

        for worker in range(1, cohort.count + 1):
            own = cohort.begin(worker, prompt)
            kind = partial(Thread, own=own, stop=cohort.form.steps, reserve=cohort.reserve)
            task = cohort.run.spawn(work, prompt, worker, name=f"worker {worker}", kind=kind)
            cohort.tasks.append(task)

    def tally(self, run: Run) -> Tally:
        """One vote, for the joint answer: that of a finisher, or what the workers' texts give."""
        threads = list(run.threads.values())
        final = [thread for thread in threads if "." not in thread.task.id and thread.answer]
        workers = [thread for thread in threads if "." in thread.task.id]
        if not final and workers:
            form = run.dialect.forms(run.problem).share(self.n)
            workers[0].answer = form.merged([thread.text for thread in workers])
            final = workers[:1]
        return run.vote(final)
