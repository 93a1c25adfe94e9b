"""Forms: the words that open, end and join threads that share what they wrote.

A strategy says who sees whom; a form has the words.  The shipped model was taught its forms
(`reasoning.language.trained`); any chat model is asked in plain language
(`reasoning.language.prompted`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from reasoning.language.steps import StepEnds
from reasoning.values.context import Context


class Outline(NamedTuple):
    """One part of a fork: what it is to do, and the text that opens its branch."""

    goal: str
    opening: str


class Spawn(NamedTuple):
    """One child that a parent asked for: what the parent notes for itself, and the message."""

    number: str
    note: str
    message: str


class SpawnForm(Protocol):
    """APR: a thread sends messages to children, is told what they found, and goes on."""

    @property
    def message(self) -> str:
        """The problem as a message to a thread."""
        ...

    def prompt(self, message: str, budget: int) -> Context:
        """The context of a thread with this message, which may spawn up to ``budget`` children."""
        ...

    def asks(self, text: str) -> bool:
        """Whether what a thread wrote ends by waiting for children."""
        ...

    def spawns(self, text: str) -> list[Spawn]:
        """The children that a text asks for, each once."""
        ...

    def report(self, spawns: Sequence[Spawn], found: Sequence[str | None]) -> str:
        """What the parent is told of its children's answers, None for one that found nothing."""
        ...

    def found(self, text: str) -> str | None:
        """What a thread that has ended sends to its parent; None for nothing."""
        ...


class ForkForm(Protocol):
    """Multiverse: a thread outlines parts, branches do them, it concludes from all of them."""

    @property
    def prompt(self) -> Context: ...

    @property
    def stop(self) -> frozenset[int]:
        """Tokens at which a thread stops and may go on: it forks there, or its branch ends."""
        ...

    @property
    def conclusion(self) -> str:
        """What opens the conclusion."""
        ...

    def closing(self, texts: Sequence[str]) -> str:
        """What ends what was begun in the branches' texts, such as thoughts."""
        ...

    @property
    def once(self) -> bool:
        """Whether a thread forks at most once, and its last turn alone has its answer.

        Where its fork is refused, the problem is solved by another thread alone.
        """
        ...

    def asks(self, text: str, depth: int) -> bool:
        """Whether what a thread wrote asks for a fork; ``depth`` counts the forks around it."""
        ...

    def outlines(self, text: str) -> list[Outline]:
        """The parts that a fork asks for.

        Raises:
            ValueError: it is malformed, and why.
        """
        ...


class PathForm(Protocol):
    """ParaThinker: paths from one prompt, and a summary over all of them."""

    @property
    def prompt(self) -> Context: ...

    @property
    def stop(self) -> frozenset[int]: ...

    @property
    def summary(self) -> str: ...

    def closing(self, texts: Sequence[str]) -> str:
        """What ends what was begun in the paths' texts, such as thoughts."""
        ...

    def retold(self, texts: Sequence[str]) -> Context | None:
        """What the summary is asked where it has to read the paths' texts, whole or not.

        None where the model knows no words for that: their tokens are then put together.
        """
        ...

    def opening(self, path: int) -> str:
        """What opens path 1, 2, ..."""
        ...

    def solved(self, text: str, answer: str | None) -> bool:
        """Whether a path that has ended with this text, and answer, has solved the problem."""
        ...


class ShareForm(Protocol):
    """Hogwild! and Group Think: workers on one task that see each other's tokens."""

    @property
    def prompt(self) -> Context: ...

    @property
    def steps(self) -> StepEnds:
        """What ends a step of work."""
        ...

    @property
    def others(self) -> str:
        """What stands before the others' unfinished steps."""
        ...

    @property
    def own(self) -> str:
        """What stands before a worker's own unfinished step."""
        ...

    @property
    def check(self) -> str:
        """What a worker is asked from time to time, so that it notices work done twice."""
        ...

    @property
    def finisher(self) -> str:
        """What opens the final answer, for a thread that reads all workers; empty for none."""
        ...

    def closing(self, texts: Sequence[str]) -> str:
        """What ends what was begun in the workers' texts, such as thoughts."""
        ...

    def asked(self, worker: int, workers: int, steps: str, *, check: bool) -> str | None:
        """What asks a worker for its next step, the finished ``steps`` of all being these.

        None where a worker goes on in the shared text itself.
        """
        ...

    def told(self, worker: int, text: str) -> str:
        """A worker's finished step as the others read it where they are asked."""
        ...

    def left(self, text: str) -> bool:
        """Whether a worker that wrote this has ended its part, though the model has not."""
        ...

    @property
    def room(self) -> int | None:
        """The most positions of all workers' slots together; None for all of the context."""
        ...

    def opening(self, worker: int, workers: int) -> str:
        """What opens each step of worker 1, 2, ... of so many."""
        ...

    def merged(self, texts: Sequence[str]) -> str | None:
        """The answer that the workers' texts give together; None where they give none."""
        ...

    def complete(self, texts: Sequence[str]) -> bool:
        """Whether nothing is left to do."""
        ...


class RevisionForm(Protocol):
    """Self-aggregation and tree search: attempts that are written anew from earlier ones."""

    @property
    def prompt(self) -> Context:
        """The context of an attempt that sees no other."""
        ...

    def aggregated(self, texts: Sequence[str]) -> Context:
        """The context of one that sees several earlier ones."""
        ...

    def refined(self, text: str, score: float) -> Context:
        """The context of one that is to be better than an earlier one with a score of 0 to 1."""
        ...


class Forms(Protocol):
    """A dialect's forms for a problem.

    Each raises:
        ProblemRefused: the model can't do problems of this kind so.
    """

    def spawning(self) -> SpawnForm: ...

    def fork(self) -> ForkForm: ...

    def paths(self) -> PathForm: ...

    def share(self, workers: int) -> ShareForm: ...

    def revision(self) -> RevisionForm: ...
