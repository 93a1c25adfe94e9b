"""Which threads of the engine run in the next step: slots, gangs, and who stands still."""

from __future__ import annotations

from reasoning.engine.threads import EngineThread
from reasoning.values.context import Gang


class ThreadScheduler:
    """All open threads of an engine, of which at most ``slots`` run at once.

    A thread runs, waits for a slot, stands still at its limit (``held``), or has stopped.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.threads: dict[int, EngineThread] = {}
        self._running: dict[int, EngineThread] = {}
        self._waiting: dict[int, EngineThread] = {}

    @property
    def active(self) -> int:
        """The number of threads that run or wait for a slot; those of a paused gang do neither."""
        paused = self._paused()
        return sum(t.gang not in paused for t in (*self._waiting.values(), *self._running.values()))

    def _paused(self) -> set[Gang | None]:
        """The gangs that are not complete, or of which a thread has stopped and may go on."""
        return {
            gang
            for thread in self.threads.values()
            if (gang := thread.gang) is not None
            and (
                thread.stopped
                or gang.opened < gang.size
                or (gang.lockstep and not thread.held and not self._is_admitted(thread))
            )
        }

    def _is_admitted(self, thread: EngineThread) -> bool:
        return thread.id in self._running or thread.id in self._waiting

    def add(self, thread: EngineThread) -> None:
        """Take a new thread, which waits for a slot."""
        self.threads[thread.id] = self._waiting[thread.id] = thread

    def go_on(self, thread: EngineThread) -> None:
        """Let a thread that stopped or stood still go on."""
        # Who goes on in lock-step has its slot: its gang holds the others' while it waits.
        keeps = thread.gang is not None and thread.gang.lockstep and thread.written
        (self._running if keeps else self._waiting)[thread.id] = thread
        thread.stored.live = True

    def end(self, thread: EngineThread) -> None:
        """Take a thread's slot, or its place among those who wait; it writes no more for now."""
        self._running.pop(thread.id, None)
        self._waiting.pop(thread.id, None)
        thread.stored.live = False

    def fail(self, id: int) -> None:
        """Take the slot of a thread that can't go on; it is closed by whoever is told."""
        self._running.pop(id, None)

    def limit(self, thread: EngineThread, until: int | None) -> None:
        """Let a thread generate up to ``until`` tokens in all; None lifts the limit."""
        thread.until = until
        if thread.spent and self._is_admitted(thread):
            self.hold(thread)
        elif thread.held and not thread.spent:
            thread.held = False
            self.go_on(thread)

    def hold(self, thread: EngineThread) -> None:
        """Let a thread stand still, without a slot."""
        self.end(thread)
        thread.held = True

    def remove(self, id: int) -> EngineThread | None:
        """Forget a thread in any state; returns it, or None where there is none of this id."""
        thread = self.threads.pop(id, None)
        if thread is not None:
            self.end(thread)
        return thread

    def runnable(self) -> list[EngineThread]:
        """Give out free slots, and return the threads that may advance in the next step."""
        self._admit()
        paused = self._paused()
        return [thread for thread in self._running.values() if thread.gang not in paused]

    def _admit(self) -> None:
        """Give free slots to those who wait, in their order; to gangs in lock-step as a whole."""
        for thread in list(self._waiting.values()):
            gang = thread.gang
            together = [thread]
            if gang is not None and gang.lockstep:
                if gang.opened < gang.size or thread.id not in self._waiting:
                    continue
                together = [other for other in self._waiting.values() if other.gang is gang]
            if self._running and len(self._running) + len(together) > self.slots:
                return
            for other in together:
                self._running[other.id] = self._waiting.pop(other.id)
