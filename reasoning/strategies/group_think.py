"""Group Think: thinkers that see each other's tokens, each in positions of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reasoning.run.thread import Thread
from reasoning.strategies.shared_text import SharedTextStrategy, Workers
from reasoning.values.context import Context


@dataclass(frozen=True, kw_only=True)
class GroupThink(SharedTextStrategy):
    """Concurrent thinkers after Group Think (Hsu et al., arXiv 2505.11107).

    Each of ``n`` thinkers writes in a slot of positions of its own, as long as it lasts.  Its
    tokens are visible to all others in the step after they were chosen, or with ``lag`` 1 one step
    later.  The run ends when the thinkers together cover the problem, or all have ended.
    """

    name: ClassVar[str] = "group-think"

    lag: int = 0

    def gather(self, workers: Workers) -> None:
        prompt, most = workers.form.prompt, workers.run.max_tokens
        room = most - workers.reserve - prompt.position
        slot = min(room, workers.form.room or room) // workers.count
        places = [
            Context(entries=prompt.entries, position=prompt.position + slot * index)
            for index in range(workers.count)
        ]
        segments = [workers.begin(worker, place) for worker, place in enumerate(places, start=1)]
        for own in segments if not self.blind else ():
            others = [other for other in segments if other is not own]
            own.look(own.context.seeing(*others, lag=self.lag))

        async def think(thread: Thread, worker: int) -> None:
            workers.threads[worker] = thread
            while await workers.may_go_on(worker, (await thread.write()).reason):
                if not thread.append(""):
                    return

        for worker, (place, own) in enumerate(zip(places, segments, strict=True), start=1):
            options = workers.options(own, reserve=most - place.position - slot)
            task = workers.run.spawn(
                think, place, worker, name=f"thinker {worker}", options=options
            )
            workers.tasks.append(task)
