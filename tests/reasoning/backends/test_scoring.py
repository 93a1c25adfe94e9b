"""Scoring given tokens: as likely as when they were written, whoever reads beside."""

from __future__ import annotations

import anyio
import pytest

from orchestrator.errors import InvalidValue
from reasoning.engine.engine import FILLED_A_STEP
from reasoning.models.loaded import LoadedModel
from reasoning.problems import Countdown
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling
from tests.support.reading import reading

pytestmark = pytest.mark.anyio

PROBLEM = Countdown(numbers=(3, 10, 21, 23), target=50)


async def test_tokens_are_as_likely_as_when_they_were_written(shipped: LoadedModel) -> None:
    prompt = shipped.dialect.prompt(PROBLEM)
    async with shipped.backend as backend:
        written = Segment(prompt)
        generation = backend.open(written, Sampling(temperature=1.0), limit=80)
        logprobs = [token.logprob async for token in reading(generation, written)]
        generation.close()
        again = [Segment(prompt, written.tokens) for _ in range(3)]
        scores: dict[int, list[float]] = {}

        async def read(index: int) -> None:
            scores[index] = await backend.score(again[index])

        async with anyio.create_task_group() as group:
            for index in range(3):
                group.start_soon(read, index)
        for found in scores.values():
            assert found == pytest.approx(logprobs, abs=2e-3)
    assert shipped.backend.engine.open_threads == 0


async def test_a_chain_is_scored_piece_by_piece_without_reading_it_again(
    shipped: LoadedModel,
) -> None:
    prompt = shipped.dialect.prompt(PROBLEM)
    async with shipped.backend as backend:
        written = Segment(prompt)
        generation = backend.open(written, Sampling(temperature=1.0), limit=60)
        logprobs = [token.logprob async for token in reading(generation, written)]
        generation.close()
        first = Segment(prompt, written.tokens[:20])
        scores = await backend.score(first)
        before = len(first.steps)
        second = Segment(prompt.after(first), written.tokens[20:])
        scores += await backend.score(second)
        assert len(first.steps) == before
        assert scores == pytest.approx(logprobs, abs=2e-3)
        on = backend.open(Segment(prompt.after(first).after(second)), Sampling(), limit=70)
        assert [token async for token in on.tokens()]  # a thread goes on from what was read
        on.close()


async def test_more_tokens_than_a_step_takes_are_scored_in_parts(shipped: LoadedModel) -> None:
    prompt = shipped.dialect.prompt(PROBLEM)
    tokens = (shipped.dialect.encode("21 - 3 = 18 , 23 - 18 = 5 ;") * 100)[: FILLED_A_STEP + 90]
    async with shipped.backend as backend:
        whole = await backend.score(Segment(prompt, tokens))
        halves = Segment(prompt, tokens[:300])
        parts = await backend.score(halves)
        parts += await backend.score(Segment(prompt.after(halves), tokens[300:]))
    assert len(whole) == len(tokens)
    assert whole == pytest.approx(parts, abs=2e-3)


async def test_models_of_any_kind_score(general: LoadedModel) -> None:
    context = Context.given(general.dialect.encode("Why is"))
    async with general.backend as backend:
        written = Segment(context)
        generation = backend.open(written, Sampling(temperature=1.0), limit=len(context) + 12)
        logprobs = [token.logprob async for token in reading(generation, written)]
        generation.close()
        assert await backend.score(Segment(context, written.tokens)) == pytest.approx(
            logprobs, abs=2e-3
        )


async def test_what_can_not_be_scored_is_refused(shipped: LoadedModel) -> None:
    prompt = shipped.dialect.prompt(PROBLEM)
    async with shipped.backend as backend:
        for segment in (Segment(prompt), Segment(Context(), [1, 2])):
            with pytest.raises(InvalidValue, match="nothing to score"):
                await backend.score(segment)
        segment = Segment(prompt, shipped.dialect.encode("3 + 10"))
        await backend.score(segment)
        with pytest.raises(InvalidValue, match="computed already"):
            await backend.score(segment)
