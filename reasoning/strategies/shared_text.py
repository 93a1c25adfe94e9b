"""What Hogwild! and Group Think have in common: workers on one task, and one joint answer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from orchestrator import Task
from pruning import Tally
from reasoning.language.forms import ShareForm
from reasoning.run.run import Run
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.strategies.base import Strategy
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import StopReason


class Workers:
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
        """How many tokens of context workers leave to the finisher, who reads them all."""
        return self.run.reserve if self.form.finisher else 0

    def options(self, own: Segment, *, reserve: int | None = None) -> ThreadOptions:
        """How a worker's thread is opened, which writes to a segment of its own."""
        return ThreadOptions(
            segment=own,
            stop=self.form.steps,
            gang=self.gang if self.live else None,
            reserve=self.reserve if reserve is None else reserve,
        )

    @property
    def live(self) -> bool:
        """Whether workers see each other's unfinished words."""
        return "live-contexts" in self.run.backend.capabilities

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
        """Let workers that stopped in the same step go on, or leave, in order of their numbers."""
        self._stopped.add(worker)
        try:
            await self.run.caught_up(self.threads[worker])
            await self.run.changes.until(lambda: min(self._stopped) == worker)
        finally:
            self._stopped.remove(worker)
            self.run.changes.tell()


@dataclass(frozen=True, kw_only=True)
class SharedTextStrategy(Strategy):
    """``n`` workers on one task, each seeing what the others write, and one joint answer.

    Where the backend has no live contexts they see the others' finished steps only, and what they
    see is computed again for each step.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset({"shared-threads", "live-contexts"})
    emulates: ClassVar[dict[Capability, str]] = {"live-contexts": "step-wise"}
    most_n: ClassVar[int] = 8

    n: int = 4

    blind: bool = False
    """Nobody sees the others: a baseline to compare with."""

    async def solve(self, run: Run) -> Tally:
        form = run.dialect.forms(run.problem).share(self.n)
        async with run.graph:
            run.graph.add(partial(self._together, run, form), name="workers")
        return self.tally(run)

    async def _together(self, run: Run, form: ShareForm) -> None:
        workers = Workers(run, form, self.n)
        if workers.live:
            self.gather(workers)
        else:
            run.emulated.add("step-wise")
            self._take_turns(workers)
        await run.ended(workers.tasks)
        if form.finisher and form.merged(workers.texts) is None:
            base = form.prompt
            context = run.join(base, [base.after(segment) for segment in workers.written])
            await run.conclude(context, ThreadOptions(opening=form.finisher))

    @abstractmethod
    def gather(self, workers: Workers) -> None:
        """Open the workers' threads, each with its view of the others."""

    def _take_turns(self, workers: Workers) -> None:
        shared: list[int] = []
        prompt = workers.form.prompt

        async def work(thread: Thread, worker: int) -> None:
            workers.threads[worker] = thread
            history = [] if self.blind else shared
            while await workers.may_go_on(worker, (await thread.write()).reason):
                history += thread.segment.tokens
                context = prompt.then(history)
                own = workers.begin(worker, context)
                if not thread.resume(context, "", segment=own):
                    return

        for worker in range(1, workers.count + 1):
            own = workers.begin(worker, prompt)
            options = workers.options(own)
            task = workers.run.spawn(work, prompt, worker, name=f"worker {worker}", options=options)
            workers.tasks.append(task)

    def tally(self, run: Run) -> Tally:
        """One vote, for the joint answer: that of a finisher, or what the workers' texts give."""
        threads = list(run.threads.values())
        final = [thread for thread in threads if "." not in thread.task.id and thread.answer]
        workers = [thread for thread in threads if "." in thread.task.id]
        if not final and workers:
            form = run.dialect.forms(run.problem).share(self.n)
            workers[0].answer = form.merged([thread.text for thread in workers])
            if workers[0].answer is not None:
                workers[0].answer_source = "cue" if run.dialect.trained else "box"
            final = workers[:1]
        return run.vote(final)
