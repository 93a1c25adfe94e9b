"""What was sampled and run, as arms that can be compared: one outcome a question for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pruning import Question, Trace
from pruning.evaluation.statistics import QuestionOutcome, Summary, summarise
from reasoning.evaluation.grading import AnswerBook, Grader
from reasoning.evaluation.kept.records import SampleRecord, StrategyRun
from reasoning.evaluation.kept.store import StoredEval
from reasoning.evaluation.questions import EvalQuestion


class GradedEval:
    """The answers of an evaluation's file to some questions, judged by one grader.

    Attributes:
        quick: Whether judging takes no time to speak of.
    """

    def __init__(
        self,
        stored: StoredEval,
        questions: Sequence[EvalQuestion],
        *,
        grader: Grader | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """``progress`` is called whenever a question's right answers have been read."""
        self._stored = stored
        self.questions = questions
        self.quick = grader is None
        self._books: dict[str, AnswerBook] = {}
        for question in self.questions:
            problem = question.posed(trained=False)
            self._books[question.id] = AnswerBook(question, problem, grader)
            progress()

    def pool(self) -> list[Question]:
        """The samples as traces, over which policies are replayed; questions that have any."""
        samples = self._stored.samples
        return [self._question(one, samples[one.id]) for one in self.questions if one.id in samples]

    def _question(self, question: EvalQuestion, found: Mapping[int, SampleRecord]) -> Question:
        book = self._books[question.id]
        samples = [found[number] for number in sorted(found) if found[number].lost is None]
        return Question(
            id=question.id,
            right=book.keys_right((one.answer, one.text) for one in samples),
            traces=tuple(_trace(book, one) for one in samples),
            probe_every=max((one.every for one in samples), default=0),
            words=question.text,
        )

    def samples(self, questions: Sequence[EvalQuestion] | None = None) -> list[SampleRecord]:
        """All samples of these questions, or of some of them, lost ones included."""
        found = self._stored.samples
        asked = self.questions if questions is None else questions
        return [one for question in asked for one in found.get(question.id, {}).values()]

    def votes(self, question: EvalQuestion) -> Counter[str]:
        """How many samples gave each answer, by its key."""
        book = self._books[question.id]
        keys = (book.key(one.answer) for one in self.samples([question]))
        return Counter(key for key in keys if key is not None)

    def right_key(self, question: EvalQuestion, key: str) -> bool:
        """Whether samples with this key are right."""
        book = self._books[question.id]
        given = ((one.answer, one.text) for one in self.samples([question]))
        return key in book.keys_right(given)

    def runs(self, arm: str) -> list[StrategyRun]:
        """The runs of a strategy, question by question."""
        found = self._stored.runs.get(arm, {})
        return [found[one.id] for one in self.questions if one.id in found]

    def arm(self, name: str) -> Summary:
        """What a strategy came to over all questions on which it was not lost."""
        return summarise(name, [self._outcome(one) for one in self.runs(name) if one.lost is None])

    def _outcome(self, run: StrategyRun) -> QuestionOutcome:
        right = self._books[run.question].right(run.answer, run.text)
        return QuestionOutcome(
            question=run.question,
            accuracy=float(right),
            tokens=run.tokens,
            span=run.span,
            traces=run.threads,
            probes=0,
        )

    def right(self, record: SampleRecord | StrategyRun) -> bool:
        """Whether the answer of one record is right."""
        return self._books[record.question].right(record.answer, record.text)


def _trace(book: AnswerBook, sample: SampleRecord) -> Trace:
    return Trace(
        tokens=max(1, sample.tokens),
        answer=book.key(sample.answer),
        probes=tuple(map(book.key, sample.probes)),
        confidences=tuple(sample.confidences),
        score=book.score(sample.answer),
        text=sample.text,
    )
