"""Demonstrations: what our exact solvers would have written, in the shipped model's language.

Each demonstration is a list of `Piece`: text with the loss weight of its tokens (zero for what
the model is given, above one for the rare joins and conclusions that decide a run).

Both forms of Countdown search contain the same exhaustive sub-search of three numbers.  For each
number ``x`` left over it lists what the other two would have to make (``x+T |x-T| x*T``, and the
quotient if exact), then every result of the two, until one is wanted::

    23 ? 73 27 ~ ~ : 30 + 21 = 51 , 30 - 21 = 9 , 30 * 21 = 630 ; 21 ? ...
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from reasoning.language import markup
from reasoning.problems import arithmetic, countdown, expression
from reasoning.problems.expression import Step

JOIN_WEIGHT = 3.0
HIT_WEIGHT = 2.0
CHOICE_WEIGHT = 0.2
"""Of tokens that a solver chose at random: there is nothing to learn but that they vary."""


class Piece(NamedTuple):
    """A run of tokens, separated by spaces, and the weight of their loss."""

    text: str
    weight: float = 1.0


class Demonstration(NamedTuple):
    """One training sequence: a head that is always kept, and a body in blocks.

    A block is (nesting level, text): a window over a long body keeps the last block of each
    lower level before the window, which is what later blocks refer back to.
    """

    head: list[Piece]
    body: list[tuple[int, list[Piece]]]
    path: int = 0
    """The path identity of everything after the head's first piece; 0 is none."""


def step_text(step: Step) -> str:
    return f"{step.left} {step.operator} {step.right} = {step.result}"


def path_text(steps: Sequence[Step]) -> str:
    return " , ".join(map(step_text, steps))


def problem_text(numbers: Sequence[int], target: int) -> str:
    return f"{' '.join(map(str, numbers))} => {target}"


def small_expand(numbers: Sequence[int]) -> list[tuple[Step, tuple[int, ...]]]:
    """`countdown.expand` within the vocabulary."""
    return [
        (step, state) for step, state in countdown.expand(numbers) if step.result <= markup.LARGEST
    ]


def _wanted(x: int, target: int) -> list[int | None]:
    high, low = max(x, target), min(x, target)
    quotient = high // low if low and high % low == 0 else None
    return [
        n if n is not None and n <= markup.LARGEST else None
        for n in (high + low, high - low, high * low, quotient)
    ]


def _final_step(result: int, x: int, target: int) -> Step | None:
    for step in countdown.operations(result, x):
        if step.result == target:
            return step
    return None


def leaf_search(numbers: Sequence[int], target: int) -> tuple[list[Piece], tuple[Step, ...] | None]:
    """The full search of three numbers, stopped at the first solution."""
    a, b, c = numbers
    text: list[str] = []
    for (p, q), x in (((a, b), c), ((a, c), b), ((b, c), a)):
        wanted = _wanted(x, target)
        text.append(f"{x} ? {' '.join('~' if n is None else str(n) for n in wanted)} :")
        separator = ""
        for step in countdown.operations(p, q):
            if step.result > markup.LARGEST:
                continue
            text.append(separator + step_text(step))
            separator = ", "
            if step.result in wanted and (last := _final_step(step.result, x, target)):
                return [Piece(" ".join(text))], (step, last)
        text.append(";")
    return [Piece(" ".join(text))], None


def _conclusion(steps: Sequence[Step] | None, weight: float) -> list[Piece]:
    if steps is None:
        return [Piece(f"{markup.NONE} {markup.EOS}", weight)]
    return [Piece(f"{markup.ANSWER} {path_text(steps)} {markup.EOS}", weight)]


def _shuffled(numbers: Sequence[int], rng: random.Random) -> tuple[int, ...]:
    order = list(numbers)
    rng.shuffle(order)
    return tuple(order)


def serial(
    numbers: Sequence[int], target: int, rng: random.Random, *, limit: int = 4096
) -> Demonstration:
    """Depth-first search with backtracking in one thread, over the numbers in a random order."""
    prompt = f"{markup.BOS} {markup.SERIAL} {problem_text(numbers, target)} :"
    if len(numbers) == 3:
        pieces, found = leaf_search(numbers, target)
        return Demonstration([Piece(prompt, 0.0)], [(1, pieces + _conclusion(found, HIT_WEIGHT))])
    order = _shuffled(numbers, rng)
    head = [Piece(prompt, 0.0), Piece(f"{' '.join(map(str, order))} ;", CHOICE_WEIGHT)]
    body: list[tuple[int, list[Piece]]] = []
    length = 0

    def search(state: Sequence[int], level: int) -> tuple[Step, ...] | None:
        nonlocal length
        mark = ">" * level
        for step, rest in small_expand(state):
            line = [Piece(f"{mark} {step_text(step)} : {problem_text(rest, target)} ;")]
            found: tuple[Step, ...] | None
            if len(rest) == 3:
                pieces, found = leaf_search(rest, target)
                line += pieces
                body.append((level, line))
                length += sum(piece.text.count(" ") + 1 for piece in line)
            else:
                body.append((level, line))
                found = search(rest, level + 1)
            if found is not None:
                return (step, *found)
            if length > limit:
                return None
        return None

    found = search(order, 1)
    if found is not None or length <= limit:
        body.append((1, _conclusion(found, HIT_WEIGHT)))
    return Demonstration(head, body)


def apr(
    numbers: Sequence[int], target: int, budget: int, width: int, rng: random.Random
) -> Demonstration:
    """One APR thread: it spawns rounds of at most ``width`` children, ``budget`` in all.

    The text of a join is what the children would have reported.  Three numbers are searched
    by the thread itself.
    """
    prompt = f"{markup.BOS} {markup.APR} {budget} : {problem_text(numbers, target)} :"
    head = [Piece(prompt, 0.0)]
    if len(numbers) == 3:
        pieces, found = leaf_search(numbers, target)
        return Demonstration(head, [(1, pieces + _conclusion(found, HIT_WEIGHT))])
    order = _shuffled(numbers, rng)
    pieces = [Piece(f"{' '.join(map(str, order))} ;", CHOICE_WEIGHT)]
    children = small_expand(order)[:budget]
    for start in range(0, len(children), width):
        reports: list[tuple[int, Step, tuple[Step, ...]]] = []
        for index, (step, state) in enumerate(children[start : start + width], start + 1):
            pieces.append(
                Piece(f"{index} : {step_text(step)} {markup.SPAWN} {problem_text(state, target)} ;")
            )
            found = child_report(state, target, rng)
            if found is not None:
                reports.append((index, step, found))
        pieces.append(Piece(markup.JOIN))
        pieces += [
            Piece(f"{index} : {path_text((step, *found))} ;", 0.0) for index, step, found in reports
        ]
        pieces.append(Piece(markup.JOINED, 0.0))
        if reports:
            _, step, found = reports[0]
            pieces += _conclusion((step, *found), JOIN_WEIGHT)
            break
    else:
        pieces += _conclusion(None, JOIN_WEIGHT)
    return Demonstration(head, [(1, pieces)])


def child_report(state: Sequence[int], target: int, rng: random.Random) -> tuple[Step, ...] | None:
    """What a child that was given ``state`` would report."""
    if len(state) == 3:
        return leaf_search(state, target)[1]
    for step, rest in small_expand(_shuffled(state, rng)):
        found = leaf_search(rest, target)[1]
        if found is not None:
            return (step, *found)
    return None


def calc(text: str, rng: random.Random) -> Demonstration:
    """Reduce an expression one operation at a time, each spelled out before it is put in place.

    The next operation is the leftmost possible one or any, so that samples differ.
    """
    tree = expression.parse(text)
    pieces: list[Piece] = []
    while not isinstance(tree, int):
        index = rng.choice((0, rng.randrange(expression.redexes(tree))))
        step = expression.redex(tree, index)
        tree = expression.reduce_at(tree, index)
        pieces.append(Piece(str(step.left), CHOICE_WEIGHT))
        pieces.append(Piece(f"{step.operator} {step.right} = {step.result}"))
        if not isinstance(tree, int):
            pieces.append(Piece(f"; {expression.render(tree)} :"))
    pieces.append(Piece(f"{markup.ANSWER} {tree} {markup.EOS}"))
    return Demonstration([Piece(f"{markup.BOS} {markup.CALC} {text} :", 0.0)], [(1, pieces)])


# ---- the mixture ---------------------------------------------------------------------------


def _sub_problem(
    rng: random.Random, numbers: Sequence[int], target: int, *, solvable: float
) -> tuple[int, ...]:
    """A state one operation below; with probability ``solvable`` one that has a solution."""
    states = [state for _, state in small_expand(_shuffled(numbers, rng))]
    rng.shuffle(states)
    if rng.random() < solvable:
        for state in states:
            if child_report(state, target, rng) is not None:
                return state
    return states[0]


def draw_problem(rng: random.Random, count: int, *, solvable: float = 0.8) -> countdown.Countdown:
    """A training problem; with probability ``solvable`` one that has a solution."""
    insist = rng.random() < solvable and count < 5  # nearly all with five numbers have one
    while True:
        problem = countdown.Countdown(
            numbers=tuple(rng.choice(countdown.NUMBER_RANGE) for _ in range(count)),
            target=rng.choice(countdown.TARGET_RANGE),
        )
        if problem.held_out:
            continue
        if not insist or child_report(problem.numbers, problem.target, rng) is not None:
            return problem


def drawn_serial(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 4)
    return serial(problem.numbers, problem.target, rng)


def drawn_serial_five(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 5)
    return serial(problem.numbers, problem.target, rng)


def drawn_leaf(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 4)
    numbers: Sequence[int] = problem.numbers
    if rng.random() < 0.2:  # below five numbers, where intermediates meet
        numbers = _sub_problem(rng, draw_problem(rng, 5).numbers, problem.target, solvable=0.0)
    state = _sub_problem(rng, numbers, problem.target, solvable=0.5)
    if rng.random() < 0.1:
        return serial(state, problem.target, rng)
    return apr(state, problem.target, rng.choice(markup.BUDGETS), WIDTH, rng)


def drawn_parent(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 4)
    numbers: Sequence[int] = problem.numbers
    if rng.random() < 0.2:  # a child of five numbers: one of its four is an intermediate
        numbers = _sub_problem(rng, draw_problem(rng, 5).numbers, problem.target, solvable=0.0)
        if countdown.Countdown(numbers=tuple(numbers), target=problem.target).held_out:
            numbers = problem.numbers
    # Small budgets are short, so that joins and conclusions are seen often.
    budget = rng.choice(markup.BUDGETS if rng.random() < 0.5 else range(1, WIDTH + 1))
    return apr(numbers, problem.target, budget, WIDTH, rng)


def drawn_parent_five(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 5)
    return apr(problem.numbers, problem.target, rng.choice(markup.BUDGETS), WIDTH, rng)


def drawn_calc(rng: random.Random) -> Demonstration:
    operations = rng.choice(CALC_OPERATIONS)
    return calc(arithmetic.generate(rng, operations=operations, held_out=False).expression, rng)


WIDTH = 8
CALC_OPERATIONS = range(1, arithmetic.OPERATIONS.stop)
