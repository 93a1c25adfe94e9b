"""What a thread of reasoning can see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """The given tokens that a thread starts from; it sees them and what it generates itself.

    Threads that are open together on equal contexts share the computation of these tokens.
    """

    tokens: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)
