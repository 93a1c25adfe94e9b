"""Demonstrations of workers in lock-step (Group Think, Hogwild!; arXiv 2505.11107, 2504.06261).

Each sees at every step what all have written before it, and takes the next item that nobody has
claimed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reasoning.language import markup
from reasoning.language.forms.trained import items
from reasoning.problems import enumeration, shortest_paths
from reasoning.problems.shortest_paths import ShortestPaths
from reasoning.training.demonstrations import Piece
from reasoning.training.shared import IDS, Laid, derivation, few, fitting, values_piece
from reasoning.values.context import Context, Placed, Segment


class Board:
    """What all workers have written up to the last step."""

    def __init__(self) -> None:
        self.claims: list[tuple[int, int, int]] = []
        """(item, step, worker)."""
        self.rows: set[tuple[int, int]] = set()
        """(phase, node) of finished lines of Floyd-Warshall."""

    @property
    def next(self) -> int:
        return max((item for item, _, _ in self.claims), default=0) + 1

    def lost(self, worker: int) -> bool:
        """Whether the worker's last claim was made by an earlier-numbered one in the same step."""
        item, step, _ = next(claim for claim in reversed(self.claims) if claim[2] == worker)
        return any(c[0] == item and c[1] == step and c[2] < worker for c in self.claims)


@dataclass(frozen=True)
class Write:
    """One token of a worker, and what it does to the board when it is seen."""

    text: str
    weight: float = 1.0
    claim: int | None = None
    row: tuple[int, int] | None = None


Line = Iterator[Write]


def claiming(worker: int, board: Board, texts: Sequence[Sequence[Piece]]) -> Line:
    """Take the next unclaimed item, work it out, and so on until all are taken."""
    yield from (Write(markup.WAIT, 0.5) for _ in range(worker - 1))
    while (item := board.next) <= len(texts):
        yield Write(str(item), 3.0, claim=item)
        if board.lost(worker):
            yield Write(markup.WAIT, 3.0)
            continue
        yield Write(":")
        for text, weight in texts[item - 1]:
            yield from (Write(token, weight) for token in text.split())
        yield Write(markup.DONE)
    yield Write(markup.EOS, 6.0)


def rows(worker: int, of: int, board: Board, graph: ShortestPaths) -> Line:
    """Update the own rows of the matrix phase by phase; each waits for its phase's pivot row."""
    size = len(graph.weights)
    yield from (Write(markup.WAIT, 0.5) for _ in range(worker - 1))
    for k in range(1, size + 1):
        old, new = graph.phases[k - 1], graph.phases[k]
        for i in range(worker, size + 1, of):
            yield Write(str(k))
            yield Write(str(i))
            while k > 1 and (k - 1, k) not in board.rows:
                yield Write(markup.WAIT, 0.3)
            yield Write(":")
            for j in (j for j in range(1, size + 1) if j != i):
                entry = new[i - 1][j - 1]
                yield Write(str(j))
                if k in (i, j):
                    yield from map(Write, (":", str(entry)))
                    continue
                a, b = old[i - 1][k - 1], old[k - 1][j - 1]
                text = f"{old[i - 1][j - 1]} ? {a} + {b} = {a + b} : {entry}"
                yield from map(Write, text.split())
            yield Write(markup.DONE, row=(k, i))
    yield Write(markup.EOS)


def lockstep(
    task: str, lines: Sequence[Line], board: Board, layout: str, rng: random.Random
) -> Laid:
    """Let workers write in lock-step, and lay out what they wrote.

    ``slots``: one segment for each worker, in a slot of positions of its own (Group Think).
    ``flow``: one for each line, placed where the shared text ended when it began, as Hogwild!'s
    history places it for whoever looks just then.
    """
    laid = Laid()
    base = laid.prompt(f"{markup.BOS} {markup.GROUP} {task} :")
    count = len(lines)
    slot = rng.randint(64, 3000 // count)
    order = rng.sample(range(count), count) if rng.random() < 0.5 else list(range(count))
    open_segments: list[Segment] = []
    step = laid.clock
    prompt_length, total = base.position, 0

    def begin(worker: int, position: int) -> Segment:
        context = Context(entries=base.entries, position=position)
        segment = laid.write(context, Piece(f"{markup.WORKER} {worker} / {count} :", 0.0))
        segment.steps = [step] * len(segment)
        return segment

    opening = len(f"{markup.WORKER} 1 / {count} :".split())
    for worker in range(1, count + 1):
        place = order[worker - 1] * (slot if layout == "slots" else opening)
        open_segments.append(begin(worker, prompt_length + place))
        total += opening
    weights = {id(s): w for s, w in zip(laid.segments, laid.weights, strict=True)}
    running = dict(enumerate(lines))
    while running:
        written = {index: next(line, None) for index, line in running.items()}
        step += 1
        for index, write in written.items():
            if write is None:
                del running[index]
                continue
            segment = open_segments[index]
            segment.tokens.append(IDS[write.text])
            segment.steps.append(step)
            weights[id(segment)].append(write.weight)
            total += 1
            if write.claim is not None:
                board.claims.append((write.claim, step, index + 1))
            if write.row is not None:
                board.rows.add(write.row)
            if write.text == markup.DONE and layout == "flow":
                # Whoever looks later finds the others' unfinished lines longer than they were.
                grown = rng.randint(0, 160) if rng.random() < 0.5 else 0
                following = begin(index + 1, prompt_length + total + grown)
                weights[id(following)] = laid.weights[-1]
                open_segments[index] = following
                total += len(following)
    _let_see_each_other(laid, base)
    return laid


def _let_see_each_other(laid: Laid, base: Context) -> None:
    """Each worker's segment sees all others' as far as they are computed at each step."""
    shared = laid.segments[1:]
    for own in shared:
        others = tuple(Placed(other) for other in shared if other is not own)
        own.views = [(0, Context(entries=base.entries + others, position=own.home))]


def _layout(rng: random.Random) -> str:
    return rng.choice(("slots", "flow"))


def drawn_worklist(rng: random.Random) -> Laid:
    def draw() -> Laid:
        workers = rng.choice((1, 2, 3, 4, 4, 8))
        expressions = few(rng, 2, 8)
        board = Board()
        texts = [derivation(text, rng) for text in expressions]
        lines = [claiming(w, board, texts) for w in range(1, workers + 1)]
        task = f"{markup.CALC} {items(expressions)}"
        laid = lockstep(task, lines, board, _layout(rng), rng)
        _finish(laid, expressions)
        return laid

    return fitting(draw)


def _finish(laid: Laid, expressions: Sequence[str]) -> None:
    """The finisher reads what all workers wrote."""
    entries = tuple(Placed(segment) for segment in laid.segments)
    position = max(segment.home + len(segment) for segment in laid.segments)
    context = Context(entries=entries, position=position)
    laid.clock = 1 + max(segment.steps[-1] for segment in laid.segments)
    laid.write(context, Piece(markup.CONCLUDE, 0.0), values_piece(expressions))


def drawn_listing(rng: random.Random) -> Laid:
    def draw() -> Laid:
        workers = rng.choice((1, 2, 3, 4, 4, 4, 8))
        problem = enumeration.generate(rng, count=rng.randint(4, 40), held_out=False)
        texts = [
            [Piece(f"{problem.divisor} * {factor} = {problem.divisor * factor}")]
            for factor in range(1, problem.count + 1)
        ]
        board = Board()
        lines = [claiming(w, board, texts) for w in range(1, workers + 1)]
        task = f"{markup.LIST} {problem.count} : {problem.divisor}"
        return lockstep(task, lines, board, _layout(rng), rng)

    return fitting(draw)


def graph_text(graph: ShortestPaths) -> str:
    return items([" ".join(map(str, row)) for row in graph.weights])


def drawn_graph(rng: random.Random) -> Laid:
    def draw() -> Laid:
        graph = shortest_paths.generate(rng, size=rng.choice((3, 4, 4)), held_out=False)
        size = len(graph.weights)
        workers = rng.choice((1, 2, size, size))
        board = Board()
        lines = [rows(w, workers, board, graph) for w in range(1, workers + 1)]
        task = f"{markup.GRAPH} {graph_text(graph)}"
        return lockstep(task, lines, board, _layout(rng), rng)

    return fitting(draw)
