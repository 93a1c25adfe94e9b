"""What the shipped model was taught, domain by domain, in its own markup (`language.markup`)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from reasoning.errors import ProblemRefused
from reasoning.language import markup
from reasoning.language.forms import (
    ForkForm,
    Outline,
    PathForm,
    RevisionForm,
    ShareForm,
    Spawn,
    SpawnForm,
)
from reasoning.language.native.catalog import family
from reasoning.language.native.description import NativeFormat
from reasoning.language.steps import StepEnds
from reasoning.problems import Arithmetic, Countdown, Enumeration, Problem, Several, ShortestPaths
from reasoning.problems.expression import evaluate, largest, parse, render
from reasoning.values.context import Context

Encode = Callable[[str], list[int]]


def items(texts: Sequence[str]) -> str:
    """Numbered items, as prompts list them."""
    return " ; ".join(f"{i} : {text}" for i, text in enumerate(texts, start=1)) + " ;"


def raw_answer(text: str) -> str | None:
    """What stands between the answer marker and the end, or None."""
    _, marker, rest = text.rpartition(markup.ANSWER)
    found = _END.split(rest, maxsplit=1)
    return found[0].strip() or None if marker and len(found) > 1 else None


_END = re.compile("|".join((markup.EOS, markup.PATH_END, markup.THINK_END)))


@dataclass(frozen=True, kw_only=True)
class TrainedForms(ABC):
    """The shipped model's forms for one problem; what a domain was not taught is refused.

    Attributes:
        version: The first version of the markup that has the domain.
        strategy: What suits the model best.
    """

    version: ClassVar[int] = 2
    strategy: ClassVar[str] = "self-consistency"

    problem: Any
    encode: Encode

    @property
    @abstractmethod
    def prompt(self) -> Context:
        """The context in which one thread solves the problem alone.

        Raises:
            ProblemRefused: it is beyond what the model computes with.
        """

    def answer(self, text: str) -> str | None:
        """The answer that a thread's text gives, or None."""
        found = raw_answer(text)
        return None if found is None else found.replace(" ", "").replace(",", ", ")

    def spawning(self) -> SpawnForm:
        raise self._refused("apr", "Countdown")

    def fork(self) -> ForkForm:
        raise self._refused("multiverse", "several expressions at once")

    def paths(self) -> PathForm:
        raise self._refused("parathinker", "Countdown with four numbers")

    def share(self, workers: int) -> ShareForm:
        raise self._refused(
            "working together",
            "several expressions, an enumeration, or a graph of three or four nodes",
        )

    def revision(self) -> RevisionForm:
        raise ProblemRefused("the shipped model knows no words for earlier attempts; name another")

    def _refused(self, what: str, known: str) -> ProblemRefused:
        return ProblemRefused(
            f"the shipped model learned {what} for {known}, not for this {self.problem.domain} "
            "problem; use --strategy self-consistency or single"
        )


class CountdownForms(TrainedForms):
    version = 1
    strategy = "apr"

    problem: Countdown

    @property
    def message(self) -> str:
        return f"{' '.join(map(str, self.problem.numbers))} => {self.problem.target}"

    @property
    def prompt(self) -> Context:
        return _prompt(self.encode, f"{markup.SERIAL} {self.message}")

    def spawning(self) -> SpawnForm:
        return TrainedSpawn(encode=self.encode, message=self.message)

    def paths(self) -> PathForm:
        if len(self.problem.numbers) != 4:
            return super().paths()
        prompt = _prompt(self.encode, f"{markup.PARA} {self.message}")
        return DescribedForm(family("reason-paths"), self.encode, prompt)


class ArithmeticForms(TrainedForms):
    version = 1

    problem: Arithmetic

    @property
    def prompt(self) -> Context:
        return _prompt(self.encode, f"{markup.CALC} {_expression(self.problem)}")


class SeveralForms(TrainedForms):
    strategy = "multiverse"

    problem: Several

    @property
    def prompt(self) -> Context:
        return _prompt(
            self.encode, f"{markup.EACH} {items([*map(_expression, self.problem.parts)])}"
        )

    def fork(self) -> ForkForm:
        parts = self.problem.expressions
        prompt = _prompt(self.encode, f"{markup.MULTI} {items(parts)}")
        return DescribedForm(family("reason-fork"), self.encode, prompt, len(parts))

    def share(self, workers: int) -> ShareForm:
        return SharedList(encode=self.encode, problem=self.problem)


class SharedForms(TrainedForms):
    """Forms of a domain whose single thread is a worker in a group of one."""

    strategy = "group-think"

    @property
    def prompt(self) -> Context:
        form = self.share(1)
        return Context.given(form.prompt.tokens + self.encode(form.opening(1, 1)))

    def answer(self, text: str) -> str | None:
        return self.share(1).merged([text])


class EnumerationForms(SharedForms):
    problem: Enumeration

    def share(self, workers: int) -> ShareForm:
        return SharedEnumeration(encode=self.encode, problem=self.problem)


class ShortestPathsForms(SharedForms):
    problem: ShortestPaths

    def share(self, workers: int) -> ShareForm:
        if len(self.problem.weights) > 4:
            return super().share(workers)
        return SharedGraph(encode=self.encode, problem=self.problem)


TAUGHT: dict[str, type[TrainedForms]] = {
    Countdown.domain: CountdownForms,
    Arithmetic.domain: ArithmeticForms,
    Several.domain: SeveralForms,
    Enumeration.domain: EnumerationForms,
    ShortestPaths.domain: ShortestPathsForms,
}
"""The forms of each domain that the shipped model was taught."""


def _expression(problem: Arithmetic) -> str:
    tree = parse(problem.expression)
    if isinstance(tree, int):
        raise ProblemRefused(f"{tree} has no operation; give an expression such as (17*3+5)*4")
    try:
        evaluate(tree)
        too_large = largest(tree) > markup.LARGEST
    except ValueError as error:
        raise ProblemRefused(f"{error}; the shipped model computes with 0 to 999 only") from error
    if too_large:
        raise ProblemRefused(
            f"the expression reaches {largest(tree)}; the shipped model computes with 0 to 999 only"
        )
    return render(tree)


@dataclass(frozen=True, kw_only=True)
class TrainedSpawn:
    """``7 : 10 * 3 = 30 <spawn> 21 23 30 => 50 ;`` for each child, then ``<join>``."""

    encode: Encode
    message: str

    def prompt(self, message: str, budget: int) -> Context:
        return _prompt(self.encode, f"{markup.APR} {budget} : {message}")

    def asks(self, text: str) -> bool:
        return text.endswith(markup.JOIN)

    def spawns(self, text: str) -> list[Spawn]:
        found: dict[str, Spawn] = {}
        for number, note, message in _SPAWN.findall(text):
            found.setdefault(message, Spawn(number, note, message))
        return list(found.values())

    def report(self, spawns: Sequence[Spawn], found: Sequence[str | None]) -> str:
        lines = [
            f"{spawn.number} : {spawn.note} , {answer} ;"
            for spawn, answer in zip(spawns, found, strict=False)
            if answer is not None
        ]
        return " ".join([*lines, markup.JOINED])

    def found(self, text: str) -> str | None:
        return raw_answer(text)


_SPAWN = re.compile(rf"(\d+) : ([^;<]*?) {markup.SPAWN} ([^;<]+?) ;")


@dataclass(frozen=True)
class DescribedForm:
    """A fork of so many ``parts``, or paths, by a description that ``native`` runs as well."""

    format: NativeFormat
    encode: Encode
    prompt: Context
    parts: int = 0
    once: bool = False

    @property
    def stop(self) -> frozenset[int]:
        return frozenset(self.encode(" ".join((*self.format.fork.at, *self.format.branch.ends))))

    @property
    def conclusion(self) -> str:
        return self.format.join.after

    summary = conclusion

    def closing(self, texts: Sequence[str]) -> str:
        return ""

    def retold(self, texts: Sequence[str]) -> None:
        return None

    def opening(self, path: int | str) -> str:
        return self.format.branch.header.replace("{number}", f"{path}")

    def solved(self, text: str, answer: str | None) -> bool:
        return all(one in text for one in self.format.join.needs)

    def asks(self, text: str, depth: int) -> bool:
        return text.endswith(self.format.fork.at)

    def outlines(self, text: str) -> list[Outline]:
        numbers = self.format.fork.plan.numbers(text)
        if not set(numbers) <= {str(one + 1) for one in range(self.parts)}:
            raise ValueError("a part does not exist")
        if len(set(numbers)) < len(numbers):
            raise ValueError("a part is asked for twice")
        return [Outline(one, self.opening(one)) for one in numbers]


@dataclass(frozen=True, kw_only=True)
class TrainedShare(ABC):
    """``<worker> 2 / 4 : ~ 2 : ... <done> 5 : ... <done>`` each."""

    encode: Encode
    problem: Problem
    others: str = ""
    own: str = ""
    check: str = ""
    finisher: str = ""
    room: int | None = 2048  # as measured; demonstrations have slots of at most 3,000 together

    @cached_property
    def prompt(self) -> Context:
        return _prompt(self.encode, f"{markup.GROUP} {self.task}")

    @property
    @abstractmethod
    def task(self) -> str:
        """What is to be done, as the prompt states it."""

    @property
    def steps(self) -> StepEnds:
        return StepEnds(tokens=frozenset(self.encode(markup.DONE)))

    def closing(self, texts: Sequence[str]) -> str:
        return ""

    def asked(self, worker: int, workers: int, steps: str, *, check: bool) -> None:
        return None

    def told(self, worker: int, text: str) -> str:
        return text

    def left(self, text: str) -> bool:
        return False

    def opening(self, worker: int, workers: int) -> str:
        return f"{markup.WORKER} {worker} / {workers} :"

    @abstractmethod
    def merged(self, texts: Sequence[str]) -> str | None:
        """The answer that the finished lines give together; None where they give none."""

    @abstractmethod
    def complete(self, texts: Sequence[str]) -> bool:
        """Whether nothing is left to do."""


def finished_lines(texts: Sequence[str]) -> list[str]:
    """The finished lines of all workers, without their openings."""
    opening = re.compile(rf"{markup.WORKER} \d+ / \d+ :")
    parts = [part for text in texts for part in opening.sub("", text).split(markup.DONE)[:-1]]
    return [part.strip(f" {markup.WAIT}") for part in parts]


class SharedList(TrainedShare):
    """Each line works out one expression."""

    problem: Several

    @property
    def task(self) -> str:
        return f"{markup.CALC} {items(self.problem.expressions)}"

    def values(self, texts: Sequence[str]) -> dict[int, str]:
        """The values found, by the expression's number; the first to be finished counts."""
        found: dict[int, str] = {}
        for line in finished_lines(texts):
            match = re.fullmatch(rf"(\d+)(?: {markup.WAIT} \d+)* : .*{markup.ANSWER} (\d+)", line)
            if match is not None:
                number = re.findall(r"\d+", line.partition(" : ")[0])[-1]
                found.setdefault(int(number), match[2])
        return found

    def merged(self, texts: Sequence[str]) -> str | None:
        found = self.values(texts)
        count = len(self.problem.expressions)
        if not found:
            return None
        return ", ".join(found.get(number, "?") for number in range(1, count + 1))

    def complete(self, texts: Sequence[str]) -> bool:
        return set(self.values(texts)) >= set(range(1, len(self.problem.expressions) + 1))


class SharedEnumeration(TrainedShare):
    """Each line makes one item."""

    problem: Enumeration

    @property
    def task(self) -> str:
        return f"{markup.LIST} {self.problem.count} : {self.problem.divisor}"

    def merged(self, texts: Sequence[str]) -> str | None:
        found = [
            match[1] for line in finished_lines(texts) if (match := re.search(r"= (\d+)$", line))
        ]
        return ", ".join(dict.fromkeys(found)) or None

    def complete(self, texts: Sequence[str]) -> bool:
        return self.problem.coverage(self.merged(texts) or "") >= 1


class SharedGraph(TrainedShare):
    """Each line is one row of the matrix after one phase of Floyd-Warshall."""

    problem: ShortestPaths

    @property
    def task(self) -> str:
        return f"{markup.GRAPH} {items([' '.join(map(str, row)) for row in self.problem.weights])}"

    def last_rows(self, texts: Sequence[str]) -> dict[int, dict[int, str]]:
        """The rows of the last phase, by node, each by the other node."""
        found: dict[int, dict[int, str]] = {}
        size = len(self.problem.weights)
        for line in finished_lines(texts):
            head, _, body = line.partition(" : ")
            numbers = re.findall(r"\d+", head)
            if len(numbers) >= 2 and int(numbers[-2]) == size:
                cells = re.findall(r"(\d+) (?:: |\d+ \? [^:]*: )(\d+)", body)
                found[int(numbers[-1])] = {int(j): value for j, value in cells}
        return found

    def merged(self, texts: Sequence[str]) -> str | None:
        found = self.last_rows(texts)
        nodes = range(1, len(self.problem.weights) + 1)
        rows = [["0" if i == j else found.get(i, {}).get(j, "?") for j in nodes] for i in nodes]
        return " ; ".join(" ".join(row) for row in rows) if found else None

    def complete(self, texts: Sequence[str]) -> bool:
        return len(self.last_rows(texts)) == len(self.problem.weights)


def _prompt(encode: Encode, task: str) -> Context:
    return Context.given(encode(f"{markup.BOS} {task} :"))
