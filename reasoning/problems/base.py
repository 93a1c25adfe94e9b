"""What every problem domain offers: one question, one strict verifier, one key for votes."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from orchestrator.errors import InvalidValue


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verifier's judgement of one answer, with its reason in words."""

    ok: bool
    reason: str


class Problem(Protocol):
    """A problem that threads of reasoning can be set on."""

    @property
    def domain(self) -> str:
        """The name of its kind, such as ``countdown``."""
        ...

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


class Domain(Protocol):
    """A class of problems, as words state them."""

    def recognise(self, text: str) -> Problem | None:
        """The problem that a text states, in one line; None where it states none of these.

        Raises:
            InvalidValue: it states one with a number that is out of range.
            ProblemRefused: it states one that has no solution.
        """
        ...


def integer(field: str, digits: str) -> int:
    """A number out of a text.

    Raises:
        InvalidValue: it is not whole, or too long.
    """
    digits = re.sub(r",(?=\d{3}\b)", "", digits)
    if not digits.removeprefix("-").isdigit():
        raise InvalidValue(f"{field}: {digits[:20]} is not a whole number; give 1 to 100")
    if len(digits) > 9:
        raise InvalidValue(
            f"{field}: a number of {len(digits)} digits is out of range; use 1 to 100"
        )
    return int(digits)


def is_held_out(key: str) -> bool:
    """Whether the problem with this key is kept from training: one in 32, fixed for ever."""
    return zlib.crc32(key.encode()) % 32 == 0
