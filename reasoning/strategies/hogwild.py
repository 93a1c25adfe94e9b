"""Hogwild!: workers that write into one shared, growing text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reasoning.run.thread import Thread
from reasoning.strategies.shared_text import SharedTextStrategy, Workers
from reasoning.values.context import Context, Segment

Layout = Literal["combined", "contiguous", "interleaved"]


@dataclass(frozen=True, kw_only=True)
class Hogwild(SharedTextStrategy):
    """Workers on one shared cache after Hogwild! Inference (Rodionov et al., arXiv 2504.06261).

    Each of ``n`` workers sees the prompt, the history of finished steps, the others' unfinished
    ones as they grow, and then its own.  A finished step moves into the history by another shift of
    position; nothing is computed again.

    Attributes:
        layout: ``combined`` is the above; ``contiguous`` has no history, but the whole text of each
            worker; ``interleaved`` shows steps only when they are finished.
    """

    name: ClassVar[str] = "hogwild"

    layout: Layout = "combined"

    def gather(self, workers: Workers) -> None:
        text = _SharedText(self, workers)

        async def work(thread: Thread, worker: int) -> None:
            workers.threads[worker] = thread
            while await workers.may_go_on(worker, (await thread.write()).reason):
                if self.layout == "contiguous":
                    if not thread.append(""):
                        break
                elif not thread.resume(text.shared(worker), "", segment=text.finish_step(worker)):
                    break
            text.leave(worker)

        for worker in range(1, workers.count + 1):
            text.live[worker] = workers.begin(worker, text.shared(worker))
        text.show()
        for worker, own in text.live.items():
            options = workers.options(own)
            task = workers.run.spawn(
                work, workers.form.prompt, worker, name=f"worker {worker}", options=options
            )
            workers.tasks.append(task)


class _SharedText:
    """The shared text: the history, and what each worker is writing."""

    def __init__(self, strategy: Hogwild, workers: Workers) -> None:
        self._strategy = strategy
        self._workers = workers
        self._prompt = [entry.segment for entry in workers.form.prompt.entries]
        self._history: list[tuple[int, Segment]] = []
        self.live: dict[int, Segment] = {}
        self._others, self._own = map(self._header, (workers.form.others, workers.form.own))

    def _header(self, text: str) -> list[Segment]:
        """A line between others' text and one's own, where the form has one."""
        if not text:
            return []
        run = self._workers.run
        segment = Segment(self._workers.form.prompt, run.dialect.encode(text))
        run.segments.add(segment)
        return [segment]

    def shared(self, worker: int) -> Context:
        """The prompt and the history, as this worker sees it."""
        blind = self._strategy.blind
        steps = [step for whose, step in self._history if not blind or whose == worker]
        return Context.flow([*self._prompt, *steps])

    def finish_step(self, worker: int) -> Segment:
        """Move a worker's step into the history; returns the segment of its next one."""
        self._history.append((worker, self.live[worker]))
        due = self._workers.check_due(worker, self._strategy.check_every)
        self.live[worker] = self._workers.begin(worker, self.shared(worker), check=due)
        self.show()
        return self.live[worker]

    def leave(self, worker: int) -> None:
        """A worker has ended; what it wrote last stays visible."""
        self._history.append((worker, self.live.pop(worker)))
        self.show()

    def show(self) -> None:
        """Show everybody what there is now."""
        hidden = self._strategy.blind or self._strategy.layout == "interleaved"
        for worker, own in self.live.items():
            seen = [entry.segment for entry in self.shared(worker).entries]
            others = [other for other in self.live.values() if other is not own]
            if others and not hidden:
                seen += [*self._others, *others, *self._own]
            own.look(Context.flow(seen))
