"""The problems of a round: none is held out, none spawns one that is, each can be solved."""

from __future__ import annotations

import random

from reasoning.problems import Countdown, countdown
from reasoning.training.demonstrations import (
    child_report,
    draw_problem,
    kept_out,
    small_expand,
)
from reasoning.training.reinforce.recipe import ReinforceRecipe


def drawn(recipe: ReinforceRecipe, number: int) -> list[Countdown]:
    """The problems of round ``number``, which follow from the recipe alone."""
    rng = random.Random(f"{recipe.seed}/problems/{number}")
    return [_drawn(rng, recipe) for _ in range(recipe.problems)]


def _drawn(rng: random.Random, recipe: ReinforceRecipe) -> Countdown:
    kind = rng.random()
    while True:
        size = 5 if kind < recipe.fives else 4
        problem = draw_problem(rng, size)
        if recipe.fives <= kind < recipe.fives + recipe.intermediate:
            problem = _inside(rng, draw_problem(rng, 5))
        if _allowed(problem) and _solvable(problem):
            return problem


def _inside(rng: random.Random, five: Countdown) -> Countdown:
    """What a child of five numbers is asked: four of them, the last an intermediate result."""
    _, state = rng.choice(small_expand(five.numbers))
    order = list(state)
    rng.shuffle(order)
    return Countdown(numbers=tuple(order), target=five.target)


def _allowed(problem: Countdown) -> bool:
    states = [state for _, state in small_expand(problem.numbers)]
    return not any(kept_out(state, problem.target) for state in [problem.numbers, *states])


def _solvable(problem: Countdown) -> bool:
    """Whether the form of search that the model knows can solve it; five numbers, whether any."""
    if len(problem.numbers) > 4:
        return countdown.solve(problem.numbers, problem.target) is not None
    return child_report(problem.numbers, problem.target) is not None
