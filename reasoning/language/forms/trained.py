"""The forms that the shipped model was taught, in the second version of its markup."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from reasoning.errors import ProblemRefused
from reasoning.language import markup
from reasoning.language.forms import Outline
from reasoning.problems import Countdown, Enumeration, Problem, Several, ShortestPaths
from reasoning.values.context import Context

Encode = Callable[[str], list[int]]


def items(texts: Sequence[str]) -> str:
    """Numbered items, as prompts list them."""
    return " ; ".join(f"{i} : {text}" for i, text in enumerate(texts, start=1)) + " ;"


@dataclass(frozen=True, kw_only=True)
class TrainedForms:
    """The shipped model's forms for one problem."""

    problem: Problem
    encode: Encode

    def fork(self) -> TrainedFork:
        if not isinstance(self.problem, Several):
            raise self._refused("multiverse", "several expressions at once")
        return TrainedFork(encode=self.encode, problem=self.problem)

    def paths(self) -> TrainedPaths:
        if not isinstance(self.problem, Countdown) or len(self.problem.numbers) != 4:
            raise self._refused("parathinker", "Countdown with four numbers")
        return TrainedPaths(encode=self.encode, problem=self.problem)

    def share(self, workers: int) -> TrainedShare:
        match self.problem:
            case Several():
                kind: type[TrainedShare] = SharedList
            case Enumeration():
                kind = SharedEnumeration
            case ShortestPaths() if len(self.problem.weights) <= 4:
                kind = SharedGraph
            case _:
                raise self._refused(
                    "working together",
                    "several expressions, an enumeration, or a graph of three or four nodes",
                )
        return kind(encode=self.encode, problem=self.problem)

    def _refused(self, what: str, known: str) -> ProblemRefused:
        return ProblemRefused(
            f"the shipped model learned {what} for {known}, not for this {self.problem.domain} "
            "problem; use another --strategy"
        )


@dataclass(frozen=True, kw_only=True)
class TrainedFork:
    """``1 ; 2 ; 3 <fork>``, then ``<path> 2 : ... </path>`` each, then ``<conclude>``."""

    encode: Encode
    problem: Several
    conclusion: str = markup.CONCLUDE
    alone: str = ""
    once: bool = False

    @cached_property
    def prompt(self) -> Context:
        return _prompt(self.encode, f"{markup.MULTI} {items(self.problem.expressions)}")

    @property
    def stop(self) -> frozenset[int]:
        return frozenset(self.encode(f"{markup.FORK} {markup.PATH_END}"))

    def asks(self, text: str, depth: int) -> bool:
        return text.endswith(markup.FORK)

    def outlines(self, text: str) -> list[Outline]:
        goals = text.removesuffix(markup.FORK).strip().rpartition(markup.FORK)[2].split(";")
        goals = [goal.strip() for goal in goals]
        if len(goals) < 2:
            raise ValueError("it has fewer than two parts")
        if any(not re.fullmatch(r"\d{1,3}", goal) for goal in goals):
            raise ValueError("a part is not a number")
        if any(not 1 <= int(goal) <= len(self.problem.expressions) for goal in goals):
            raise ValueError("a part does not exist")
        if len(set(goals)) < len(goals):
            raise ValueError("a part is asked for twice")
        return [Outline(goal, f"{markup.PATH} {goal} :") for goal in goals]


@dataclass(frozen=True, kw_only=True)
class TrainedPaths:
    """``<think> 2 ... </think>`` each, then ``<summary>``."""

    encode: Encode
    problem: Countdown
    summary: str = markup.SUMMARY

    @cached_property
    def prompt(self) -> Context:
        numbers = " ".join(map(str, self.problem.numbers))
        return _prompt(self.encode, f"{markup.PARA} {numbers} => {self.problem.target}")

    @property
    def stop(self) -> frozenset[int]:
        return frozenset(self.encode(markup.THINK_END))

    def opening(self, path: int) -> str:
        return f"{markup.THINK} {path}"

    def solved(self, text: str) -> bool:
        return markup.ANSWER in text


@dataclass(frozen=True, kw_only=True)
class TrainedShare(ABC):
    """``<worker> 2 / 4 : ~ 2 : ... <done> 5 : ... <done>`` each."""

    encode: Encode
    problem: Problem
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
    def steps(self) -> frozenset[int]:
        return frozenset(self.encode(markup.DONE))

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
