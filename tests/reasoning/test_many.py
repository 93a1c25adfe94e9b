"""Many questions under one budget, live: answers in order, rounds, budgets and ends."""

from __future__ import annotations

import anyio
import pytest

from orchestrator.errors import InvalidValue, ReasonError
from pruning import Allocation
from reasoning import Reasoner
from reasoning.evaluation import draw_problems
from reasoning.models.loaded import LoadedModel

pytestmark = pytest.mark.anyio
PLAN = Allocation(mean=4, first=2, rounds=3)


async def test_open_votes_get_more_samples_and_the_budget_holds(shipped: LoadedModel) -> None:
    problems = draw_problems("arithmetic", 6, numbers=4, seed=3)
    async with Reasoner(shipped) as reasoner:
        solutions = await reasoner.solve_many(problems, allocation=PLAN, max_tokens=256)
        again = await reasoner.solve_many(problems, allocation=PLAN, max_tokens=256)
    assert [solution.problem for solution in solutions] == problems
    assert [solution.votes for solution in solutions] == [one.votes for one in again]
    lengths = [[thread.tokens for thread in solution.threads] for solution in solutions]
    first = [tokens for own in lengths for tokens in own[:2]]
    assert min(map(len, lengths)) >= 2
    assert len(set(map(len, lengths))) > 1
    budget = 4 * 6 * sum(first) / len(first)
    assert sum(map(sum, lengths)) <= budget + max(map(max, lengths))
    assert all(solution.status == "finished" for solution in solutions)


async def test_a_batch_can_begin_with_what_the_default_policy_leaves(shipped: LoadedModel) -> None:
    problems = draw_problems("arithmetic", 4, numbers=4, seed=3)
    async with Reasoner(shipped) as reasoner:
        plan = Allocation(mean=12, first=0, rounds=2)
        solutions = await reasoner.solve_many(problems, allocation=plan, max_tokens=256)
        alone = [
            await reasoner.solve(problem, policy="default", max_tokens=256, seed=place)
            for place, problem in enumerate(problems)
        ]
    for solution, first in zip(solutions, alone, strict=True):
        assert solution.steering is not None
        assert first.steering is not None
        assert solution.steering.log == first.steering.log, "the same policy, the same samples"
        finished = [one for one in first.threads if one.trace and one.trace.how == "finished"]
        assert sum(solution.votes.values()) >= sum(one.answer is not None for one in finished)
    drawn, before = (sum(len(one.threads) for one in some) for some in (solutions, alone))
    assert drawn > before, "the rounds behind it drew some"
    ended = [t.tokens for s in alone for t in s.threads if t.trace and t.trace.how == "finished"]
    budget = 12 * 4 * sum(ended) / len(ended)
    lengths = [thread.tokens for solution in solutions for thread in solution.threads]
    assert sum(lengths) <= budget + max(lengths)


async def test_a_cancelled_batch_has_what_there_is(shipped: LoadedModel) -> None:
    scope = anyio.CancelScope()
    seen = 0

    def listener(event: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 40:
            scope.cancel()

    problems = draw_problems("arithmetic", 4, numbers=4, seed=3)
    async with Reasoner(shipped) as reasoner:
        solutions = await reasoner.solve_many(
            problems,
            allocation="allocation:mean=64,first=32",
            parallel=2,
            max_tokens=256,
            cancel_scope=scope,
            listener=listener,
        )
    assert [solution.problem for solution in solutions] == problems
    assert {solution.status for solution in solutions} == {"interrupted"}


async def test_a_problem_that_is_refused_ends_the_batch_by_its_error(shipped: LoadedModel) -> None:
    async with Reasoner(shipped) as reasoner:
        with pytest.raises(ReasonError):
            await reasoner.solve_many(
                ["12 + 5", "what is love?"], allocation=PLAN, domain="arithmetic"
            )
        assert await reasoner.solve_many([]) == []


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"n": 4}, "n"),
        ({"policy": "sc:n=4"}, "policy"),
        ({"parallel": 0}, "parallel"),
        ({"allocation": "allocation:mean=0"}, "mean"),
    ],
)
async def test_an_option_that_does_not_fit_is_named(
    shipped: LoadedModel, given: dict[str, object], named: str
) -> None:
    reasoner = Reasoner(shipped)
    with pytest.raises(InvalidValue, match=named):
        await reasoner.solve_many(["1 + 1"], **given)  # type: ignore[arg-type]
