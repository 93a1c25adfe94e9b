"""Forms for any chat model that follows instructions: no training, only words.

The ideas are those of the papers' prompts (Multiverse, ParaThinker, Hogwild!, Group Think); the
words are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from reasoning.errors import CapabilityMissing, ProblemRefused
from reasoning.language.forms import Outline, SpawnForm
from reasoning.language.steps import StepEnds, end_of_step, final_part, left_open
from reasoning.problems import FreeForm, Problem
from reasoning.problems.answers import (
    AUTO,
    FoundAnswer,
    after_thoughts,
    boxed,
    is_placeholder,
    read_answer,
)
from reasoning.values.context import Context
from reasoning.values.conversation import Conversation, Message


class Turn(Protocol):
    """Gives the model another turn of the user's.

    It follows a turn that the model has ended, or with ``cut`` one that was cut off.
    """

    def __call__(self, text: str, *, cut: bool = False) -> str: ...


MOST_PARTS = 8

ASK = "Reason step by step, then put the answer in \\boxed{}."

PLAN = """\
{question}

Do not answer this yet.  Only plan: which parts of the work can be done at the same time, because \
none of them needs the result of another?  Write each part on a line of its own that starts with \
its number and a colon and says what is to be done, at least 2 lines and at most {most}, and write \
nothing else.  If the work can't be divided, write only: none"""

PART = """\
Do part {number} of your plan now, and only that part: {goal}
Others are doing the other parts at the same time.  End with the part's result in one line."""

CONCLUDE = "All parts have been done above, each by itself.  Put their results together{ask}"

OPENINGS = (
    "Let me work through this step by step.",
    "First, let me look at what is given.",
    "Let me start from what is asked.",
    "Let me take this apart and go through the pieces one by one.",
    "Let me first think about which way leads to the answer.",
    "Let me do this carefully and check every step.",
    "Let me begin with the simplest part.",
    "Let me see what has to be true of the answer.",
)
"""One for each path, so that paths differ from their first word on."""

SUMMARISE = """\
Several attempts at this stand above; some may be unfinished or wrong.  Compare them{ask}"""

RETELL = """\
{question}

Several attempts at this were made, each by itself; some may be unfinished or wrong.

{attempts}

Compare the attempts{ask}"""

AGGREGATE = """\
{question}

Earlier attempts at this stand below, each made by itself.  Any of them may be wrong or \
unfinished, and what most of them say may be wrong too.

{attempts}

Check the attempts against each other, keep what holds and mend what does not.  Then write one \
complete solution of your own{ask}"""

REFINE = """\
{question}

An earlier attempt at this:

{attempt}

The attempt was given a score of {score:.2f}, where 1 is the best there can be and 0 the worst.  \
Find what is wrong or missing in it, keep what holds, and write a better complete solution{ask}"""

SHARED = """\
{names} answer a question together, in one shared text, all writing at the same time.  Everybody \
sees what the others write, word by word.  They take turns in short steps of one paragraph, and \
each step begins with the name of who writes it.  Before a step, the writer looks at what the \
others have done or are doing, and does something else that helps: another part, another case, or \
a check of a result.  Nobody repeats or summarises the others.  The question counts as answered \
when they have determined the answer together, even if each holds only a part of it.  {ending}

{question}"""

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gia", "Hal")
"""Of the workers: small models count on where these are numbers."""

BOX_IT = "Whoever first knows the complete answer puts it in \\boxed{}."
NOTHING_LEFT = "Whoever sees that nothing is left to do stops."

SO_FAR = "The shared text so far:\n\n{steps}\n\n"
NEXT_STEP = """\
{so_far}You are {name}.  {check}Write your next step for the shared text: \
one paragraph, with nothing that stands there already."""

OTHERS = "\n\n### What the others are writing now\n\n"
OWN = "\n\n### What I am writing now\n\n"
CHECK = "Is somebody else doing this already? (yes/no): "
CHECK_ASKED = "If somebody else is doing already what you have in mind, do something else.  "

FINISH = "Time is up.  Take all that was written above{ask}"


SAMPLED = "self-consistency:n=8,ahead=16"
"""What suits any chat model: some samples, of which the first goes ahead for what is easy."""


def instructed(problem: Problem, conversation: Conversation, instruction: str | None) -> str:
    """The question word for word, and how to give the answer where the asker did not say."""
    form = problem.answer_format if isinstance(problem, FreeForm) else AUTO
    asks = form.kind in ("auto", "boxed") and not conversation.goes_on
    return followed(problem.question, ASK if instruction is None and asks else instruction)


def followed(question: str, instruction: str | None) -> str:
    """A question, and on a line of its own the instruction, if there is one."""
    return f"{question}\n{instruction}" if instruction else question


def transcript(messages: Sequence[Message]) -> str:
    """Messages in plain words, up to where the model answers, for a model without a chat template.

    Raises:
        CapabilityMissing: one of them is more than text.
    """
    for message in messages:
        if not message.plain:
            what = ", ".join(message.fields) or "parts that are no text"
            raise CapabilityMissing(
                f"messages: this model takes text alone, no {what}; leave it out"
            )
    said = [f"{message.role.capitalize()}: {message.text}" for message in messages]
    return "\n\n".join([*said, "Assistant:"])


@runtime_checkable
class SelfReading(Protocol):
    """A problem that reads its answers by itself."""

    def read(self, text: str, *, finished: bool = True) -> FoundAnswer:
        """The answer in a text."""
        ...


def read(problem: Problem, text: str, *, finished: bool) -> FoundAnswer:
    """The answer in what a model wrote, in the form that the problem asks for."""
    if isinstance(problem, SelfReading):
        return problem.read(text, finished=finished)
    form = problem.answer_format if isinstance(problem, FreeForm) else AUTO
    return read_answer(text, form, question=problem.question, finished=finished)


def _boxes(problem: Problem) -> bool:
    """Whether the answer is asked for in a box."""
    return not isinstance(problem, FreeForm) or problem.answer_format.kind in ("auto", "boxed")


def _ask(problem: Problem) -> str:
    """How a sentence ends that asks for the answer."""
    return " and give the final answer" + (" in \\boxed{}." if _boxes(problem) else ".")


@dataclass(frozen=True, kw_only=True)
class PromptedForms:
    """A chat model's forms for one problem.

    Attributes:
        ask: The prompt that asks something, up to where the model's turn begins.
        prompt: That of a thread that solves the problem alone.
        say: The text of tokens.
        turn: Another turn of the user's.
        ends: The tokens that end a turn.
        step_tokens: Tokens after which a step may end, as far as they are known.
        continues: Whether the model goes on where its turn was begun for it.
    """

    problem: Problem
    ask: Callable[[str], Context]
    prompt: Callable[[], Context]
    say: Callable[[Sequence[int]], str]
    turn: Turn
    ends: frozenset[int]
    step_tokens: Callable[[], frozenset[int]]
    continues: bool = True

    def spawning(self) -> SpawnForm:
        raise ProblemRefused("a chat model was not taught apr; use --strategy multiverse")

    def fork(self) -> PromptedFork:
        question = PLAN.format(question=self.problem.question, most=MOST_PARTS)
        return PromptedFork(forms=self, prompt=self.ask(question))

    def paths(self) -> PromptedPaths:
        return PromptedPaths(forms=self, prompt=self.prompt())

    def share(self, workers: int) -> PromptedShare:
        asked = SHARED.format(
            question=self.problem.question,
            names=_listed(NAMES[:workers]),
            ending=BOX_IT if _boxes(self.problem) else NOTHING_LEFT,
        )
        return PromptedShare(forms=self, prompt=self.ask(asked))

    def revision(self) -> PromptedRevision:
        return PromptedRevision(forms=self, prompt=self.prompt())

    def answer(self, text: str) -> str | None:
        """The answer that stands in a text for all to see."""
        return boxed(text) if _boxes(self.problem) else self._read(text)

    def _read(self, text: str) -> str | None:
        return read(self.problem, text, finished=False).answer

    def thought_end(self, prompt: Context) -> str:
        """What ends the thoughts in which a prompt ends, if it does."""
        return left_open(self.say(prompt.tokens[-_TAIL:]))


_TAIL = 32
"""Tokens of a prompt's end in which thoughts may be begun."""


@dataclass(frozen=True, kw_only=True)
class PromptedForm:
    """What the forms of a chat model have in common.

    Attributes:
        prompt: What all threads start from.
    """

    forms: PromptedForms
    prompt: Context

    @property
    def stop(self) -> frozenset[int]:
        return self.forms.ends

    @cached_property
    def thought_end(self) -> str:
        """What ends the thoughts in which the model's turn begins; empty where it begins none."""
        return self.forms.thought_end(self.prompt)

    @property
    def asking(self) -> str:
        return _ask(self.forms.problem)

    def retelling(self, words: str, texts: Sequence[str]) -> Context:
        """What asks for a solution in view of several attempts, in these words."""
        attempts = [f"Attempt {k}:\n{text.strip()}" for k, text in enumerate(texts, start=1)]
        asked = {"question": self.forms.problem.question, "ask": self.asking}
        return self.forms.ask(words.format(attempts="\n\n".join(attempts), **asked))

    def closing(self, texts: Sequence[str]) -> str:
        """What ends the thoughts in which one of the texts was left."""
        open_ends = (left_open(text, self.thought_end) for text in texts)
        closer = next(filter(None, open_ends), "")
        return f"\n{closer}\n\n" if closer else ""


@dataclass(frozen=True, kw_only=True)
class PromptedFork(PromptedForm):
    """A plan of numbered lines, a turn for each part, and one for the conclusion."""

    once: bool = True

    @property
    def conclusion(self) -> str:
        return self.forms.turn(CONCLUDE.format(ask=self.asking), cut=True)

    def asks(self, text: str, depth: int) -> bool:
        return depth == 0  # it was told to write a plan

    def outlines(self, text: str) -> list[Outline]:
        plan = "" if left_open(text, self.thought_end) else after_thoughts(text)
        found = [(number, " ".join(goal.split())) for number, goal in _PARTS.findall(plan)]
        check_plan(found)
        turn = self.forms.turn
        return [
            Outline(goal, turn(PART.format(number=number, goal=goal))) for number, goal in found
        ]


_PARTS = re.compile(
    r"^[\s*_#-]*(?:part\s+)?(\d{1,2})[*_]*[:.)][*_ \t]*(\S.{0,400}?)[*_\s]*$", re.M | re.I
)
_NO_GOAL = re.compile(
    r"[<\[({]?\s*(?:what (?:is )?to (?:do|be done)(?: (?:first|next|here))?"
    r"|none|n/?a|to ?do|tbd|goal|[\W\d_]*"
    r"|(?:the )?(?:first |second |next )?(?:part|step|task|line)(?: \w{1,3})?"
    r"|(?:do|describe|write|insert|your) (?:the |your |a )?"
    r"(?:part|step|task|goal|something)(?: \w{1,3})?"
    r"|(?:its )?number and a colon.*|which parts .*same time.*)\s*[>\])}]?[.:!]?",
    re.I,
)


def check_plan(parts: Sequence[tuple[str, str]]) -> None:
    """Refuse a plan that can't be worked on.

    Raises:
        ValueError: it has too few parts, or a number, a goal or a placeholder is no part of one.
    """
    if len(parts) < 2:
        raise ValueError("it has fewer than two parts")
    if len({number for number, _ in parts}) < len(parts):
        raise ValueError("a part is numbered twice")
    empty = next((goal for _, goal in parts if is_no_goal(goal)), None)
    if empty is not None:
        raise ValueError(f"a part says nothing: {empty[:40]!r}")
    goals = [re.sub(r"\W+", " ", goal).strip().casefold() for _, goal in parts]
    if len(set(goals)) < len(goals):
        raise ValueError("two parts are the same")


def is_no_goal(goal: str) -> bool:
    """Whether a goal is a placeholder, such as ``what to do``, ``...`` or ``<goal>``."""
    return is_placeholder(goal) or _NO_GOAL.fullmatch(goal) is not None


@dataclass(frozen=True, kw_only=True)
class PromptedPaths(PromptedForm):
    """The plain question, an opening for each path, and a turn for the summary."""

    @property
    def summary(self) -> str:
        return self.forms.turn(SUMMARISE.format(ask=self.asking), cut=True)

    def retold(self, texts: Sequence[str]) -> Context:
        return self.retelling(RETELL, texts)

    def opening(self, path: int) -> str:
        if not self.forms.continues or not _boxes(self.forms.problem):
            return ""
        return f"{OPENINGS[(path - 1) % len(OPENINGS)]}\n"

    def solved(self, text: str, answer: str | None) -> bool:
        return answer is not None


@dataclass(frozen=True, kw_only=True)
class PromptedRevision(PromptedForm):
    """A prompt that shows earlier attempts and asks for a new one."""

    def aggregated(self, texts: Sequence[str]) -> Context:
        return self.retelling(AGGREGATE, texts)

    def refined(self, text: str, score: float) -> Context:
        asked = {"question": self.forms.problem.question, "ask": self.asking}
        return self.forms.ask(REFINE.format(attempt=text.strip(), score=score, **asked))


@dataclass(frozen=True, kw_only=True)
class PromptedShare(PromptedForm):
    """A shared text of paragraphs, each opened by its worker's name."""

    check: str = CHECK
    others: str = OTHERS
    own: str = OWN
    room: int | None = None

    @property
    def steps(self) -> StepEnds:
        known = self.forms.step_tokens()
        return StepEnds(tokens=known | self.stop, found=self._step, within=not known)

    def _step(self, text: str) -> int | None:
        """Where a step ends: not in a worker's own thoughts, but behind the shared ones.

        It ends too where the worker begins to write in somebody's name.
        """
        if self.thought_end and self.thought_end in text:
            return text.index(self.thought_end) + len(self.thought_end)
        if left_open(text):
            return None
        said = final_part(text)
        other = _SPOKEN.search(said)
        ends = [end_of_step(said), None if other is None else other.start()]
        found = min((end for end in ends if end is not None), default=None)
        return None if found is None else len(text) - len(said) + found

    def left(self, text: str) -> bool:
        """Whether a worker is behind the shared thoughts, or writes nothing but others' steps."""
        if self.thought_end and self.thought_end in text:
            return True
        other = _SPOKEN.search(text)
        return other is not None and len(text[: other.start()].split()) < 3

    @property
    def finisher(self) -> str:
        return self.forms.turn(FINISH.format(ask=self.asking), cut=True)

    def opening(self, worker: int, workers: int) -> str:
        return f"{_name(worker)}: "

    def asked(self, worker: int, workers: int, steps: str, *, check: bool) -> str | None:
        if self.forms.continues:
            return None
        return self.forms.turn(
            NEXT_STEP.format(
                so_far=SO_FAR.format(steps=steps) if steps else "",
                check=CHECK_ASKED if check else "",
                name=_name(worker),
            )
        )

    def told(self, worker: int, text: str) -> str:
        said = _NAMED.sub("", final_part(text)).strip()
        return f"{_name(worker)}: {said}\n\n" if said else ""

    def merged(self, texts: Sequence[str]) -> str | None:
        said = (text for text in texts if not left_open(text, self.thought_end))
        return next((found for text in said if (found := self.forms.answer(text))), None)

    def complete(self, texts: Sequence[str]) -> bool:
        return any(self.forms.answer(text) is not None for text in texts)


_NAME = rf"(?:\*\*)?(?:{'|'.join(NAMES)})(?:\*\*)?:"
_NAMED = re.compile(rf"\A\s*{_NAME}\s*")
_SPOKEN = re.compile(rf"\n\s*{_NAME}")


def _name(worker: int) -> str:
    return NAMES[(worker - 1) % len(NAMES)]


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
