"""From plain words to a `Problem`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.problems.answers import AUTO, AnswerFormat
from reasoning.problems.arithmetic import Arithmetic
from reasoning.problems.base import Domain, Problem, Verdict
from reasoning.problems.countdown import Countdown
from reasoning.problems.enumeration import Enumeration
from reasoning.problems.equality import canonical
from reasoning.problems.several import Several
from reasoning.problems.shortest_paths import ShortestPaths
from reasoning.registry import KindRegistry

LONGEST = 100_000  # characters; beyond this a prompt is a mistake


@dataclass(frozen=True, kw_only=True)
class FreeForm:
    """Any question, word for word; answers vote by `reasoning.problems.equality`.

    Attributes:
        answer_format: The form in which the answer is expected.
        checker: The problem of a domain that the words state, where they do; it verifies answers.
    """

    domain: ClassVar[str] = "free-form"
    question: str
    answer_format: AnswerFormat = AUTO
    checker: Problem | None = None

    @classmethod
    def recognise(cls, text: str) -> FreeForm:
        """The question itself, whatever it is."""
        return cls(question=text)

    def verify(self, answer: str) -> Verdict | None:
        """What the checker says; None without one."""
        return None if self.checker is None else self.checker.verify(answer)

    def canonical(self, answer: str) -> str | None:
        key = None if self.checker is None else self.checker.canonical(answer)
        return key or canonical(answer, self.question)


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
    """The problem that ``text`` states, or else a `FreeForm` question, word for word.

    With a ``domain``, by its name or as ``module:Name`` or ``path.py:Name``, it is one of those.

    Raises:
        UnknownName: there is no such domain.
        InvalidValue: the text is empty or enormous, or a number is out of range, or it states no
            problem of the domain.
        ProblemRefused: it is a problem without a solution.
    """
    check_text(text)
    line = " ".join(text.split())
    if domain is not None:
        return _of(domain, text, line)
    return next(filter(None, (kind.recognise(line) for kind in KNOWN)), FreeForm(question=text))


def pose(
    text: str, *, trained: bool, domain: str | None = None, answer_format: AnswerFormat = AUTO
) -> Problem:
    """The problem that a model is set by ``text``.

    Args:
        trained: Whether the model was trained on the domains.  Any other model is asked a
            `FreeForm` question, word for word, and refused none; where the words state a problem
            of a domain, its verifier judges the answers.
        domain: As in `recognise`.
        answer_format: The form in which a free-form answer is expected.

    Raises:
        UnknownName, InvalidValue, ProblemRefused: as `recognise`.
        InvalidValue: the problem has a form of its own for its answers.
    """
    if trained or domain is not None:
        return with_format(recognise(text, domain), answer_format)
    check_text(text)
    try:
        found = recognise(text)
    except ReasonError:
        found = None
    checker = None if isinstance(found, FreeForm) or answer_format != AUTO else found
    return FreeForm(question=text, answer_format=answer_format, checker=checker)


def with_format(problem: Problem, answer_format: AnswerFormat) -> Problem:
    """The problem, whose answer is expected in this form.

    Raises:
        InvalidValue: the problem has a form of its own.
    """
    if answer_format == AUTO:
        return problem
    if isinstance(problem, FreeForm):
        return replace(problem, answer_format=answer_format)
    raise InvalidValue(f"answer: a {problem.domain} answer has a form of its own; leave it out")


def check_text(text: str) -> None:
    """Check that a text can be a question.

    Raises:
        InvalidValue: it is empty, enormous, or no valid Unicode.
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


def _of(domain: str, text: str, line: str) -> Problem:
    kind = DOMAINS.choose(domain).kind
    recogniser = getattr(kind, "recognise", None)
    if recogniser is None:
        raise InvalidValue(f"domain: {domain} has no classmethod recognise(text); add one")
    found: Problem | None = recogniser(text if kind is FreeForm else line)
    if found is None:
        raise InvalidValue(f"domain: the text states no {domain} problem; see how one is stated")
    return found
