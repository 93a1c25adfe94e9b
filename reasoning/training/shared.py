"""Demonstrations of threads that share what they wrote, as segments with the layout's own views.

Multiverse (arXiv 2506.09991): branches of one outline, and a conclusion over all of them.
ParaThinker (arXiv 2509.04475): paths cut off where the first one has its answer, and a summary.
Group Think and Hogwild! (arXiv 2505.11107, 2504.06261): workers in lock-step, each of whom sees at
every step what all have written before it, and takes the next item that nobody has claimed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from reasoning import markup
from reasoning.context import Context, Placed, Segment
from reasoning.domains import enumeration, expression, several, shortest_paths
from reasoning.domains.shortest_paths import ShortestPaths
from reasoning.forms.trained import items
from reasoning.training.demonstrations import (
    JOIN_WEIGHT,
    Demonstration,
    Piece,
    calc,
    draw_problem,
    serial,
)

IDS = {token: index for index, token in enumerate(markup.VOCABULARY)}
LONGEST = 640


@dataclass
class Laid:
    """A demonstration as segments of one flat sequence, with each token's loss weight."""

    segments: list[Segment] = field(default_factory=list)
    weights: list[list[float]] = field(default_factory=list)
    clock: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    def write(self, context: Context, *pieces: Piece, path: int = 0) -> Segment:
        """A segment in a context of frozen ones; its first token is never predicted."""
        segment = Segment(context, path=path)
        weights: list[float] = []
        for text, weight in pieces:
            tokens = [IDS[token] for token in text.split()]
            segment.tokens += tokens
            weights += [weight] * len(tokens)
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


def _derivation(text: str, rng: random.Random) -> list[Piece]:
    """A worked expression without its prompt, up to its value."""
    *pieces, last = calc(text, rng).body[0][1]
    return [*pieces, last._replace(text=last.text.removesuffix(f" {markup.EOS}"))]


def _values(expressions: Sequence[str]) -> list[str]:
    return [str(expression.evaluate(expression.parse(text))) for text in expressions]


def _values_piece(expressions: Sequence[str]) -> Piece:
    listed = " , ".join(_values(expressions))
    return Piece(f"{markup.ANSWER} {listed} {markup.EOS}", JOIN_WEIGHT)


def each(expressions: Sequence[str], rng: random.Random) -> Laid:
    """Several expressions one after the other."""
    laid = Laid()
    base = laid.prompt(f"{markup.BOS} {markup.EACH} {items(expressions)} :")
    pieces: list[Piece] = []
    for index, text in enumerate(expressions, start=1):
        pieces += [Piece(f"{index} :"), *_derivation(text, rng), Piece(";")]
    laid.write(base, *pieces, _values_piece(expressions))
    return laid


def multiverse(
    expressions: Sequence[str], rng: random.Random, *, branches: int | None = None
) -> Laid:
    """Outlines, branches and conclusion; with ``branches`` only so many, and no conclusion."""
    laid = Laid()
    base = laid.prompt(f"{markup.BOS} {markup.MULTI} {items(expressions)} :")
    outlines = " ; ".join(str(i) for i in range(1, len(expressions) + 1))
    fork = base.after(laid.write(base, Piece(f"{outlines} {markup.FORK}")))
    chosen = list(enumerate(expressions, start=1))
    if branches is not None:
        chosen = sorted(rng.sample(chosen, branches))
    ends = [
        fork.after(
            laid.write(
                fork,
                Piece(f"{markup.PATH} {index} :", 0.0),
                *_derivation(text, rng),
                Piece(markup.PATH_END),
            )
        )
        for index, text in chosen
    ]
    if branches is None:
        head = Piece(markup.CONCLUDE, 0.0)
        laid.write(fork.join(ends), head, _values_piece(expressions))
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
    """The summary over paths that were cut where the first of them had an answer.

    Of each path only the opening and a last part are kept, at their true positions.
    """
    texts = [_tokens(think(numbers, target, path)) for path in paths]
    done = [len(text) for text in texts if markup.ANSWER in text]
    end = min([*done, 480])
    laid = Laid()
    task = f"{' '.join(map(str, numbers))} => {target}"
    base = laid.prompt(f"{markup.BOS} {markup.PARA} {task} :")
    room = (LONGEST - 60 - len(laid)) // len(paths) - 10
    ends, answer = [], f"{markup.NONE} {markup.EOS}"
    for path, text in zip(paths, texts, strict=True):
        text = text[:end]
        if text[-1] == markup.THINK_END and markup.ANSWER in text:
            solved = " ".join(text[text.index(markup.ANSWER) : -1])
            answer = f"{solved} {markup.EOS}"
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
    laid.write(base.join(ends), Piece(markup.SUMMARY, 0.0), Piece(answer, JOIN_WEIGHT))
    return laid


def _tokens(blocks: Sequence[tuple[int, list[Piece]]]) -> list[str]:
    return [token for _, pieces in blocks for text, _ in pieces for token in text.split()]


# ---- workers in lock-step ------------------------------------------------------------------


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

    for worker in range(1, count + 1):
        place = slot * order[worker - 1] if layout == "slots" else total
        open_segments.append(begin(worker, prompt_length + place))
        total += len(open_segments[-1])
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
                following = begin(index + 1, prompt_length + total)
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


# ---- drawing them --------------------------------------------------------------------------


def _few(rng: random.Random, least: int, most: int) -> list[str]:
    """Training expressions: many short ones, or up to five as long as those that are measured."""
    count, operations = rng.randint(least, most), rng.randint(1, 3)
    if rng.random() < 0.5:
        problem = several.generate(rng, count=min(count, 5), held_out=False)
    else:
        problem = several.generate(rng, count=count, held_out=False, operations=operations)
    return list(problem.expressions)


def drawn_each(rng: random.Random) -> Laid:
    return _fitting(lambda: each(_few(rng, 2, 6), rng))


def drawn_multiverse(rng: random.Random) -> Laid:
    return _fitting(lambda: multiverse(_few(rng, 2, 8), rng))


def drawn_branch(rng: random.Random) -> Laid:
    """Branches of problems as large as those that are measured."""

    def draw() -> Laid:
        operations = rng.choice((None, rng.randint(1, 7)))
        found = several.generate(
            rng, count=rng.randint(2, 8), held_out=False, operations=operations
        )
        return multiverse(found.expressions, rng, branches=rng.randint(1, 2))

    return _fitting(draw)


def drawn_summary(rng: random.Random) -> Laid:
    problem = draw_problem(rng, 4)
    count = rng.randint(2, 8)
    paths = sorted(rng.sample(markup.PATHS, count))
    return _fitting(lambda: summary(problem.numbers, problem.target, paths, rng))


def _layout(rng: random.Random) -> str:
    return rng.choice(("slots", "flow"))


def drawn_worklist(rng: random.Random) -> Laid:
    def draw() -> Laid:
        workers = rng.choice((1, 2, 3, 4, 4, 8))
        expressions = _few(rng, 2, 8)
        board = Board()
        texts = [_derivation(text, rng) for text in expressions]
        lines = [claiming(w, board, texts) for w in range(1, workers + 1)]
        task = f"{markup.CALC} {items(expressions)}"
        laid = lockstep(task, lines, board, _layout(rng), rng)
        _finish(laid, expressions)
        return laid

    return _fitting(draw)


def _finish(laid: Laid, expressions: Sequence[str]) -> None:
    """The finisher reads what all workers wrote."""
    entries = tuple(Placed(segment) for segment in laid.segments)
    position = max(segment.home + len(segment) for segment in laid.segments)
    context = Context(entries=entries, position=position)
    laid.clock = 1 + max(segment.steps[-1] for segment in laid.segments)
    laid.write(context, Piece(markup.CONCLUDE, 0.0), _values_piece(expressions))


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

    return _fitting(draw)


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

    return _fitting(draw)


def _fitting(draw: object) -> Laid:
    """The first that fits into a row."""
    while True:
        laid: Laid = draw()  # type: ignore[operator]
        if len(laid) <= LONGEST:
            return laid
