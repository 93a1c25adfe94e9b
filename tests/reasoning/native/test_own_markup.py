"""The shipped models' forks and paths are descriptions, too, and run as such write the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from reasoning import Reasoner, Solution
from reasoning.evaluation import draw_problems
from reasoning.language import markup
from reasoning.language.markup_dialect import MarkupDialect
from reasoning.language.native.tongue import Tongue
from reasoning.language.trained import DescribedForm
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Problem
from reasoning.values.context import Context

pytestmark = pytest.mark.anyio


class Described(MarkupDialect):
    """The shipped model's language as the strategy ``native`` wants one: by a description."""

    def __init__(self, spoken: MarkupDialect, form: DescribedForm) -> None:
        super().__init__(spoken._tokenizer, spoken.version)
        self.format, self.form = form.format, form
        self.tongue = Tongue(form.format, cast("Any", self), "the shipped model")
        self.capabilities |= {"native-format"}

    def prompt(self, problem: Problem) -> Context:
        return self.form.prompt


async def solved(model: LoadedModel, problem: Problem, strategy: str, seed: int) -> Solution:
    async with Reasoner(model) as reasoner:
        return await reasoner.solve(problem, strategy=strategy, seed=seed, n=4, temperature=0.7)


async def both(
    model: LoadedModel, problem: Problem, strategy: str, seed: int, **branch: object
) -> tuple[Solution, Solution]:
    """What the strategy writes, and the description by itself, with another rule of branches."""
    spoken = cast("MarkupDialect", model.dialect)
    forms = spoken.forms(problem)
    form = forms.fork() if strategy == "multiverse" else forms.paths()
    assert isinstance(form, DescribedForm)
    rule = form.format.branch.model_copy(update=branch)
    form = replace(form, format=form.format.model_copy(update={"branch": rule}))
    native = replace(model, dialect=Described(spoken, form))
    return (
        await solved(model, problem, strategy, seed),
        await solved(native, problem, "native", seed),
    )


def told(solution: Solution) -> tuple[object, ...]:
    texts = [(thread.id, thread.text, thread.logprob) for thread in solution.threads]
    return texts, solution.answer, solution.votes, solution.usage, solution.emulated


@pytest.mark.parametrize(
    ("strategy", "domain", "numbers"),
    [("multiverse", "several", 5), ("parathinker", "countdown", 4)],
)
async def test_a_description_alone_writes_what_the_strategy_does(
    shipped: LoadedModel, strategy: str, domain: str, numbers: int
) -> None:
    closed = 0
    for seed, problem in enumerate(draw_problems(domain, 4, numbers=numbers, seed=3)):
        wanted, found = await both(shipped, problem, strategy, seed)
        assert found.forked
        branches = [thread.text for thread in wanted.threads if "." in thread.id]
        if not any(text.endswith(markup.EOS) for text in branches):  # `native` joins no end token
            closed += 1
            assert told(found) == told(wanted)
    assert closed >= 3


async def test_paths_that_are_not_marked_are_others(shipped: LoadedModel) -> None:
    (problem,) = draw_problems("countdown", 1, numbers=4, seed=3)
    wanted, found = await both(shipped, problem, "parathinker", 0, marked=False)
    assert told(found) != told(wanted)
