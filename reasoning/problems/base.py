"""What every problem domain offers: one question, one strict verifier, one key for votes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verifier's judgement of one answer, with its reason in words."""

    ok: bool
    reason: str


class Problem(Protocol):
    """A problem that threads of reasoning can be set on."""

    @property
    def domain(self) -> str: ...

    @property
    def question(self) -> str:
        """The problem in plain words."""
        ...

    def verify(self, answer: str) -> Verdict | None:
        """Judge an answer; None where the domain has no verifier."""
        ...

    def canonical(self, answer: str) -> str | None:
        """The key under which equivalent answers vote together; None abstains."""
        ...


@runtime_checkable
class Covered(Problem, Protocol):
    """A problem that can be solved in part."""

    def coverage(self, answer: str) -> float:
        """How much of it an answer covers, from 0 to 1."""
        ...


def is_held_out(key: str) -> bool:
    """Whether the problem with this key is kept from training: one in 32, fixed for ever."""
    return zlib.crc32(key.encode()) % 32 == 0
