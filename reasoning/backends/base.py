"""What generates tokens: the interface between threads of reasoning and any engine or server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Literal, NamedTuple, Protocol

from reasoning.context import Segment
from reasoning.sampling import Sampling, StopReason

Capability = Literal[
    "token-prompts", "logprobs", "prefix-sharing", "kv-join", "live-contexts", "spawn-join"
]
"""What a backend and its model can do; a strategy declares what it needs."""


class Token(NamedTuple):
    """One generated token; ``reason`` is set on the last one before the thread stops."""

    token: int
    logprob: float
    reason: StopReason | None = None


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
        gang: int | None = None,
    ) -> Generation:
        """Start a thread that writes to ``segment``, in the segment's context.

        ``limit`` bounds what it sees, in tokens; threads of one ``gang`` advance together.  Errors
        of the prompt (empty, too long) are raised by the first `Generation.tokens`.
        """
        ...

    def release(self, segments: Sequence[Segment]) -> None:
        """Free what is stored for segments, though somebody holds them; no thread may need it."""
        ...
