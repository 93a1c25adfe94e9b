"""From plain words to a `Problem`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orchestrator.errors import InvalidValue
from reasoning.problems.arithmetic import Arithmetic
from reasoning.problems.base import Domain, Problem, Verdict
from reasoning.problems.countdown import Countdown
from reasoning.problems.enumeration import Enumeration
from reasoning.problems.several import Several
from reasoning.problems.shortest_paths import ShortestPaths
from reasoning.registry import KindRegistry

LONGEST = 100_000  # characters; beyond this a prompt is a mistake


@dataclass(frozen=True, kw_only=True)
class FreeForm:
    """Any other question: no verifier, and answers vote by their text."""

    domain: ClassVar[str] = "free-form"
    question: str

    @classmethod
    def recognise(cls, text: str) -> FreeForm:
        """The question itself, whatever it is."""
        return cls(question=text)

    def verify(self, answer: str) -> Verdict | None:
        return None

    def canonical(self, answer: str) -> str | None:
        return " ".join(answer.casefold().split()).rstrip(".") or None


KNOWN: tuple[Domain, ...] = (Countdown, Enumeration, ShortestPaths, Several, Arithmetic)
"""The domains that words are recognised as, the first that fits."""

DOMAINS: KindRegistry[Problem] = KindRegistry(
    "domain",
    group="parallel_reason.domains",
    kinds={
        kind.domain: kind
        for kind in (Countdown, Enumeration, ShortestPaths, Several, Arithmetic, FreeForm)
    },
)
"""Ours, a user's own, and those of installed packages; each kind is a `Domain`."""


def recognise(text: str, domain: str | None = None) -> Problem:
    """The problem that ``text`` states, or else a `FreeForm` question.

    With a ``domain``, by its name or as ``module:Name`` or ``path.py:Name``, it is one of those.

    Raises:
        UnknownName: there is no such domain.
        InvalidValue: the text is empty or enormous, or a number is out of range, or it states no
            problem of the domain.
        ProblemRefused: it is a problem without a solution.
    """
    if not text.strip():
        raise InvalidValue(
            "the problem is empty; state one, such as 'Use 3, 10, 21 and 23 to make 50'"
        )
    if len(text) > LONGEST:
        raise InvalidValue(f"the problem has {len(text)} characters; give at most {LONGEST}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue("the problem is not valid UTF-8; encode it as such") from error
    text = " ".join(text.split())
    if domain is not None:
        return _of(domain, text)
    return next(filter(None, (kind.recognise(text) for kind in KNOWN)), FreeForm(question=text))


def _of(domain: str, text: str) -> Problem:
    kind = DOMAINS.choose(domain).kind
    recogniser = getattr(kind, "recognise", None)
    if recogniser is None:
        raise InvalidValue(f"domain: {domain} has no classmethod recognise(text); add one")
    found: Problem | None = recogniser(text)
    if found is None:
        raise InvalidValue(f"domain: the text states no {domain} problem; see how one is stated")
    return found
