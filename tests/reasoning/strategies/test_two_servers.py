"""ATTS where draft and target are wherever they are: on servers, here, with equal tokens or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.errors import InvalidValue
from pruning import Accept, Escalate
from reasoning import Reasoner, Solution, load_model
from reasoning.cli import main
from reasoning.errors import CapabilityMissing
from reasoning.evaluation.steps import calibrate_steps
from reasoning.language.vocabulary import fingerprint_of, vocabulary_of
from reasoning.models.loaded import LoadedModel
from reasoning.models.server import ServerSource
from reasoning.options import SolveOptions
from reasoning.problems import Arithmetic, FreeForm, Problem
from reasoning.run.solution import ScoredChain, StepChoice, rank_auroc
from reasoning.strategies.atts import Atts
from tests.support.chat_server import chat_server
from tests.support.completions_server import Completions, served

pytestmark = pytest.mark.anyio

SUM = Arithmetic(expression="( 1 + 2 ) * 3")
QUESTION = FreeForm(question="Why?")
TEXT = {"mode": "text"}
QUICK = "atts:n=2,chunk=8,turns=4"


@asynccontextmanager
async def on_server(
    model: LoadedModel, *, scores: bool = True, **settings: Any
) -> AsyncIterator[LoadedModel]:
    """A model behind a completions server of its own; with ``scores`` false it echoes nothing."""
    refuse = ("priority", "structured_outputs", *(() if scores else ("echo",)))
    async with model.backend as engine, served(Completions(engine, model, refuse)) as port:
        source = ServerSource(base_urls=(f"http://127.0.0.1:{port}",), **settings)
        yield await source.connect()


async def solved(
    target: LoadedModel, draft: LoadedModel, problem: Problem, strategy: str = QUICK
) -> Solution:
    async with Reasoner(target, draft=draft) as reasoner:
        return await reasoner.solve(problem, strategy=strategy, max_tokens=256)


async def test_servers_with_equal_tokens_score_and_take_turns_as_models_here_do(
    shipped: LoadedModel,
) -> None:
    small = load_model("reason-1m")
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(on_server(load_model()))
        draft = await stack.enter_async_context(on_server(load_model("reason-1m")))
        assert "scoring" in target.backend.capabilities
        there = await solved(target, draft, SUM, "atts:n=2")
    here = await solved(shipped, small, SUM, "atts:n=2")
    assert [thread.text for thread in there.threads] == [thread.text for thread in here.threads]
    assert there.answer == here.answer
    assert there.emulated == here.emulated == ()


@pytest.mark.parametrize("scores", [True, False])
async def test_two_text_servers_with_different_tokens_take_turns_in_text(
    shipped: LoadedModel, general: LoadedModel, scores: bool
) -> None:
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(on_server(shipped, scores=scores, **TEXT))
        draft = await stack.enter_async_context(on_server(general, **TEXT))
        solution = await solved(target, draft, QUESTION)
    assert set(solution.emulated) == (set() if scores else {"draft-scored"})
    assert solution.errors == ()
    assert solution.steering is not None
    assert solution.steering.choice is not None
    assert solution.steering.choice.steps >= 2


async def test_a_draft_on_a_server_and_a_target_here(
    shipped: LoadedModel, general: LoadedModel
) -> None:
    async with on_server(shipped, **TEXT) as draft:
        solution = await solved(general, draft, QUESTION)
    assert solution.emulated == ()  # the target here scores what it hears
    assert solution.errors == ()


async def test_a_draft_here_and_a_target_on_a_server(
    shipped: LoadedModel, general: LoadedModel
) -> None:
    async with on_server(shipped, scores=False, **TEXT) as target:
        solution = await solved(target, general, QUESTION)
    assert solution.emulated == ("draft-scored",)
    assert solution.errors == ()


async def test_a_chat_server_that_scores_nothing_goes_on_from_what_the_draft_scored() -> None:
    with chat_server(lambda asked: "It is \\boxed{9}.") as url:
        source = ServerSource(base_urls=(url,), model="tiny")
        profile = (await source.examine()).model_copy(update={"chat_continuation": True})
        draft = load_model("reason-1m")
        solution = await solved(source.with_profile(profile), draft, SUM, "atts:n=2,turns=4")
    assert solution.emulated == ("draft-scored",)
    assert solution.errors == ()
    assert solution.steering is not None


async def test_what_cannot_take_turns_or_be_scored_is_refused_before_it_is_asked(
    shipped: LoadedModel,
) -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return "It is \\boxed{9}."

    with chat_server(answer) as url:
        plain = load_model("tiny", base_urls=[url])
        with pytest.raises(CapabilityMissing, match=r"strategy 'atts' needs continuing"):
            await solved(plain, load_model("reason-1m"), SUM)
        with pytest.raises(CapabilityMissing, match="draft tiny: it can't go on with a partial"):
            await solved(shipped, load_model("tiny", base_urls=[url]), SUM)
    with chat_server(answer) as url:  # goes on with answers, tells no log-probabilities
        source = ServerSource(base_urls=(url,), model="tiny")
        profile = (await source.examine()).model_copy(update={"chat_continuation": True})
        target, draft = source.with_profile(profile), source.with_profile(profile)
        with pytest.raises(CapabilityMissing, match="atts needs scores: "):
            await solved(target, draft, SUM)
    assert not any("1 + 2" in question for question in asked)


# ---- calibration -------------------------------------------------------------------------------


@pytest.mark.parametrize("scores", [True, False])
async def test_steps_of_two_servers_are_calibrated_by_whoever_can_score(
    shipped: LoadedModel, general: LoadedModel, scores: bool
) -> None:
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(on_server(shipped, scores=scores, **TEXT))
        draft = await stack.enter_async_context(on_server(general, **TEXT))
        atts, options = Atts(n=2, chunk=8, turns=2), SolveOptions(max_tokens=256)
        found = await calibrate_steps((target, draft), atts, ["Why?", "Where?"], options)
    assert (found.model, found.draft, found.chunk) == (target.name, draft.name, 8)
    assert (found.questions, found.scored_by) == (2, "model" if scores else "draft")
    assert [turn for turn, _ in found.scores] == [0, 1]
    assert len(found.scores[0][1]) == 4  # two chains of two questions


def first_decisions(solution: Solution) -> set[type]:
    """What was decided of the first steps of all chains."""
    assert solution.steering is not None
    decided = [one.decision for one in solution.steering.log]
    return {type(one) for one in decided if isinstance(one, Accept | Escalate) and one.turn == 0}


async def test_a_calibrated_run_knows_at_its_first_step_what_is_strange(
    shipped: LoadedModel, tmp_path: Path
) -> None:
    small, file = load_model("reason-1m"), tmp_path / "steps.json"
    atts, options = Atts(n=1, turns=2), SolveOptions(max_tokens=256)
    known = await calibrate_steps((shipped, small), atts, ["Compute 1+2"], options)
    usual = known.model_copy(update={"scores": ((0, (1.0,) * 40),)})
    file.write_text(usual.model_dump_json(by_alias=True))
    without = await solved(shipped, small, SUM, "atts:n=1")
    assert first_decisions(without) == {Accept}  # nothing is known yet
    calibrated = await solved(shipped, small, SUM, f"atts:n=1,calibration={file}")
    assert first_decisions(calibrated) == {Escalate}
    for strategy, message in (
        ("atts:chunk=4", "calibration: it was made with chunk 16, not 4"),
        ("atts:method=quantile", "quantile keeps no scores"),
    ):
        with pytest.raises(InvalidValue, match=message):
            await solved(shipped, small, SUM, f"{strategy},calibration={file}")
    with pytest.raises(InvalidValue, match="made with draft reason-1m, not reason-5m"):
        await solved(shipped, load_model(), SUM, f"atts:calibration={file}")
    with pytest.raises(InvalidValue, match=r"No such file.*; run reason calibrate --draft again"):
        await solved(shipped, small, SUM, f"atts:calibration={tmp_path / 'none'}")


def test_atts_is_calibrated_at_a_terminal(tmp_path: Path) -> None:
    traces, steps = tmp_path / "traces.jsonl", tmp_path / "steps.json"
    rows = [
        {
            "question_id": "1",
            "question": "Compute 1+2",
            "gold": "3",
            "traces": [{"tokens": 4, "answer": "3"}],
        }
    ]
    traces.write_text("\n".join(map(json.dumps, rows)))

    def reason(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))

    calibrate = ("calibrate", str(traces), "--output", str(steps))
    done = reason(*calibrate, "--draft", "reason-1m")
    assert done.exit_code == 0, done.output
    assert "reason-1m for reason-5m: " in done.stdout
    assert "steps of 1 questions, scored by the model" in done.stdout
    strategy = f"atts:n=1,calibration={steps}"
    asked = ("solve", "Compute 1+2", "--strategy", strategy, "--draft", "reason-1m", "--quiet")
    assert reason(*asked).exit_code in (0, 1)  # whatever it answers
    for wrong, message in (
        ((), "judge, draft: give one of the two"),
        (("--judge", "J", "--draft", "reason-1m"), "judge, draft: give one of the two"),
        (("--draft", "reason-1m", "--strategy", "single"), "'single' has no steps to score"),
    ):
        refused = reason(*calibrate, *wrong)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
        assert message in refused.stderr


# ---- which tokens are the same -----------------------------------------------------------------


def test_a_vocabulary_has_a_fingerprint_and_other_numbers_have_another(
    shipped: LoadedModel, general: LoadedModel, tmp_path: Path
) -> None:
    assert shipped.dialect.vocabulary == load_model().dialect.vocabulary
    others = {load_model("reason-1m").dialect.vocabulary, general.dialect.vocabulary}
    assert len(others - {"", shipped.dialect.vocabulary}) == 2  # of other versions, and kinds
    written = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [], "version": "1"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(written))
    same = json.dumps(written | {"post_processor": None}, indent=2)
    assert vocabulary_of(tmp_path) == fingerprint_of(same) != ""
    other = written | {"model": {"vocab": {"a": 1, "b": 0}}}
    assert fingerprint_of(json.dumps(other)) != vocabulary_of(tmp_path)
    assert vocabulary_of(tmp_path / "nothing") == fingerprint_of("no JSON") == ""


# ---- how well steps are chosen -----------------------------------------------------------------


def test_a_choice_tells_how_many_of_its_steps_were_the_strangest() -> None:
    best = StepChoice.of([(5.0, True), (1.0, False), (4.0, True), (2.0, False)], [])
    assert (best.steps, best.escalated, best.strangest) == (4, 2, 1.0)
    worst = StepChoice.of([(5.0, False), (1.0, True)], [])
    assert worst.strangest == 0.0
    level = StepChoice.of([(1.0, True), (1.0, False), (1.0, False), (1.0, False)], [])
    assert level.strangest == 0.25  # as by chance
    for escalated in (True, False):
        assert StepChoice.of([(1.0, escalated)], []).strangest is None
    assert StepChoice.of([], []).strangest is None


def test_wrong_chains_are_told_from_right_ones_by_their_scores() -> None:
    right, wrong, unknown = ScoredChain(1.0, True), ScoredChain(2.0, False), ScoredChain(9.0, None)
    assert rank_auroc([right, wrong, unknown]) == 1.0
    assert rank_auroc([right, ScoredChain(1.0, False)]) == 0.5
    assert rank_auroc([right, unknown]) is None
