"""Forms for any chat model that follows instructions: no training, only words.

The ideas are those of the papers' prompts (Multiverse, ParaThinker, Hogwild!, Group Think); the
words are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from reasoning.errors import ProblemRefused
from reasoning.language.forms import Outline, SpawnForm
from reasoning.problems import FreeForm, Problem
from reasoning.problems.answers import AUTO, FoundAnswer, read_answer
from reasoning.values.context import Context


class Turn(Protocol):
    """Gives the model another turn of the user's.

    It follows a turn that the model has ended, or with ``cut`` one that was cut off.
    """

    def __call__(self, text: str, *, cut: bool = False) -> str: ...


MOST_PARTS = 8

ASK = "Reason step by step, then put the answer in \\boxed{}."

PLAN = """\
{question}

Do not solve this yet.  Split the work into parts that can be done at the same time, none of which \
needs another one's result: at least 2 and at most {most}.  Write one line for each, as
1: what to do
2: what to do
and nothing else.  If it can't be split, write only: none"""

PART = """\
Do part {number} of your plan now, and only that part: {goal}
Others are doing the other parts at the same time.  End with the part's result in one line."""

CONCLUDE = """\
All parts have been done above, each by itself.  Put their results together and give the final \
answer in \\boxed{}."""

ALONE = """\
Then do it all now, step by step, and put the final answer in \\boxed{}."""

ATTEMPTS = """\
{question}

Several attempts are made at this at the same time, each by itself and in its own way.  Reason \
step by step, then put the answer in \\boxed{{}}."""

SUMMARISE = """\
Several attempts at the problem stand above; some may be unfinished or wrong.  Compare them and \
give the final answer in \\boxed{}."""

SHARED = """\
{question}

{workers} workers solve this together, in one shared text, all writing at the same time.  \
Everybody sees what the others write, word by word.  Worker k starts each of its steps with \
"Worker k:" and keeps steps short: one paragraph.  Before you start a step, look at what others \
have done or are doing, and do something else that helps: another part, another case, or a \
check of a result.  Never repeat and never summarise the others' work.  The problem counts as \
solved when the workers together have determined the answer, even if each holds only a part of \
it.  Whoever first knows the complete answer puts it in \\boxed{{}}."""

CHECK = "Is somebody else doing this already? (yes/no): "

FINISH = """\
Time is up.  From all that the workers have written above, give the final answer in \\boxed{}."""


def instructed(problem: Problem) -> str:
    """The question word for word, and how to give the answer where the asker did not say."""
    form = problem.answer_format if isinstance(problem, FreeForm) else AUTO
    return f"{problem.question}\n{ASK}" if form.kind in ("auto", "boxed") else problem.question


def read(problem: Problem, text: str, *, finished: bool) -> FoundAnswer:
    """The answer in what a model wrote, in the form that the problem asks for."""
    form = problem.answer_format if isinstance(problem, FreeForm) else AUTO
    return read_answer(text, form, question=problem.question, finished=finished)


@dataclass(frozen=True, kw_only=True)
class PromptedForms:
    """A chat model's forms for one problem.

    Attributes:
        ask: The prompt that asks something, up to where the model's turn begins.
        ends: The tokens that end a turn.
        paragraphs: The tokens that end a paragraph.
        boxed: The answer in a text, or None.
    """

    problem: Problem
    ask: Callable[[str], Context]
    turn: Turn
    ends: frozenset[int]
    paragraphs: Callable[[], frozenset[int]]
    boxed: Callable[[str], str | None]

    def spawning(self) -> SpawnForm:
        raise ProblemRefused("a chat model was not taught apr; use --strategy multiverse")

    def fork(self) -> PromptedFork:
        question = PLAN.format(question=self.problem.question, most=MOST_PARTS)
        return PromptedFork(
            prompt=self.ask(question),
            stop=self.ends,
            turn=self.turn,
            conclusion=self.turn(CONCLUDE, cut=True),
            alone=self.turn(ALONE),
        )

    def paths(self) -> PromptedPaths:
        return PromptedPaths(
            prompt=self.ask(ATTEMPTS.format(question=self.problem.question)),
            stop=self.ends,
            summary=self.turn(SUMMARISE, cut=True),
            boxed=self.boxed,
        )

    def share(self, workers: int) -> PromptedShare:
        return PromptedShare(
            prompt=self.ask(SHARED.format(question=self.problem.question, workers=workers)),
            steps=self.paragraphs() | self.ends,
            finisher=self.turn(FINISH, cut=True),
            boxed=self.boxed,
        )


@dataclass(frozen=True, kw_only=True)
class PromptedFork:
    """A plan of numbered lines, a turn for each part, and one for the conclusion."""

    prompt: Context
    stop: frozenset[int]
    turn: Turn
    conclusion: str
    alone: str
    once: bool = True

    def asks(self, text: str, depth: int) -> bool:
        return depth == 0  # it was told to write a plan

    def outlines(self, text: str) -> list[Outline]:
        found = _PARTS.findall(text)
        if len({number for number, _ in found}) < len(found):
            raise ValueError("a part is numbered twice")
        if len(found) < 2:
            raise ValueError("it has fewer than two parts")
        return [
            Outline(goal, self.turn(PART.format(number=number, goal=goal)))
            for number, goal in found
        ]


_PARTS = re.compile(r"^\s*(\d{1,2})[:.)]\s*(\S.{0,400}?)\s*$", re.M)


@dataclass(frozen=True, kw_only=True)
class PromptedPaths:
    """An answer for each path, opened by its number, and a turn for the summary."""

    prompt: Context
    stop: frozenset[int]
    summary: str
    boxed: Callable[[str], str | None]

    def opening(self, path: int) -> str:
        return f"Attempt {path}: "

    def solved(self, text: str) -> bool:
        return self.boxed(text) is not None


@dataclass(frozen=True, kw_only=True)
class PromptedShare:
    """A shared text of paragraphs, each opened by its worker's name."""

    prompt: Context
    steps: frozenset[int]
    finisher: str
    boxed: Callable[[str], str | None]
    check: str = CHECK
    room: int | None = None

    def opening(self, worker: int, workers: int) -> str:
        return f"Worker {worker}: "

    def merged(self, texts: Sequence[str]) -> str | None:
        return next((found for text in texts if (found := self.boxed(text))), None)

    def complete(self, texts: Sequence[str]) -> bool:
        return self.merged(texts) is not None
