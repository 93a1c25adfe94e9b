"""Demonstrations: what exact solvers would have written, in the shipped model's language.

Each demonstration is a list of `Passage`: text with the loss weight of its tokens.  The weight
is zero for what the model is given, and above one for the rare joins and conclusions that decide a
run.

Both forms of Countdown search contain the same exhaustive sub-search of three numbers.  For each
left-over number ``x`` it lists the results that the other two would need (``x+T |x-T| x*T``, and
the quotient if it is exact), then every result of the two, until a needed one appears::

    23 ? 73 27 ~ ~ : 30 + 21 = 51 , 30 - 21 = 9 , 30 * 21 = 630 ; 21 ? ...
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reasoning.language import markup
from reasoning.problems import arithmetic, countdown, expression
from reasoning.problems.expression import Step

JOIN_WEIGHT = 3.0
HIT_WEIGHT = 4.0
CHOICE_WEIGHT = 0.2
"""Of tokens that a solver chose at random, from which only their spread can be learned."""


class Passage(NamedTuple):
    """Tokens separated by spaces, and the weight of their loss."""

    text: str
    weight: float = 1.0


class Demonstration(NamedTuple):
    """One training sequence: a head that is always kept, and a body in blocks.

    Attributes:
        body: Blocks of (nesting level, text).  A window over a long body keeps the last block of
            each lower level before the window, because later blocks refer back to it.
        path: The path identity of everything after the head's first text; 0 for none.
    """

    head: list[Passage]
    body: list[tuple[int, list[Passage]]]
    path: int = 0


TOKEN_IDS = {token: index for index, token in enumerate(markup.VOCABULARY)}


def tokenize(texts: Iterable[Passage]) -> tuple[list[int], list[float]]:
    """The token ids of texts, and the weight of each."""
    tokens: list[int] = []
    weights: list[float] = []
    for text, weight in texts:
        ids = [TOKEN_IDS[token] for token in text.split()]
        tokens += ids
        weights += [weight] * len(ids)
    return tokens, weights


def step_text(step: Step) -> str:
    """One operation, as ``3 + 4 = 7``."""
    return f"{step.left} {step.operator} {step.right} = {step.result}"


def path_text(steps: Sequence[Step]) -> str:
    """A solution: its operations with commas between."""
    return " , ".join(map(step_text, steps))


def problem_text(numbers: Sequence[int], target: int) -> str:
    """A Countdown problem, as ``3 4 5 => 23``."""
    return f"{' '.join(map(str, numbers))} => {target}"


def small_expand(numbers: Sequence[int]) -> list[tuple[Step, tuple[int, ...]]]:
    """`countdown.expand`, without steps whose result is not in the vocabulary."""
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
    return next((s for s in countdown.operations(result, x) if s.result == target), None)


def leaf_search(
    numbers: Sequence[int], target: int
) -> tuple[list[Passage], tuple[Step, ...] | None]:
    """The exhaustive search of three numbers up to its first solution; None where there is none."""
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
                return [Passage(" ".join(text))], (step, last)
        text.append(";")
    return [Passage(" ".join(text))], None


def _conclusion(
    steps: Sequence[Step] | None, weight: float, *, found: float = 1.0
) -> list[Passage]:
    """An ending; ``found`` weighs the decision that there is an answer.

    A search's weighs no more than its decisions that there is none: false hits cost as much.
    """
    if steps is None:
        return [Passage(f"{markup.NONE} {markup.EOS}", weight)]
    return [Passage(markup.ANSWER, found), Passage(f"{path_text(steps)} {markup.EOS}", weight)]


def _shuffled(numbers: Sequence[int], rng: random.Random) -> tuple[int, ...]:
    order = list(numbers)
    rng.shuffle(order)
    return tuple(order)


def serial(
    numbers: Sequence[int], target: int, rng: random.Random, *, limit: int = 4096
) -> Demonstration:
    """Depth-first search with backtracking in one thread, over the numbers in a random order.

    A search of more than ``limit`` tokens is cut and has no conclusion.
    """
    prompt = f"{markup.BOS} {markup.SERIAL} {problem_text(numbers, target)} :"
    if len(numbers) == 3:
        pieces, found = leaf_search(numbers, target)
        return Demonstration([Passage(prompt, 0.0)], [(1, pieces + _conclusion(found, HIT_WEIGHT))])
    order = _shuffled(numbers, rng)
    head = [Passage(prompt, 0.0), Passage(f"{' '.join(map(str, order))} ;", CHOICE_WEIGHT)]
    body: list[tuple[int, list[Passage]]] = []
    length = 0

    def search(state: Sequence[int], level: int) -> tuple[Step, ...] | None:
        nonlocal length
        mark = ">" * level
        for step, rest in small_expand(state):
            line = [Passage(f"{mark} {step_text(step)} : {problem_text(rest, target)} ;")]
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


def apr(numbers: Sequence[int], target: int, budget: int, width: int) -> Demonstration:
    """One APR thread, which spawns rounds of at most ``width`` children, ``budget`` in all.

    The text of a join is what the children would report.  Three numbers are searched by the
    thread itself.  The numbers are copied in the order in which they are given: the search has all
    pairs anyway, and a copy is hardly ever wrong, where a random order of little weight was.
    """
    prompt = f"{markup.BOS} {markup.APR} {budget} : {problem_text(numbers, target)} :"
    head = [Passage(prompt, 0.0)]
    if len(numbers) == 3:
        pieces, found = leaf_search(numbers, target)
        return Demonstration(head, [(1, pieces + _conclusion(found, HIT_WEIGHT))])
    pieces = [Passage(f"{' '.join(map(str, numbers))} ;")]
    children = small_expand(numbers)[:budget]
    for start in range(0, len(children), width):
        numbered = list(enumerate(children[start : start + width], start + 1))
        texts, solution = _round(numbered, target)
        pieces += texts
        if solution is not None:
            pieces += _conclusion(solution, JOIN_WEIGHT, found=JOIN_WEIGHT)
            break
    else:
        pieces += _conclusion(None, JOIN_WEIGHT)
    return Demonstration(head, [(1, pieces)])


def _round(
    children: Sequence[tuple[int, tuple[Step, tuple[int, ...]]]], target: int
) -> tuple[list[Passage], tuple[Step, ...] | None]:
    """A round of an APR thread, and the first solution that its children report."""
    spawned: list[Passage] = []
    reported: list[Passage] = []
    solution: tuple[Step, ...] | None = None
    for index, (step, state) in children:
        message = f"{step_text(step)} {markup.SPAWN} {problem_text(state, target)}"
        spawned.append(Passage(f"{index} : {message} ;"))
        found = child_report(state, target)
        if found is not None:
            reported.append(Passage(f"{index} : {path_text((step, *found))} ;", 0.0))
            solution = solution or (step, *found)
    end = Passage(markup.JOINED, 0.0)
    return [*spawned, Passage(markup.JOIN), *reported, end], solution


def child_report(state: Sequence[int], target: int) -> tuple[Step, ...] | None:
    """The solution that a child with ``state`` would report; None where it finds none."""
    if len(state) == 3:
        return leaf_search(state, target)[1]
    for step, rest in small_expand(state):
        found = leaf_search(rest, target)[1]
        if found is not None:
            return (step, *found)
    return None


def calc(text: str, rng: random.Random) -> Demonstration:
    """Reduce an expression one operation at a time, each written out before its result is put in.

    The next operation is the leftmost possible one or any other, so that samples differ.  No
    expression on the way is one that is held out.

    Raises:
        ValueError: there is no such way; see `draw_expression`.
    """
    tree = expression.parse(text)
    pieces: list[Passage] = []
    while not isinstance(tree, int):
        index = rng.choice((0, rng.randrange(expression.redexes(tree))))
        if not _workable(expression.reduce_at(tree, index)):
            index = rng.choice(_open(tree))
        step = expression.redex(tree, index)
        tree = expression.reduce_at(tree, index)
        pieces.append(Passage(str(step.left), CHOICE_WEIGHT))
        pieces.append(Passage(f"{step.operator} {step.right} = {step.result}"))
        if not isinstance(tree, int):
            pieces.append(Passage(f"; {expression.render(tree)} :"))
    pieces.append(Passage(f"{markup.ANSWER} {tree} {markup.EOS}"))
    return Demonstration([Passage(f"{markup.BOS} {markup.CALC} {text} :", 0.0)], [(1, pieces)])


def _open(tree: expression.Operation) -> list[int]:
    """The operations that may come next."""
    every = range(expression.redexes(tree))
    found = [index for index in every if _workable(expression.reduce_at(tree, index))]
    if not found:
        raise ValueError(f"{expression.render(tree)} can't be worked out past what is held out")
    return found


def _workable(tree: expression.Operation | int) -> bool:
    """Whether an expression is not held out, and can be worked out past all that are."""
    if isinstance(tree, int) or len([*expression.steps(tree)]) < arithmetic.OPERATIONS.start:
        return True
    if arithmetic.Arithmetic(expression=expression.render(tree)).held_out:
        return False
    every = range(expression.redexes(tree))
    return any(_workable(expression.reduce_at(tree, index)) for index in every)


# ---- the mixture ---------------------------------------------------------------------------


def _sub_problem(
    rng: random.Random, numbers: Sequence[int], target: int, *, solvable: float
) -> tuple[int, ...]:
    """A state after one operation; with probability ``solvable`` one that has a solution."""
    states = [state for _, state in small_expand(_shuffled(numbers, rng))]
    rng.shuffle(states)
    if rng.random() < solvable:
        for state in states:
            if child_report(state, target) is not None:
                return state
    return states[0]


def draw_expression(rng: random.Random, operations: int) -> str:
    """A training expression, which can be worked out past all that are held out."""
    while True:
        text = arithmetic.generate(rng, operations=operations, held_out=False).expression
        if _workable(expression.parse(text)):
            return text


def kept_out(numbers: Sequence[int], target: int) -> bool:
    """Whether a state of a search is itself a problem that is held out; three numbers never are."""
    return len(numbers) > 3 and countdown.Countdown(numbers=tuple(numbers), target=target).held_out


def draw_problem(rng: random.Random, count: int) -> countdown.Countdown:
    """A training problem; with a probability of 0.8 one that has a solution.

    Neither it nor a sub-problem of it is held out.
    """
    insist = rng.random() < 0.8 and count < 5  # nearly all with five numbers have one
    while True:
        problem = countdown.Countdown(
            numbers=tuple(rng.choice(countdown.NUMBER_RANGE) for _ in range(count)),
            target=rng.choice(countdown.TARGET_RANGE),
        )
        states = [state for _, state in small_expand(problem.numbers)]
        parts = itertools.combinations(problem.numbers, count - 1)
        if any(kept_out(state, problem.target) for state in (problem.numbers, *states, *parts)):
            continue
        if not insist or child_report(problem.numbers, problem.target) is not None:
            return problem


def drawn_serial(rng: random.Random, count: int = 4) -> Demonstration:
    problem = draw_problem(rng, count)
    return serial(problem.numbers, problem.target, rng)


def drawn_serial_five(rng: random.Random) -> Demonstration:
    return drawn_serial(rng, 5)


def drawn_leaf(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 4)
    numbers: Sequence[int] = problem.numbers
    if rng.random() < 0.3:  # below five numbers, where intermediates meet
        numbers = _sub_problem(rng, draw_problem(rng, 5).numbers, problem.target, solvable=0.0)
    state = _sub_problem(rng, numbers, problem.target, solvable=0.6)
    if rng.random() < 0.1:
        return serial(state, problem.target, rng)
    return apr(state, problem.target, rng.choice(markup.BUDGETS), WIDTH)


def drawn_parent(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 4)
    numbers: Sequence[int] = problem.numbers
    if rng.random() < 0.3:  # a child of five numbers: one of its four is an intermediate
        numbers = _sub_problem(rng, draw_problem(rng, 5).numbers, problem.target, solvable=0.0)
        if kept_out(numbers, problem.target):
            numbers = problem.numbers
    # Small budgets are short, so that joins and conclusions are seen often.
    budget = rng.choice(markup.BUDGETS if rng.random() < 0.5 else range(1, WIDTH + 1))
    return apr(numbers, problem.target, budget, WIDTH)


def drawn_parent_five(rng: random.Random) -> Demonstration:
    problem = draw_problem(rng, 5)
    return apr(problem.numbers, problem.target, rng.choice(markup.BUDGETS), WIDTH)


def drawn_calc(rng: random.Random) -> Demonstration:
    return calc(draw_expression(rng, rng.choice(CALC_OPERATIONS)), rng)


WIDTH = 8
CALC_OPERATIONS = range(1, arithmetic.OPERATIONS.stop)
