"""What all native tongues share when they are run: bounds, and what is told of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from orchestrator import Event, Task
from reasoning.language.native.description import NativeFormat, Refusal
from reasoning.language.native.dialect import NativeSpeech
from reasoning.run.run import NO_ROOM, Run
from reasoning.run.thread import Thread
from reasoning.values.context import Context

MOST_BRANCHES = 64
"""So many branches a fork may have at most, whatever the model or the caller asks for."""
MOST_THREADS = 256
"""So many threads a run may have in all, however often its branches fork."""
MOST_STOPS = 64
"""So often a thread may stop at what leads nowhere: to go on may be one more request each time."""

USED_UP = "the critical path is as long as it may become"


@dataclass(frozen=True, kw_only=True)
class TranscriptEnded(Event):
    """A trunk has ended; ``tokens`` is its whole sequence, prompt, branches and joins included."""

    tokens: tuple[int, ...]


class ForkDenied(Exception):
    """A fork that may not be made, why, and what follows."""

    def __init__(self, reason: str, then: Refusal) -> None:
        super().__init__(reason)
        self.then = then


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What holds beside a family's own bounds.

    Attributes:
        n: The most branches of one fork, and where the caller says how many, that many; 0 leaves
            both to the family.
        depth: How deep forks may stand in each other.
        rounds: How many forks a thread may make after each other.
        critical: The most tokens one after the other, whoever writes them; 0 is no bound.
    """

    n: int = 0
    depth: int = 8
    rounds: int = 64
    critical: int = 0

    @property
    def chain(self) -> int | None:
        """The longest chain of a thread (`ThreadOptions.chain`)."""
        return self.critical or None


@dataclass(kw_only=True)
class Speaker(ABC):
    """One run of a model in its own tongue."""

    run: Run
    dialect: NativeSpeech
    bounds: Bounds
    _made: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.prompt = self.dialect.prompt(self.run.problem)

    @property
    def format(self) -> NativeFormat:
        """What they mean."""
        return self.dialect.format

    @abstractmethod
    def start(self) -> None:
        """Open the first thread, or the task that waits for the first ones."""

    def tell(self, task: str, sequence: Context) -> None:
        """Tell what a trunk's whole sequence came to."""
        if self.run.events.heard:
            self.run.events.emit(TranscriptEnded(task=task, tokens=tuple(sequence.tokens)))

    def permitted(self, task: Task[Any], asked: int) -> int:
        """How many of the branches may be made that a thread asks for: the first ones.

        They count as made, so that forks at the same time have one bound.

        Raises:
            ForkDenied: none.
        """
        fork = self.format.fork
        bounds = [self.bounds.n or MOST_BRANCHES, MOST_THREADS - 1 - self._made]
        most = fork.plan.most
        if most is not None and asked > most and fork.over != "first":
            raise ForkDenied(f"{asked} branches; the family has {most}", fork.over)
        bound = min(bounds if most is None else [*bounds, most])
        if bound < 1:
            raise ForkDenied(f"the run has {MOST_THREADS} threads already", fork.limited)
        if asked > bound:
            self.run.refuse_fork(task, f"{asked} branches; only the first {bound} were made")
        self._made += min(asked, bound)
        return min(asked, bound)

    def kept(self, thread: Thread, count: int) -> Context:
        """The first tokens of all that a thread sees and has written, which nobody computes anew
        where the backend keeps them, and nobody counts again where it does not."""
        if count == len(thread.end):
            return thread.end
        if "kv-join" in self.run.backend.capabilities:
            return thread.end.first(count)
        context = Context.given(thread.end.tokens[:count])
        self.run.segments.update(entry.segment for entry in context.entries)
        return context

    def skip_join(self, thread: Thread) -> None:
        """Note why a thread that was to go on behind a join did not."""
        self.run.skip_join(USED_UP if thread.spent else NO_ROOM)

    def check_rounds(self, rounds: int) -> None:
        """Check that a thread which forked so often may fork again.

        Raises:
            ForkDenied: it may not.
        """
        most = min(self.format.fork.rounds or self.bounds.rounds, self.bounds.rounds)
        if rounds >= most:
            why = f"the thread has forked {most} times already"
            raise ForkDenied(why, self.format.fork.limited)
