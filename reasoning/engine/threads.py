"""Threads of reasoning inside the engine, and what comes out of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.engine.identities import refuse_path
from reasoning.engine.sampling import Sampler
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import Sampling, StopReason


class Token(NamedTuple):
    """One generated token; ``reason`` is set on the last one before its thread stops."""

    thread: int
    token: int
    logprob: float
    reason: StopReason | None
    confidence: float | None = None


class Failure(NamedTuple):
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


class Thread:
    """One thread: it writes to a segment of its own, in a context that may change.

    Attributes:
        segment: What it writes to now.
        stopped: Whether it met one of its stop tokens and may go on.
        written: How many tokens it generated.
        until: How many it may generate before it stands still; None without a limit.
        held: Whether it stands still there.
    """

    def __init__(
        self,
        *,
        id: int,
        segment: Segment,
        sampling: Sampling,
        stop: frozenset[int],
        limit: int,
        gang: Gang | None,
    ) -> None:
        self.id = id
        self.sampler = Sampler(sampling)
        self.stop = stop
        self.limit = limit
        self.gang = gang
        self.stopped = False
        self.written = 0
        self.until: int | None = None
        self.held = False
        self.segment = segment
        if not len(segment) + len(segment.context):
            raise InvalidValue("the prompt is empty; give at least one token")
        if not self.fits(0):
            raise InvalidValue(
                f"the prompt has {segment.position} tokens and the context is {limit}; "
                "shorten it or raise --max-tokens"
            )

    @property
    def spent(self) -> bool:
        """Whether it has written as much as it may for now."""
        return self.until is not None and self.written >= self.until

    def fits(self, count: int) -> bool:
        """Whether it could still write after so many more given tokens."""
        return self.segment.position + count < self.limit

    def extend(self, tokens: Sequence[int]) -> None:
        """Append given tokens to a stopped thread."""
        self._go_on(self.fits(len(tokens)))
        self.segment.tokens += tokens

    def resume(self, segment: Segment) -> None:
        """Go on in another segment, with the tokens that it was given."""
        self._go_on(segment.position < self.limit and len(segment) > 0)
        self.segment = segment

    def _go_on(self, fits: bool) -> None:
        if not self.stopped:
            raise InvalidValue("the thread has not stopped at a stop token; it can't be extended")
        if not fits:
            raise InvalidValue(f"the thread's context of {self.limit} tokens is full")
        self.stopped = False


class Reader(Thread):
    """Reads the tokens that a segment was given, for how likely each is after those before it.

    Attributes:
        before: Logits of the last token before those that are read next.
    """

    def __init__(self, *, id: int, segment: Segment, limit: int) -> None:
        super().__init__(
            id=id, segment=segment, sampling=Sampling(), stop=frozenset(), limit=limit, gang=None
        )
        self.before: Tensor | None = None


@dataclass(eq=False, kw_only=True)
class Row:
    """What one step feeds to one segment.

    Attributes:
        every: The logits of each of its tokens, where somebody reads them.
        thread: Whose next token its logits choose; None where given tokens are only computed.
        tokens: None to feed where a thread goes on from a segment that is computed already.
        source: The segment whose last logits that thread starts from.
    """

    segment: Segment
    tokens: list[int]
    thread: Thread | None = None
    source: Segment | None = None
    every: Tensor | None = None

    @property
    def read(self) -> bool:
        """Whether the logits of each of its tokens are wanted."""
        return isinstance(self.thread, Reader)
