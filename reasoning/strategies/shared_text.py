"""What Hogwild! and Group Think have in common: workers on one task, and one joint answer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from orchestrator import Task
from pruning import Tally
from reasoning.language.forms import ShareForm
from reasoning.run.joining import Part, latest, parts_of
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
        self.written: list[Segment] = []
        """Everybody's segments, in the order in which they were begun."""
        self.finished: list[tuple[int, Part]] = []
        """Steps that were finished, in that order, and whose they are, where nobody sees others
        write."""
        self._checked = 0

    def begin(self, worker: int, context: Context, *, check: bool = False) -> Segment:
        """A segment for a worker's next words, with what opens them."""
        text = self.form.opening(worker, self.count) + (self.form.check if check else "")
        return self._keep(Segment(context, self.run.dialect.encode(text)))

    def check_due(self, worker: int, every: int) -> bool:
        """Whether a worker's next step starts with the question whether work is done twice."""
        tokens = self.tokens_at(self.threads[worker].written)
        due = tokens - self._checked >= every
        if due:
            self._checked = tokens
        return due

    # Steps, where nobody sees others write.

    @property
    def steps(self) -> list[Part]:
        return [step for _, step in self.finished]

    def finish_step(self, worker: int) -> None:
        """Add what a worker wrote last to what others see."""
        thread, dialect = self.threads[worker], self.run.dialect
        if self.is_asked:
            told = self.form.told(worker, thread.last_text)
            step = Part([], dialect.encode(told))
        else:
            (step,) = parts_of(dialect, thread.context, [thread.end])
        if step.written:
            self.finished.append((worker, step))

    def next_step(self, worker: int, *, check_every: int = 0, blind: bool = False) -> Segment:
        """The segment for a worker's next step, behind what it sees of the finished ones.

        These have half of the context at most, and the older ones make room.
        """
        check = check_every > 0 and self.check_due(worker, check_every)
        seen = [step for whose, step in self.finished if not blind or whose == worker]
        prompt, run = self.form.prompt, self.run
        room = (run.max_tokens - self.reserve - len(prompt)) // 2
        history = run.fitting(seen, room, latest)
        if not self.is_asked:
            context = prompt.then(history) if history else prompt
            return self.begin(worker, context, check=check)
        decoder = run.dialect.decoder()
        steps = "".join(map(decoder.feed, history)).strip()
        asked = self.form.asked(worker, self.count, steps, check=check) or ""
        return self._keep(Segment(prompt, run.dialect.encode(asked)))

    @property
    def is_asked(self) -> bool:
        """Whether each step is asked for, because no turn can be begun for the model."""
        return self.form.asked(1, self.count, "", check=False) is not None

    def _keep(self, segment: Segment) -> Segment:
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
            steps=self.form.steps,
            gang=self.gang,
            reserve=self.reserve if reserve is None else reserve,
        )

    @property
    def live(self) -> bool:
        """Whether workers see each other's unfinished words."""
        return "live-contexts" in self.run.backend.capabilities

    @property
    def texts(self) -> list[str]:
        return [self.threads[worker].text for worker in sorted(self.threads)]

    def texts_at(self, written: int) -> list[str]:
        """What there was when each had written so many tokens, or as many as it wrote in all."""
        return [self.threads[worker].text_at(written) for worker in sorted(self.threads)]

    def tokens_at(self, written: int) -> int:
        """Tokens written by all until then."""
        return sum(min(thread.written, written) for thread in self.threads.values())

    async def may_go_on(self, worker: int, last: StopReason) -> bool:
        """Whether a worker whose thread stopped has more to do.

        Where nothing is left to do, the others are stopped while this one, and so their gang,
        stands still.
        """
        thread = self.threads[worker]
        if last != "lost":
            await self.run.turn(thread)
        if last != "stop" or self.over or self.form.left(thread.last_text):
            return False
        if not self.form.complete(self.texts_at(thread.written)):
            return not self._has_ended(thread)
        self.over = True
        await self.run.stop([task for task in self.tasks if task is not thread.task], after=thread)
        return False

    def _has_ended(self, thread: Thread) -> bool:
        """Whether the model ended its turn, or has written as much as a context holds."""
        last = thread.segment.tokens[-1:]
        return (bool(last) and last[0] in self.run.dialect.ends) or thread.written >= thread.limit


@dataclass(frozen=True, kw_only=True)
class SharedTextStrategy(Strategy):
    """``n`` workers on one task, each seeing what the others write, and one joint answer.

    Where the backend has no live contexts they see the others' finished steps only, and what they
    see is computed again for each step.  Where the model can't go on with a turn that was begun for
    it, each step is asked for in a turn of the user's (``asked-anew``).

    Attributes:
        check_every: After so many tokens of all workers the next step starts with a question
            whether the work is being done twice, where the form has one.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {"shared-threads", "live-contexts", "continuing"}
    )
    emulates: ClassVar[dict[Capability, str]] = {
        "live-contexts": "step-wise",
        "continuing": "asked-anew",
    }
    most_n: ClassVar[int] = 8
    chat_temperature: ClassVar[float] = 0.7

    n: int = 4

    check_every: int = 256
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
            if workers.is_asked:
                run.emulated.add("asked-anew")
            self._take_turns(workers)
        await run.ended(workers.tasks)
        if form.finisher and form.merged(workers.texts) is None:
            await self._finish(run, workers)

    async def _finish(self, run: Run, workers: Workers) -> None:
        """Let one more thread read all workers and answer."""
        form = workers.form
        opening = form.closing(workers.texts) + form.finisher
        base = form.prompt
        if workers.live:
            context = run.join(base, [base.after(segment) for segment in workers.written])
        else:
            room = run.room_behind(base, opening)
            context = base.then(run.fitting(workers.steps, room, latest))
        await run.conclude(context, ThreadOptions(opening=opening))

    @abstractmethod
    def gather(self, workers: Workers) -> None:
        """Open the workers' threads, each with its view of the others."""

    def _take_turns(self, workers: Workers) -> None:
        async def work(thread: Thread, worker: int) -> None:
            workers.threads[worker] = thread
            while True:
                going_on = await workers.may_go_on(worker, (await thread.write()).reason)
                workers.finish_step(worker)
                if not going_on:
                    return
                own = workers.next_step(worker, check_every=self.check_every, blind=self.blind)
                if not thread.resume(own.context, "", segment=own):
                    return

        for worker in range(1, workers.count + 1):
            own = workers.next_step(worker)
            options = workers.options(own)
            task = workers.run.spawn(
                work, own.context, worker, name=f"worker {worker}", options=options
            )
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
