"""Which answers to a question are right, and which are one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.evaluation.questions import EvalQuestion
from reasoning.problems import FreeForm, Problem
from reasoning.problems.equality import canonical
from reasoning.problems.equality.algebra import Equivalence
from reasoning.registry import KindRegistry


class Grader(Protocol):
    """Judges an answer to a question; ``text`` is all that was written."""

    def __call__(self, question: EvalQuestion, answer: str, text: str) -> bool: ...


_GRADERS: KindRegistry[Any] = KindRegistry("grader", group="parallel_reason.graders", kinds={})


def load_grader(name: str) -> Grader:
    """A function ``(question, answer, text) -> bool``, or a class of such objects, by
    ``module:Name`` or ``path.py:Name``.

    Raises:
        UnknownName: there is none.
    """
    choice = _GRADERS.choose(name)
    made = choice.make(_GRADERS.noun) if isinstance(choice.kind, type) else choice.kind
    if not callable(made):
        raise InvalidValue(f"grader: {name} makes what can't be called; give it __call__")
    return cast("Grader", made)


class AnswerBook:
    """The answers to one question, each with the key that it votes with, and which are right.

    Right is what the grader says; else what is equal to a right answer of the question, by the
    same equality that votes go by; else what the problem's verifier says.
    """

    def __init__(
        self, question: EvalQuestion, problem: Problem, grader: Grader | None = None
    ) -> None:
        """
        Raises:
            InvalidValue: nobody knows which answers to it are right.
        """
        self._question, self._problem, self._grader = question, problem, grader
        free = isinstance(problem, FreeForm) and problem.checker is None
        self._equivalence = Equivalence(question.text) if free else None
        if grader is None and not question.gold and free:
            raise InvalidValue(
                f"question {question.id!r} has no right answer and no verifier; give one, or "
                "--grader"
            )
        self._right = frozenset(map(self._key, () if grader else question.gold))
        self._graded: dict[str, bool] = {}

    def _key(self, answer: str) -> str:
        key = self._problem.canonical(answer) or canonical(answer, self._question.text) or answer
        if self._equivalence is None:
            return key
        self._equivalence.compare([key])
        return self._equivalence.known(key)

    def key(self, answer: str | None) -> str | None:
        """The key that an answer votes with; None abstains."""
        if answer is None or self._problem.canonical(answer) is None:
            return None
        return self._key(answer)

    def right(self, answer: str | None, text: str = "") -> bool:
        """Whether an answer is right; a grader is asked once for equal ones.

        Raises:
            InvalidValue: the grader failed.
        """
        key = self.key(answer)
        if answer is None or key is None:
            return False
        if key not in self._graded:
            self._graded[key] = self._judge(answer, key, text)
        return self._graded[key]

    def score(self, answer: str | None) -> float | None:
        """What the problem's own verifier gives an answer; None where it has none.

        Right answers and graders are for measuring alone: no policy may see them.
        """
        verdict = self._problem.verify(answer or "")
        return None if verdict is None else float(verdict.ok)

    def _judge(self, answer: str, key: str, text: str) -> bool:
        if self._grader is not None:
            return _asked(self._grader, self._question, answer, text)
        if self._question.gold:
            return key in self._right
        verdict = self._problem.verify(answer)
        return verdict is not None and verdict.ok

    def keys_right(self, answers: Iterable[tuple[str | None, str]]) -> frozenset[str]:
        """The keys of the right ones of some answers, each with its text."""
        known = ((self.key(answer), self.right(answer, text)) for answer, text in answers)
        return self._right | {key for key, right in known if key is not None and right}


def _asked(grader: Callable[..., Any], question: EvalQuestion, answer: str, text: str) -> bool:
    try:
        return bool(grader(question, answer, text))
    except ReasonError:
        raise
    except Exception as error:  # whatever somebody else's code does
        said = f"{type(error).__name__}: {error}"
        raise InvalidValue(f"grader: question {question.id!r}: {said}; mend it") from error
