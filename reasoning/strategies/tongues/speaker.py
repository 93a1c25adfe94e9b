"""What all native tongues share when they are run: bounds, and what is told of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from orchestrator import Event
from reasoning.language.native.description import NativeFormat, Refusal
from reasoning.language.native.dialect import NativeDialect
from reasoning.language.native.tongue import Tongue
from reasoning.run.run import Run
from reasoning.run.thread import Thread
from reasoning.values.accounting import BlockTags, BlockTokens
from reasoning.values.context import Context

MOST_BRANCHES = 64
"""So many branches a fork may have at most, whatever the model or the caller asks for."""
MOST_THREADS = 256
"""So many threads a run may have in all, however often its branches fork."""


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

    def left(self, written: int, *bounds: int | None) -> int | None:
        """The most tokens that a thread may write, after so many before it."""
        known = [bound for bound in bounds if bound is not None]
        if self.critical:
            known.append(max(1, self.critical - written))
        return min(known, default=None)


@dataclass(kw_only=True)
class Speaker(ABC):
    """One run of a model in its own tongue."""

    run: Run
    dialect: NativeDialect
    bounds: Bounds

    @property
    def tongue(self) -> Tongue:
        """Its control strings as this model has them."""
        return self.dialect.tongue

    @property
    def format(self) -> NativeFormat:
        """What they mean."""
        return self.dialect.format

    @abstractmethod
    def start(self) -> None:
        """Open the first thread, or the task that waits for the first ones."""

    def tell(self, task: str, sequence: Context) -> None:
        """Tell what a trunk's whole sequence came to, and count it as the authors do."""
        rule = self.format.accounting
        if rule.block is not None and rule.branch is not None:
            response = sequence.tokens[len(sequence.entries[0]) :]
            tags = BlockTags(*(self.tongue.ids[text] for text in (*rule.block, *rule.branch)))
            self.run.blocks = BlockTokens.of(response, tags)
        if self.run.events.heard:
            self.run.events.emit(TranscriptEnded(task=task, tokens=tuple(sequence.tokens)))

    def permitted(self, thread: Thread, asked: int) -> int:
        """How many of the branches may be made that a thread asks for: the first ones.

        Raises:
            ForkDenied: none.
        """
        fork = self.format.fork
        bounds = [self.bounds.n or MOST_BRANCHES, MOST_THREADS - len(self.run.threads)]
        most = fork.plan.most
        if most is not None and asked > most and fork.over != "first":
            raise ForkDenied(f"{asked} branches; the family has {most}", fork.over)
        bound = min(bounds if most is None else [*bounds, most])
        if bound < 1:
            raise ForkDenied(f"the run has {MOST_THREADS} threads already", fork.limited)
        if asked > bound:
            self.run.refuse_fork(thread.task, f"{asked} branches; only the first {bound} were made")
        return bound

    def check_rounds(self, rounds: int) -> None:
        """Check that a thread which forked so often may fork again.

        Raises:
            ForkDenied: it may not.
        """
        most = min(self.format.fork.rounds or self.bounds.rounds, self.bounds.rounds)
        if rounds >= most:
            why = f"the thread has forked {most} times already"
            raise ForkDenied(why, self.format.fork.limited)
