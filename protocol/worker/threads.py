"""What generates threads of reasoning on a worker: an interface for any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple, Protocol

from protocol.wire.messages import ModelOffer, ThreadStart


class GeneratedToken(NamedTuple):
    """One token; ``reason`` is set on the last one before the thread stops."""

    token: int
    logprob: float
    reason: Literal["stop", "length"] | None
    confidence: float | None = None


class ThreadRun(Protocol):
    """A thread that generates."""

    def tokens(self) -> AsyncIterator[GeneratedToken]:
        """Yield tokens until it stops."""
        ...

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens to the stopped thread; `tokens` then goes on."""
        ...

    def hold(self, until: int | None) -> None:
        """Write up to ``until`` tokens in all and then stand still; None lifts the limit.

        Called only where the model's offer has the capability ``holding``.
        """
        ...

    def close(self) -> None:
        """Stop at once, and free its place."""
        ...


class ThreadHost(Protocol):
    """A model on a backend, open as long as its worker runs."""

    @property
    def offer(self) -> ModelOffer:
        """What it can serve."""
        ...

    def open(self, start: ThreadStart) -> ThreadRun:
        """Start a thread; what is wrong with its prompt is raised by its first token."""
        ...
