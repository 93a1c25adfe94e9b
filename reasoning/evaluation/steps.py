"""Calibrating ATTS: what a draft's steps usually score with a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.errors import InvalidValue
from reasoning.evaluation.measure import chosen
from reasoning.models.loaded import LoadedModel
from reasoning.options import SolveOptions
from reasoning.run.solution import Solution
from reasoning.solver import Reasoner
from reasoning.strategies.atts import Atts
from reasoning.strategies.step_calibration import ScoredBy, StepCalibration


async def calibrate_steps(
    models: tuple[LoadedModel, LoadedModel],
    atts: Atts,
    questions: Sequence[str],
    options: SolveOptions,
    on_question: Callable[[], None] = lambda: None,
) -> StepCalibration:
    """The scores of all steps that a model (the first) and its draft take at some questions.

    Raises:
        InvalidValue: no step had a score, or some were scored by the model and some were not.
        CapabilityMissing: the two can't take turns, or nobody can score.
    """
    model, draft = models
    solutions: list[Solution] = []
    async with Reasoner(model, draft=draft) as reasoner:
        for words in questions:
            solutions.append(await reasoner.solve_with(words, replace(options, strategy=atts)))
            on_question()
        bins = [state.bank.bins for state in reasoner.learnt.values()]
    scores = tuple((turn, tuple(one.ages)) for turn, one in sorted(bins[0].items()) if one.ages)
    if not scores:
        raise InvalidValue("questions: no step of them was scored; give longer ones, or others")
    found = StepCalibration(
        model=model.name,
        draft=draft.name,
        scored_by=_scored_by(solutions),
        chunk=atts.chunk,
        questions=len(questions),
        scores=scores,
    )
    return found.model_copy(
        update=chosen(one.steering.choice for one in solutions if one.steering is not None)
    )


def _scored_by(solutions: Sequence[Solution]) -> ScoredBy:
    own = {"draft-scored" in solution.emulated for solution in solutions}
    if len(own) > 1:
        raise InvalidValue("model: it scored the draft's steps at some questions only; try again")
    return "draft" if own.pop() else "model"
