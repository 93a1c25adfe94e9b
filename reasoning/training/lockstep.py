"""Demonstrations of workers in lock-step (Group Think, Hogwild!; arXiv 2505.11107, 2504.06261).

At every step each worker sees what all have written before it, and takes the next item that nobody
has claimed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from reasoning.language import markup
from reasoning.language.trained import items
from reasoning.problems import enumeration, shortest_paths
from reasoning.problems.shortest_paths import ShortestPaths
from reasoning.training.demonstrations import TOKEN_IDS, Passage
from reasoning.training.shared import (
    SharedDemonstration,
    derivation,
    short_expressions,
    until_it_fits,
    values_text,
)
from reasoning.values.context import Context, Placed, Segment


class SharedProgress:
    """What all workers have written up to the last step.

    Attributes:
        claims: (item, step, worker) of every claim, in order.
        rows: (phase, node) of finished rows of Floyd and Warshall's algorithm.
    """

    def __init__(self) -> None:
        self.claims: list[tuple[int, int, int]] = []
        self.rows: set[tuple[int, int]] = set()

    @property
    def next(self) -> int:
        """The first item that nobody has claimed."""
        return max((item for item, _, _ in self.claims), default=0) + 1

    def lost(self, worker: int) -> bool:
        """Whether a worker with a lower number made the same claim in the same step."""
        item, step, _ = next(claim for claim in reversed(self.claims) if claim[2] == worker)
        return any(c[0] == item and c[1] == step and c[2] < worker for c in self.claims)

    def add(self, worker: int, token: WrittenToken, step: int) -> None:
        """Take in what a worker wrote at ``step``."""
        if token.claim is not None:
            self.claims.append((token.claim, step, worker))
        if token.row is not None:
            self.rows.add(token.row)


@dataclass(frozen=True)
class WrittenToken:
    """One token of a worker, and the claim or finished row that it tells the others."""

    text: str
    weight: float = 1.0
    claim: int | None = None
    row: tuple[int, int] | None = None


Line: TypeAlias = Iterator[WrittenToken]
Placement: TypeAlias = Literal["slots", "flow"]
PLACEMENTS: tuple[Placement, ...] = ("slots", "flow")


def claiming(worker: int, progress: SharedProgress, texts: Sequence[Sequence[Passage]]) -> Line:
    """Claim the next item and work it out, until all are claimed."""
    yield from (WrittenToken(markup.WAIT, 0.5) for _ in range(worker - 1))
    while (item := progress.next) <= len(texts):
        yield WrittenToken(str(item), 3.0, claim=item)
        if progress.lost(worker):
            yield WrittenToken(markup.WAIT, 3.0)
            continue
        yield WrittenToken(":")
        for text, weight in texts[item - 1]:
            yield from (WrittenToken(token, weight) for token in text.split())
        yield WrittenToken(markup.DONE)
    yield WrittenToken(markup.EOS, 6.0)


def rows(worker: int, of: int, progress: SharedProgress, graph: ShortestPaths) -> Line:
    """Update every ``of``-th row of the matrix in each phase, once its pivot row is finished."""
    size = len(graph.weights)
    yield from (WrittenToken(markup.WAIT, 0.5) for _ in range(worker - 1))
    for k in range(1, size + 1):
        old, new = graph.phases[k - 1], graph.phases[k]
        for i in range(worker, size + 1, of):
            yield WrittenToken(str(k))
            yield WrittenToken(str(i))
            while k > 1 and (k - 1, k) not in progress.rows:
                yield WrittenToken(markup.WAIT, 0.3)
            yield WrittenToken(":")
            for j in (j for j in range(1, size + 1) if j != i):
                entry = new[i - 1][j - 1]
                yield WrittenToken(str(j))
                if k in (i, j):
                    yield from map(WrittenToken, (":", str(entry)))
                    continue
                a, b = old[i - 1][k - 1], old[k - 1][j - 1]
                text = f"{old[i - 1][j - 1]} ? {a} + {b} = {a + b} : {entry}"
                yield from map(WrittenToken, text.split())
            yield WrittenToken(markup.DONE, row=(k, i))
    yield WrittenToken(markup.EOS)


def lockstep(
    task: str,
    lines: Sequence[Line],
    progress: SharedProgress,
    placement: Placement,
    rng: random.Random,
) -> SharedDemonstration:
    """Let workers write in lock-step, and lay out what they write."""
    layout = _LockstepLayout(task, len(lines), placement, rng)
    running = dict(enumerate(lines, 1))
    while running:
        written = {worker: next(line, None) for worker, line in running.items()}
        layout.step += 1
        for worker, token in written.items():
            if token is None:
                del running[worker]
            else:
                layout.write(worker, token)
                progress.add(worker, token, layout.step)
    shared = layout.demonstration.segments[1:]
    for segment in shared:  # each sees all others, at each step as far as they are computed
        others = tuple(Placed(other) for other in shared if other is not segment)
        entries = layout.base.entries + others
        segment.views = [(0, Context(entries=entries, position=segment.home))]
    return layout.demonstration


class _LockstepLayout:
    """The segments of workers that write in lock-step.

    With ``slots`` each worker has one segment in a range of positions of its own (Group Think).
    With ``flow`` each line is a segment that stands where the shared text ended when it began, as
    the history of Hogwild! places it for whoever reads it just then.
    """

    def __init__(self, task: str, count: int, placement: Placement, rng: random.Random) -> None:
        self.placement, self.count, self.rng = placement, count, rng
        self.demonstration = SharedDemonstration()
        self.base = self.demonstration.prompt(f"{markup.BOS} {markup.GROUP} {task} :")
        self.step = self.demonstration.clock
        self.total = 0
        self.open: dict[int, tuple[Segment, list[float]]] = {}
        slot = rng.randint(64, 3000 // count)
        order = rng.sample(range(count), count) if rng.random() < 0.5 else list(range(count))
        opening = len(self._opening(1).split())
        for worker in range(1, count + 1):
            self._begin(worker, order[worker - 1] * (slot if placement == "slots" else opening))

    def write(self, worker: int, token: WrittenToken) -> None:
        """Append a token to the worker's open segment."""
        segment, weights = self.open[worker]
        segment.tokens.append(TOKEN_IDS[token.text])
        segment.steps.append(self.step)
        weights.append(token.weight)
        self.total += 1
        if token.text == markup.DONE and self.placement == "flow":
            # Whoever reads later finds the others' unfinished lines longer than they were.
            grown = self.rng.randint(0, 160) if self.rng.random() < 0.5 else 0
            self._begin(worker, self.total + grown)

    def _opening(self, worker: int) -> str:
        return f"{markup.WORKER} {worker} / {self.count} :"

    def _begin(self, worker: int, offset: int) -> None:
        """Open a segment at so many positions after the prompt."""
        context = Context(entries=self.base.entries, position=self.base.position + offset)
        segment = self.demonstration.write(context, Passage(self._opening(worker), 0.0))
        segment.steps = [self.step] * len(segment)
        self.total += len(segment)
        self.open[worker] = segment, self.demonstration.weights[-1]


def _claimed(
    task: str, texts: Sequence[Sequence[Passage]], workers: int, rng: random.Random
) -> SharedDemonstration:
    """Workers that claim one text after the other."""
    progress = SharedProgress()
    lines = [claiming(worker, progress, texts) for worker in range(1, workers + 1)]
    return lockstep(task, lines, progress, rng.choice(PLACEMENTS), rng)


@until_it_fits
def drawn_worklist(rng: random.Random) -> SharedDemonstration:
    """Workers on a list of expressions, and a finisher."""
    workers = rng.choice((1, 2, 3, 4, 4, 8))
    expressions = short_expressions(rng, 2, 8)
    texts = [derivation(text, rng) for text in expressions]
    demonstration = _claimed(f"{markup.CALC} {items(expressions)}", texts, workers, rng)
    _finish(demonstration, expressions)
    return demonstration


def _finish(demonstration: SharedDemonstration, expressions: Sequence[str]) -> None:
    """Add the finisher, who reads what all workers wrote."""
    entries = tuple(Placed(segment) for segment in demonstration.segments)
    position = max(segment.home + len(segment) for segment in demonstration.segments)
    context = Context(entries=entries, position=position)
    demonstration.clock = 1 + max(segment.steps[-1] for segment in demonstration.segments)
    demonstration.write(context, Passage(markup.CONCLUDE, 0.0), values_text(expressions))


@until_it_fits
def drawn_listing(rng: random.Random) -> SharedDemonstration:
    """Workers that list the multiples of a number."""
    workers = rng.choice((1, 2, 3, 4, 4, 4, 8))
    problem = enumeration.generate(rng, count=rng.randint(4, 40), held_out=False)
    texts = [
        [Passage(f"{problem.divisor} * {factor} = {problem.divisor * factor}")]
        for factor in range(1, problem.count + 1)
    ]
    return _claimed(f"{markup.LIST} {problem.count} : {problem.divisor}", texts, workers, rng)


@until_it_fits
def drawn_graph(rng: random.Random) -> SharedDemonstration:
    """Workers that run Floyd and Warshall's algorithm, each on rows of its own."""
    graph = shortest_paths.generate(rng, size=rng.choice((3, 4, 4)), held_out=False)
    size = len(graph.weights)
    workers = rng.choice((1, 2, size, size))
    progress = SharedProgress()
    lines = [rows(w, workers, progress, graph) for w in range(1, workers + 1)]
    task = f"{markup.GRAPH} {items([' '.join(map(str, row)) for row in graph.weights])}"
    return lockstep(task, lines, progress, rng.choice(PLACEMENTS), rng)
