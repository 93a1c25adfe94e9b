"""Demonstrations of threads that share what they wrote, as segments with the layout's own views.

Multiverse (arXiv 2506.09991): branches of one outline, and a conclusion over all of them.
ParaThinker (arXiv 2509.04475): paths cut off where the first one has its answer, and a summary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reasoning.language import markup
from reasoning.language.forms.trained import items
from reasoning.problems import arithmetic, expression, several
from reasoning.training.demonstrations import (
    JOIN_WEIGHT,
    Demonstration,
    Piece,
    calc,
    draw_problem,
    serial,
)
from reasoning.values.context import Context, Segment

IDS = {token: index for index, token in enumerate(markup.VOCABULARY)}
LONGEST = 704
LONGEST_PATH = 480
"""Tokens of a path that a summary follows."""
COPY_WEIGHT = 2.0


@dataclass
class Laid:
    """A demonstration as segments of one flat sequence, with each token's loss weight."""

    segments: list[Segment] = field(default_factory=list)
    weights: list[list[float]] = field(default_factory=list)
    clock: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    def write(
        self, context: Context, *pieces: Piece, path: int = 0, predicted: bool = False
    ) -> Segment:
        """A segment in a context of frozen ones.

        Its first token is ``predicted`` only where the last segment is what it goes on from.
        """
        segment = Segment(context, path=path)
        weights: list[float] = []
        for text, weight in pieces:
            tokens = [IDS[token] for token in text.split()]
            segment.tokens += tokens
            weights += [weight] * len(tokens)
        if not predicted:
            weights[0] = 0.0
        segment.steps = list(range(self.clock, self.clock + len(segment)))
        self.clock += len(segment)
        self.segments.append(segment)
        self.weights.append(weights)
        return segment

    def prompt(self, text: str) -> Context:
        """The context of a given text."""
        return Context().after(self.write(Context(), Piece(text, 0.0)))


# ---- Multiverse ----------------------------------------------------------------------------


def derivation(text: str, rng: random.Random) -> list[Piece]:
    """A worked expression up to its value: first copied, so that all it needs stands together."""
    *pieces, last = calc(text, rng).body[0][1]
    end = last._replace(text=last.text.removesuffix(f" {markup.EOS}"))
    return [Piece(f"{text} :", COPY_WEIGHT), *pieces, end]


def _values(expressions: Sequence[str]) -> list[str]:
    return [str(expression.evaluate(expression.parse(text))) for text in expressions]


def values_piece(expressions: Sequence[str]) -> Piece:
    listed = " , ".join(_values(expressions))
    return Piece(f"{markup.ANSWER} {listed} {markup.EOS}", JOIN_WEIGHT)


def each(expressions: Sequence[str], rng: random.Random) -> Laid:
    """Several expressions one after the other."""
    laid = Laid()
    base = laid.prompt(f"{markup.BOS} {markup.EACH} {items(expressions)} :")
    pieces: list[Piece] = []
    for index, text in enumerate(expressions, start=1):
        pieces += [Piece(f"{index} :"), *derivation(text, rng), Piece(";")]
    laid.write(base, *pieces, values_piece(expressions), predicted=True)
    return laid


def multiverse(
    expressions: Sequence[str], rng: random.Random, *, branches: int | None = None
) -> Laid:
    """Outlines, branches and conclusion; with ``branches`` only so many, and no conclusion."""
    laid = Laid()
    base = laid.prompt(f"{markup.BOS} {markup.MULTI} {items(expressions)} :")
    outlines = " ; ".join(str(i) for i in range(1, len(expressions) + 1))
    fork = base.after(laid.write(base, Piece(f"{outlines} {markup.FORK}"), predicted=True))
    chosen = list(enumerate(expressions, start=1))
    if branches is not None:
        chosen = sorted(rng.sample(chosen, branches))
    ends = [
        fork.after(
            laid.write(
                fork,
                Piece(f"{markup.PATH} {index} :", 0.0),
                *derivation(text, rng),
                Piece(markup.PATH_END),
            )
        )
        for index, text in chosen
    ]
    if branches is None:
        head = Piece(markup.CONCLUDE, 0.0)
        laid.write(fork.join(ends), head, values_piece(expressions))
    return laid


# ---- ParaThinker ---------------------------------------------------------------------------

ORDERS = (
    *((0, 1, 2, 3), (2, 3, 0, 1), (0, 2, 1, 3), (1, 3, 0, 2)),
    *((0, 3, 1, 2), (1, 2, 0, 3), (3, 1, 0, 2), (2, 1, 3, 0)),
)
"""The order in which each of eight paths takes four numbers: the first pairs cover all six."""


def think(numbers: Sequence[int], target: int, path: int) -> list[tuple[int, list[Piece]]]:
    """What path 1..8 writes after its opening, in blocks with their nesting level."""
    order = [numbers[index] for index in ORDERS[path - 1]]
    demonstration = serial(order, target, _InOrder())
    first = demonstration.head[1]._replace(weight=2.0)
    blocks = [(1, [first]), *demonstration.body]
    level, last = blocks[-1]
    end = last[-1]
    text = end.text.replace(markup.EOS, markup.THINK_END)
    return [*blocks[:-1], (level, [*last[:-1], end._replace(text=text)])]


def drawn_think(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 4)
    path = rng.choice(markup.PATHS)
    task = f"{' '.join(map(str, problem.numbers))} => {problem.target}"
    head = [
        Piece(f"{markup.BOS} {markup.PARA} {task} :", 0.0),
        Piece(f"{markup.THINK} {path}", 0.0),
    ]
    first, *blocks = think(problem.numbers, problem.target, path)
    return Demonstration([*head, *first[1]], blocks, path=path)


class _InOrder(random.Random):
    """Leaves the order of the numbers as it is."""

    def shuffle(self, x: object) -> None:
        pass


def summary(numbers: Sequence[int], target: int, paths: Sequence[int], rng: random.Random) -> Laid:
    """The summary over paths that were cut where the first of them had an answer, or all ended.

    Of each path only the opening and a last part are kept, at their true positions.
    """
    texts = [_tokens(think(numbers, target, path)) for path in paths]
    done = [len(text) for text in texts if markup.ANSWER in text]
    end = LONGEST_PATH if rng.random() < 0.3 else min([*done, LONGEST_PATH])
    laid = Laid()
    task = f"{' '.join(map(str, numbers))} => {target}"
    base = laid.prompt(f"{markup.BOS} {markup.PARA} {task} :")
    room = (LONGEST - 60 - len(laid)) // len(paths) - 10
    ends: list[Context] = []
    answer = None
    for path, text in zip(paths, texts, strict=True):
        text = text[:end]
        if text[-1] == markup.THINK_END and markup.ANSWER in text:
            solved = " ".join(text[text.index(markup.ANSWER) : -1])
            answer = answer or solved
            kept = max(40, rng.randint(20, max(21, room)))
        else:
            kept = rng.randint(8, max(9, room))
        opening = f"{markup.THINK} {path} {' '.join(text[:6])}"
        head = laid.write(base, Piece(opening, 0.0), path=path)
        after = base.after(head)
        tail = text[max(6, len(text) - kept) :]
        if tail:
            gap = max(0, len(text) - 6 - len(tail))
            tail_at = Context(entries=after.entries, position=after.position + gap)
            after = tail_at.after(laid.write(tail_at, Piece(" ".join(tail), 0.2), path=path))
        ends.append(after)
    conclusion = Piece(f"{answer or markup.NONE} {markup.EOS}", JOIN_WEIGHT)
    laid.write(base.join(ends), Piece(markup.SUMMARY, 0.0), conclusion)
    return laid


def _tokens(blocks: Sequence[tuple[int, list[Piece]]]) -> list[str]:
    return [token for _, pieces in blocks for text, _ in pieces for token in text.split()]


# ---- drawing them --------------------------------------------------------------------------


def few(rng: random.Random, least: int, most: int) -> list[str]:
    """Training expressions: many short ones, or up to five as long as those that are measured."""
    count = rng.randint(least, most)
    if rng.random() < 0.6:
        return list(several.generate(rng, count=min(count, 5), held_out=False).expressions)
    return [
        arithmetic.generate(rng, operations=rng.randint(1, 3), held_out=False).expression
        for _ in range(count)
    ]


def drawn_each(rng: random.Random) -> Laid:
    return fitting(lambda: each(few(rng, 2, 6), rng))


def drawn_multiverse(rng: random.Random) -> Laid:
    return fitting(lambda: multiverse(few(rng, 2, 8), rng))


def drawn_branch(rng: random.Random) -> Laid:
    """Branches of problems as large as those that are measured."""

    def draw() -> Laid:
        operations = rng.choice((None, rng.randint(1, 7)))
        found = several.generate(
            rng, count=rng.randint(2, 8), held_out=False, operations=operations
        )
        return multiverse(found.expressions, rng, branches=rng.randint(1, 2))

    return fitting(draw)


def drawn_summary(rng: random.Random) -> Laid:
    problem = draw_problem(rng, 4)
    count = rng.randint(2, 8)
    paths = sorted(rng.sample(markup.PATHS, count))
    return fitting(lambda: summary(problem.numbers, problem.target, paths, rng))


def fitting(draw: Callable[[], Laid]) -> Laid:
    """The first that fits into a row."""
    while True:
        laid = draw()
        if len(laid) <= LONGEST:
            return laid
