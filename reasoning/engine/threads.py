"""Threads inside the engine: what each writes to, what a step feeds for it, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.engine.identities import refuse_path
from reasoning.engine.sampling import Sampler
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import StopReason


class SampledToken(NamedTuple):
    """One generated token; ``reason`` is set on the last one before its thread stops."""

    thread: int
    token: int
    logprob: float
    reason: StopReason | None
    confidence: float | None = None


class ThreadFailure(NamedTuple):
    """A thread that can't go on, and why."""

    thread: int
    error: ReasonError


def check_paths(segment: Segment, most: int | None) -> None:
    """Refuse a segment that has, or sees, a path beyond a model's ``most`` identities.

    Raises:
        InvalidValue: naming the path.
    """
    for one in (segment, *(entry.segment for entry in segment.context.entries)):
        if why := refuse_path(one.path, most):
            raise InvalidValue(why)


@dataclass(eq=False)
class StoredSegment:
    """A segment as the engine knows it: its tokens, and where their keys and values are.

    Attributes:
        tokens: What was given and generated; generated ones are here a moment before the run
            has read them.
        start, size: Its extent in the pool; no size yet before its first token is computed.
        used: How many of its tokens are computed.
        live: Whether a thread writes to it.
        logits: Of its last computed token, where a thread may start from it.
    """

    tokens: list[int]
    start: int = 0
    size: int = 0
    used: int = 0
    live: bool = False
    logits: Tensor | None = None

    def cut(self, read: int) -> None:
        """Drop the tokens behind the first ``read`` ones."""
        if read < len(self.tokens):
            del self.tokens[read:]
        if read < self.used:
            self.used, self.logits = read, None

    def want_logits(self) -> None:
        """Have its last token computed again where its logits are gone, as after a cut."""
        if self.used and self.used == len(self.tokens) and self.logits is None:
            self.used -= 1


@dataclass(eq=False, kw_only=True)
class EngineThread:
    """One thread: it writes to a segment of its own, in a context that may change.

    Attributes:
        segment, stored: What it writes to now.
        stopped: Whether it met one of its stop tokens and may go on.
        written: How many tokens it generated.
        most: How many it may generate in all; None without a limit.
        until: How many it may generate before it stands still; None without a limit.
        held: Whether it stands still there.
    """

    id: int
    segment: Segment
    stored: StoredSegment
    sampler: Sampler
    limit: int
    stop: frozenset[int] = frozenset()
    gang: Gang | None = None
    stopped: bool = False
    written: int = 0
    most: int | None = None
    until: int | None = None
    held: bool = False

    @property
    def spent(self) -> bool:
        """Whether it has written as much as it may for now."""
        return self.until is not None and self.written >= self.until

    @property
    def exhausted(self) -> bool:
        """Whether it has written all that it may."""
        return self.most is not None and self.written >= self.most

    def go_on(self, *, fits: bool) -> None:
        """Leave the stop token behind.

        Raises:
            InvalidValue: the thread has ended, or its context has no room.
        """
        if not self.stopped:
            raise InvalidValue("the thread has not stopped at a stop token; it can't be extended")
        if not fits:
            raise InvalidValue(f"the thread's context of {self.limit} tokens is full")
        self.stopped = False


@dataclass(eq=False, kw_only=True)
class ScoringThread(EngineThread):
    """Reads the tokens that a segment was given, for how likely each is after those before it.

    Attributes:
        before: Logits of the last token before those that are read next.
    """

    before: Tensor | None = None


@dataclass(eq=False, kw_only=True)
class StepRow:
    """What one step feeds to one segment.

    Attributes:
        tokens: None to feed where a thread goes on from a segment that is computed already.
        thread: Whose next token its logits choose; None where given tokens are only computed.
        source: The segment whose last logits that thread starts from.
        scores: The logits of each of its tokens, where somebody reads them.
    """

    segment: Segment
    tokens: list[int]
    thread: EngineThread | None = None
    source: Segment | None = None
    scores: Tensor | None = None

    @property
    def scored(self) -> bool:
        """Whether the logits of each of its tokens are wanted."""
        return isinstance(self.thread, ScoringThread)
