"""ATTS where draft and target are wherever they are: on servers, here, with equal tokens or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reasoning import Reasoner, Solution, load_model
from reasoning.errors import CapabilityMissing
from reasoning.language.vocabulary import fingerprint_of, vocabulary_of
from reasoning.models.loaded import LoadedModel
from reasoning.models.server import ServerSource
from reasoning.problems import Arithmetic, FreeForm, Problem
from reasoning.run.solution import ScoredChain, StepChoice, rank_auroc
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


async def test_what_cannot_take_turns_or_be_scored_is_refused_in_one_line(
    shipped: LoadedModel,
) -> None:
    with chat_server(lambda asked: "It is \\boxed{9}.") as url:
        plain = load_model("tiny", base_urls=[url])
        with pytest.raises(CapabilityMissing, match=r"strategy 'atts' needs continuing"):
            await solved(plain, load_model("reason-1m"), SUM)
        with pytest.raises(CapabilityMissing, match="draft tiny: it can't go on with a partial"):
            await solved(shipped, load_model("tiny", base_urls=[url]), SUM)

    def respond(body: dict[str, Any]) -> str:  # goes on with answers, tells no log-probabilities
        return "It is \\boxed{9}."

    with chat_server(respond=respond) as url:
        source = ServerSource(base_urls=(url,), model="tiny")
        profile = (await source.examine()).model_copy(update={"chat_continuation": True})
        target, draft = source.with_profile(profile), source.with_profile(profile)
        with pytest.raises(CapabilityMissing, match="atts needs scores: "):
            await solved(target, draft, SUM)


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
