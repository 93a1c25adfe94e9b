"""Demonstrations of threads that share what they write, as segments of `reasoning.values.layout`.

Multiverse (arXiv 2506.09991): branches of an outline, and a conclusion over all of them.
ParaThinker (arXiv 2509.04475): paths that are cut where the first has its answer, and a summary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps

from reasoning.language import markup
from reasoning.language.trained import items
from reasoning.problems import expression
from reasoning.training.demonstrations import (
    JOIN_WEIGHT,
    Demonstration,
    Passage,
    calc,
    draw_expression,
    draw_problem,
    problem_text,
    serial,
    tokenize,
)
from reasoning.values.context import Context, Segment

LONGEST = 704
LONGEST_PATH = 480
"""Tokens of a path, at most, before its summary."""
COPY_WEIGHT = 2.0


@dataclass
class SharedDemonstration:
    """A demonstration as segments of one flat sequence.

    Attributes:
        weights: By segment, the loss weight of each token.
        clock: The step at which the next segment is written.
    """

    segments: list[Segment] = field(default_factory=list)
    weights: list[list[float]] = field(default_factory=list)
    clock: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    def write(
        self, context: Context, *pieces: Passage, path: int = 0, predicted: bool = False
    ) -> Segment:
        """Add a segment in a context of frozen ones.

        Its first token is ``predicted`` only where it continues the last segment.
        """
        segment = Segment(context, path=path)
        tokens, weights = tokenize(pieces)
        segment.tokens += tokens
        if not predicted:
            weights[0] = 0.0
        segment.steps = list(range(self.clock, self.clock + len(segment)))
        self.clock += len(segment)
        self.segments.append(segment)
        self.weights.append(weights)
        return segment

    def prompt(self, text: str) -> Context:
        """Add a given text; returns the context after it."""
        return Context().after(self.write(Context(), Passage(text, 0.0)))


# ---- Multiverse ----------------------------------------------------------------------------


def derivation(text: str, rng: random.Random) -> list[Passage]:
    """A worked expression up to its value, copied first, so that it stands next to its steps."""
    *pieces, last = calc(text, rng).body[0][1]
    end = last._replace(text=last.text.removesuffix(f" {markup.EOS}"))
    return [Passage(f"{text} :", COPY_WEIGHT), *pieces, end]


def values_text(expressions: Sequence[str]) -> Passage:
    """The answer of several expressions."""
    listed = " , ".join(str(expression.evaluate(expression.parse(text))) for text in expressions)
    return Passage(f"{markup.ANSWER} {listed} {markup.EOS}", JOIN_WEIGHT)


def each(expressions: Sequence[str], rng: random.Random) -> SharedDemonstration:
    """Several expressions one after the other."""
    demonstration = SharedDemonstration()
    base = demonstration.prompt(f"{markup.BOS} {markup.EACH} {items(expressions)} :")
    pieces: list[Passage] = []
    for index, text in enumerate(expressions, start=1):
        pieces += [Passage(f"{index} :"), *derivation(text, rng), Passage(";")]
    demonstration.write(base, *pieces, values_text(expressions), predicted=True)
    return demonstration


def multiverse(
    expressions: Sequence[str], rng: random.Random, *, branches: int | None = None
) -> SharedDemonstration:
    """Outlines, branches and a conclusion; with ``branches``, only that many, unconcluded."""
    demonstration = SharedDemonstration()
    base = demonstration.prompt(f"{markup.BOS} {markup.MULTI} {items(expressions)} :")
    outlines = " ; ".join(str(i) for i in range(1, len(expressions) + 1))
    forked = demonstration.write(base, Passage(f"{outlines} {markup.FORK}"), predicted=True)
    fork = base.after(forked)
    chosen = list(enumerate(expressions, start=1))
    if branches is not None:
        chosen = sorted(rng.sample(chosen, branches))
    ends = []
    for index, text in chosen:
        opening, end = Passage(f"{markup.PATH} {index} :", 0.0), Passage(markup.PATH_END)
        branch = demonstration.write(fork, opening, *derivation(text, rng), end)
        ends.append(fork.after(branch))
    if branches is None:
        head = Passage(markup.CONCLUDE, 0.0)
        demonstration.write(fork.join(ends), head, values_text(expressions))
    return demonstration


# ---- ParaThinker ---------------------------------------------------------------------------

ORDERS = (
    *((0, 1, 2, 3), (2, 3, 0, 1), (0, 2, 1, 3), (1, 3, 0, 2)),
    *((0, 3, 1, 2), (1, 2, 0, 3), (3, 1, 0, 2), (2, 1, 3, 0)),
)
"""The order in which each path takes four numbers; the first pairs cover all six pairs."""


def think(numbers: Sequence[int], target: int, path: int) -> list[tuple[int, list[Passage]]]:
    """The text of path 1..8 after its opening, in blocks of (nesting level, text)."""
    order = [numbers[index] for index in ORDERS[path - 1]]
    demonstration = serial(order, target, _Unshuffled())
    first = demonstration.head[1]._replace(weight=2.0)
    blocks = [(1, [first]), *demonstration.body]
    level, last = blocks[-1]
    end = last[-1]
    text = end.text.replace(markup.EOS, markup.THINK_END)
    return [*blocks[:-1], (level, [*last[:-1], end._replace(text=text)])]


def drawn_think(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 4)
    path = rng.choice(markup.PATHS)
    task = problem_text(problem.numbers, problem.target)
    head = Passage(f"{markup.BOS} {markup.PARA} {task} :", 0.0)
    first, *blocks = think(problem.numbers, problem.target, path)
    opening = Passage(f"{markup.THINK} {path}", 0.0)
    return Demonstration([head, opening, *first[1]], blocks, path=path)


class _Unshuffled(random.Random):
    """A generator that does not shuffle."""

    def shuffle(self, x: object) -> None:
        pass


def summary(
    numbers: Sequence[int], target: int, paths: Sequence[int], rng: random.Random
) -> SharedDemonstration:
    """The summary of paths that are cut where the first has its answer, or at `LONGEST_PATH`.

    Only the opening and the end of each path are kept, at their true positions.
    """
    texts = [_tokens(think(numbers, target, path)) for path in paths]
    done = [len(text) for text in texts if markup.ANSWER in text]
    end = LONGEST_PATH if rng.random() < 0.3 else min([*done, LONGEST_PATH])
    demonstration = SharedDemonstration()
    task = problem_text(numbers, target)
    base = demonstration.prompt(f"{markup.BOS} {markup.PARA} {task} :")
    room = (LONGEST - 60 - len(demonstration)) // len(paths) - 10
    ends: list[Context] = []
    answer = None
    for path, text in zip(paths, texts, strict=True):
        text = text[:end]
        if text[-1] == markup.THINK_END and markup.ANSWER in text:
            answer = answer or " ".join(text[text.index(markup.ANSWER) : -1])
            kept = max(40, rng.randint(20, max(21, room)))
        else:
            kept = rng.randint(8, max(9, room))
        ends.append(_shown_path(demonstration, base, path, text, kept))
    conclusion = Passage(f"{answer or markup.NONE} {markup.EOS}", JOIN_WEIGHT)
    demonstration.write(base.join(ends), Passage(markup.SUMMARY, 0.0), conclusion)
    return demonstration


def _shown_path(
    demonstration: SharedDemonstration, base: Context, path: int, text: list[str], kept: int
) -> Context:
    """Write the opening and the last ``kept`` tokens of a path; returns the context after it."""
    opening = f"{markup.THINK} {path} {' '.join(text[:6])}"
    after = base.after(demonstration.write(base, Passage(opening, 0.0), path=path))
    tail = text[max(6, len(text) - kept) :]
    if not tail:
        return after
    gap = max(0, len(text) - 6 - len(tail))
    at = Context(entries=after.entries, position=after.position + gap)
    return at.after(demonstration.write(at, Passage(" ".join(tail), 0.2), path=path))


def _tokens(blocks: Sequence[tuple[int, list[Passage]]]) -> list[str]:
    return [token for _, pieces in blocks for text, _ in pieces for token in text.split()]


# ---- drawing them --------------------------------------------------------------------------


def until_it_fits(
    draw: Callable[[random.Random], SharedDemonstration],
) -> Callable[[random.Random], SharedDemonstration]:
    """Draw until a demonstration fits into a row."""

    @wraps(draw)
    def drawn(rng: random.Random) -> SharedDemonstration:
        while len(demonstration := draw(rng)) > LONGEST:
            pass
        return demonstration

    return drawn


def short_expressions(rng: random.Random, least: int, most: int) -> list[str]:
    """Training expressions: many short ones, or at most five of the length that is measured."""
    count = rng.randint(least, most)
    if rng.random() < 0.6:
        return [draw_expression(rng, rng.randint(4, 7)) for _ in range(min(count, 5))]
    return [draw_expression(rng, rng.randint(1, 3)) for _ in range(count)]


@until_it_fits
def drawn_each(rng: random.Random) -> SharedDemonstration:
    return each(short_expressions(rng, 2, 6), rng)


@until_it_fits
def drawn_multiverse(rng: random.Random) -> SharedDemonstration:
    return multiverse(short_expressions(rng, 2, 8), rng)


@until_it_fits
def drawn_branch(rng: random.Random) -> SharedDemonstration:
    """Branches of problems of the size that is measured."""
    size = rng.choice((None, rng.randint(1, 7)))
    count = rng.randint(2, 8)
    found = [draw_expression(rng, size or rng.randint(4, 7)) for _ in range(count)]
    return multiverse(found, rng, branches=rng.randint(1, 2))


def drawn_summary(rng: random.Random) -> SharedDemonstration:
    problem = draw_problem(rng, 4)
    paths = sorted(rng.sample(markup.PATHS, rng.randint(2, 8)))
    draw = until_it_fits(lambda rng: summary(problem.numbers, problem.target, paths, rng))
    return draw(rng)
