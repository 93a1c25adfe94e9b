"""Shortest paths between all nodes of a small directed graph, after Floyd and Warshall."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from orchestrator.errors import InvalidValue
from reasoning.problems.base import Verdict, is_held_out

SIZES = range(3, 7)
WEIGHTS = range(1, 100)

Matrix = tuple[tuple[int, ...], ...]


_STATED = re.compile(
    r"(?:(?:please )?(?:find|compute|calculate|give|list)(?: all)? )?(?:the )?shortest "
    r"(?:paths?|distances?)\b[^\d.?!]{0,80}?\b(?:graph|edges|weights)\b[^\d.?!]{0,40}"
    r"(\d[\d ;]*\d)[ .!?;]*",
    re.I,
)


@dataclass(frozen=True, kw_only=True)
class ShortestPaths:
    """All distances in a complete directed graph; the answer has the rows, ``;`` between them."""

    domain: ClassVar[str] = "shortest-paths"
    weights: Matrix
    """``[n][n]``; what an edge from a row's node to a column's costs, 0 from a node to itself."""

    @classmethod
    def recognise(cls, text: str) -> ShortestPaths | None:
        """The graph that a text asks about.

        Raises:
            InvalidValue: its matrix is not square, or a number is out of range.
        """
        match = _STATED.fullmatch(text)
        if match is None or ";" not in match[1]:
            return None
        rows = tuple(
            tuple(int(n[:9]) for n in row.split()) for row in match[1].split(";") if row.strip()
        )
        size = len(rows)
        if size not in SIZES or any(len(row) != size for row in rows):
            raise InvalidValue(
                f"graph: {size} rows of {', '.join(str(len(row)) for row in rows[:8])} "
                "numbers; give "
                f"{SIZES[0]} to {SIZES[-1]} rows of as many numbers"
            )
        for i, row in enumerate(rows):
            if row[i] != 0 or any(n not in WEIGHTS for j, n in enumerate(row) if j != i):
                raise InvalidValue(
                    f"graph: row {i + 1} must have 0 for its own node and 1 to {WEIGHTS[-1]} "
                    "elsewhere"
                )
        return cls(weights=rows)

    @property
    def question(self) -> str:
        rows = "; ".join(" ".join(map(str, row)) for row in self.weights)
        return f"Find the shortest distances between all nodes of the graph with edges {rows}."

    @property
    def held_out(self) -> bool:
        """Whether this graph is kept from training."""
        return is_held_out(str(self.weights))

    @cached_property
    def phases(self) -> tuple[Matrix, ...]:
        """The matrix before, and after paths through each further node are allowed."""
        return tuple(floyd_warshall(self.weights))

    def verify(self, answer: str) -> Verdict:
        """Check every distance."""
        wrong = [cell for cell, ok in self._cells(answer).items() if not ok]
        if wrong:
            i, j = wrong[0]
            return Verdict(ok=False, reason=f"the distance from {i + 1} to {j + 1} is wrong")
        return Verdict(ok=True, reason="all distances are right")

    def coverage(self, answer: str) -> float:
        """The share of the distances between different nodes that are right."""
        cells = self._cells(answer)
        return sum(cells.values()) / len(cells)

    def canonical(self, answer: str) -> str | None:
        rows = _rows(answer)
        return " ; ".join(" ".join(row) for row in rows) if any(rows) else None

    def _cells(self, answer: str) -> dict[tuple[int, int], bool]:
        given, size = _rows(answer), len(self.weights)
        whole = len(given) <= size
        return {
            (i, j): whole
            and i < len(given)
            and len(given[i]) == size
            and given[i][i] == "0"
            and given[i][j] == str(self.phases[-1][i][j])
            for i in range(size)
            for j in range(size)
            if i != j
        }


def _rows(answer: str) -> list[list[str]]:
    return [re.findall(r"[-−]?\d+(?:\.\d+)?|\?", row) for row in answer.strip(" ;\n").split(";")]


def floyd_warshall(weights: Matrix) -> list[Matrix]:
    """The matrix before, and after each node has been allowed on the way."""
    found = [weights]
    size = range(len(weights))
    for k in size:
        old = found[-1]
        found.append(
            tuple(tuple(min(old[i][j], old[i][k] + old[k][j]) for j in size) for i in size)
        )
    return found


def generate(rng: random.Random, *, size: int = 4, held_out: bool | None = None) -> ShortestPaths:
    """Draw a graph; weights are skewed, so that detours are often shorter."""
    while True:
        problem = ShortestPaths(
            weights=tuple(
                tuple(0 if i == j else 1 + int(98 * rng.random() ** 2) for j in range(size))
                for i in range(size)
            )
        )
        if held_out is None or problem.held_out is held_out:
            return problem
