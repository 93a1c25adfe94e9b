"""What generates tokens: the interface between threads of reasoning and any engine or server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from reasoning.values.capabilities import Capability
from reasoning.values.context import Gang, Segment
from reasoning.values.sampling import Sampling, StopReason


class Token(NamedTuple):
    """One generated token; ``reason`` is set on the last one before the thread stops.

    Attributes:
        confidence: -(1/k) Σ log P of the k likeliest tokens, where `Sampling.confidence` is k.
    """

    token: int
    logprob: float
    reason: StopReason | None = None
    confidence: float | None = None


class Generation(Protocol):
    """One thread on a backend: it generates, stops, may be extended, and is closed once."""

    def tokens(self) -> AsyncIterator[Token]:
        """Yield tokens until the thread stops."""
        ...

    def extend(self, tokens: Sequence[int]) -> None:
        """Append given tokens to a stopped thread; `tokens` then goes on."""
        ...

    def resume(self, segment: Segment) -> None:
        """Let a stopped thread write on in another segment; `tokens` then goes on."""
        ...

    def close(self) -> None:
        """Stop generating at once and free the thread's slot."""
        ...


@runtime_checkable
class Holding(Protocol):
    """A `Generation` of a backend with the capability ``holding``."""

    @property
    def leaked(self) -> int:
        """Tokens generated for it after it was closed, as far as known."""
        ...

    def hold(self, until: int | None) -> None:
        """Generate up to ``until`` tokens in all and then stand still; None lifts the limit."""
        ...


@runtime_checkable
class Prompting(Protocol):
    """A `Generation` that sends all that its thread sees as a prompt, request by request."""

    prompted: int
    """Tokens sent as prompts, over all its requests."""
    cached: int | None
    """How many of these were in the prefix cache; None where the backend does not say."""


class Backend(Protocol):
    """Opens threads; used as an async context manager around their whole life."""

    capabilities: frozenset[Capability]

    @property
    def leaked(self) -> int:
        """Tokens generated for threads after they were closed."""
        ...

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> Generation:
        """Start a thread that writes to ``segment``, in the segment's context.

        ``limit`` bounds its positions; threads of one ``gang`` advance together.  Errors
        of the prompt (empty, too long) are raised by the first `Generation.tokens`.
        """
        ...

    def release(self, segments: Sequence[Segment]) -> None:
        """Free what is stored for segments, though somebody holds them; no thread may need it."""
        ...


@runtime_checkable
class Settling(Protocol):
    """A `Backend` that can tell when it has counted what closed threads still generated."""

    async def settle(self) -> None:
        """Wait until ``leaked`` holds all that was generated for threads closed by now."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """A `Backend` with the capability ``scoring``."""

    async def score(self, segment: Segment) -> list[float]:
        """The log-probability of each token that a segment was given, in its context.

        Its keys and values are then stored as those of any other segment.

        Raises:
            InvalidValue: it has no tokens, no context, or was computed before.
        """
        ...


class Enterable(Backend, Protocol):
    """A backend with its context manager."""

    @property
    def open_threads(self) -> int:
        """Threads that are not closed, whether they run or have stopped."""
        ...

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, *error: Any) -> None: ...
