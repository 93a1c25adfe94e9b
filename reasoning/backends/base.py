"""The contract between a run and whatever generates its tokens.

A run opens a thread on a `Segment`: the segment's context is what the thread sees, and the tokens
of the segment are its own first words.  Whoever generates only *yields* tokens.  The run alone
writes to segments: it appends each token before it asks for the next one, and what it gives to a
stopped thread at once.  A backend reads a segment when a thread is opened on it, extended or
resumed.  One that needs tokens before the run has read them (the embedded engine, for its next
step and for live viewers) keeps them for itself, and forgets at `Generation.close` what the run
has not read.

A backend of one's own implements `Backend.open` and, in its generations, `Generation.tokens`; the
rest has a default.  For anything that takes text and gives text, `reasoning.backends.text` is less.
All methods are called on the event loop on which the backend was entered.
"""

# ruff: noqa: B027  (optional methods do nothing by default)
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from reasoning.errors import CapabilityMissing
from reasoning.values.capabilities import Capability
from reasoning.values.context import Gang, Segment
from reasoning.values.conversation import ToolCall
from reasoning.values.sampling import Sampling, StopReason


class Token(NamedTuple):
    """One generated token; ``reason`` is set on the last one before the thread stops.

    Attributes:
        logprob: At temperature 1; NaN where the backend does not say.
        confidence: -(1/k) Σ log P of the k likeliest tokens, where `Sampling.confidence` is k.
    """

    token: int
    logprob: float
    reason: StopReason | None = None
    confidence: float | None = None


class Generation(ABC):
    """One thread on a backend, used by whoever opened it: one reader, who closes it once.

    Attributes:
        prompted: Tokens sent as prompts, over all its requests; 0 where none are sent.
        cached: How many of these were in a prefix cache; None where the backend does not say.
        leaked: Tokens generated for it after it was closed, as far as known.
        discarded: Tokens written a second time elsewhere and thrown away, as far as known.
        ignored: What was asked for and the backend could not do, by name.
        timing_dependent: Whether its tokens hang on when requests were lost or late, since what was
            asked for again may be another draw.
        tool_calls: What its answer asks others to do, where the backend reads that by itself.
    """

    prompted: int = 0
    cached: int | None = None
    leaked: int = 0
    discarded: int = 0
    ignored: frozenset[str] = frozenset()
    timing_dependent: bool = False
    tool_calls: tuple[ToolCall, ...] = ()

    @abstractmethod
    def tokens(self) -> AsyncIterator[Token]:
        """Yield tokens until the thread stops; the last one says why.

        Called when the thread is opened, and again after each `extend` and `resume`.

        Raises:
            InvalidValue: the prompt is empty or too long.
            CapabilityMissing: the backend can't see such a context, or draw tokens like this.
            BackendLost: what generates died or failed; the tokens until then stand.
        """

    def extend(self, tokens: Sequence[int]) -> None:
        """Let a thread that met one of its ``stop`` tokens go on after more given tokens.

        The caller appends them to the segment when this has returned.

        Raises:
            InvalidValue: the thread has ended, or its context has no room for them.  A backend
                that finds this out later raises it from `tokens`.
        """
        raise CapabilityMissing("this backend's threads can't be given more; use another strategy")

    def resume(self, segment: Segment) -> None:
        """Let a thread that met one of its ``stop`` tokens go on in another segment.

        Raises:
            InvalidValue: as `extend`, or the segment has no token.
        """
        raise CapabilityMissing("this backend's threads can't be moved; use another strategy")

    def stop_here(self) -> None:
        """Take the token that was read last for a stop token: the thread may go on after it.

        Called, where the backend's ``stops_anywhere`` says so, before `tokens` is left.
        """
        raise CapabilityMissing("this backend's threads stop at stop tokens only")

    def hold(self, until: int | None) -> None:
        """Generate up to ``until`` tokens in all and then stand still; None lifts the limit.

        Backends without the capability ``holding`` generate on.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop generating at once and free the thread's slot; more calls do nothing."""


class Backend(ABC):
    """Opens threads; used as an async context manager around their whole life.

    Attributes:
        capabilities: What it can do; a strategy that needs more is refused, or run in a named
            emulation.
        leaked: Tokens generated for threads after they were closed, as far as known.
        open_threads: Threads that are not closed, whether they run or have stopped.
        exact: Whether tokens are the model's own; elsewhere those that were given are a guess.
        stops_anywhere: Whether whoever reads a thread may stop it after any token and let it go on
            from there (`Generation.stop_here`).
        addresses: Where it is reached; none in this process.
    """

    capabilities: frozenset[Capability] = frozenset()
    leaked: int = 0
    open_threads: int = 0
    exact: bool = True
    stops_anywhere: bool = False
    addresses: tuple[str, ...] = ()

    @abstractmethod
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

        ``stop`` are the tokens after which it may go on; ``limit`` bounds its positions, and
        ``sampling.max_new_tokens`` what it generates; threads of one ``gang`` advance together.
        Texts in ``sampling.stop`` are looked for by whoever reads, so a backend may leave them
        alone.  It returns at once and raises nothing about the prompt: that is raised by the first
        `Generation.tokens`.
        """

    def release(self, segments: Sequence[Segment]) -> None:
        """Free what is stored for segments, though somebody holds them; no thread may need it."""

    async def settle(self) -> None:
        """Wait until ``leaked`` holds all that was generated for threads closed by now."""

    async def score(self, segment: Segment) -> list[float]:
        """The log-probability of each token that a segment was given, in its context.

        Called only where the capabilities have ``scoring``.  The segment's keys and values are then
        stored as those of any other.

        Raises:
            InvalidValue: it has no tokens, no context, or was computed before.
        """
        raise CapabilityMissing("this backend can't score given tokens; use --backend embedded")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all that was started; open threads are then lost."""
