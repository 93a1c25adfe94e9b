"""What the vLLM backend promises, on a real vLLM that serves the shipped model."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import warnings
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from orchestrator.errors import InvalidValue
from reasoning import Context, Reasoner, Segment, Solution
from reasoning.backends.base import Token
from reasoning.backends.vllm.backend import delivered
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.evaluation import draw_problems
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import load_model
from reasoning.models.vllm import VllmSource
from reasoning.run.thread import TextGenerated
from reasoning.values.sampling import Constraint, Sampling
from tests.support.reading import reading

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]

CONTEXT = 512


@pytest.fixture(scope="module")
def here() -> LoadedModel:
    return load_model()


@pytest.fixture(scope="module")
async def there() -> AsyncIterator[Reasoner]:
    """One engine for all tests here; the last two kill it."""
    model = VllmSource(kv_cache_gib=1, context=CONTEXT, restarts=1).load(None)
    async with Reasoner(model) as reasoner:
        yield reasoner
    with warnings.catch_warnings():  # vLLM leaves it to the garbage collector to close its sockets
        warnings.simplefilter("ignore")
        del reasoner, model
        gc.collect()


async def written(backend: Any, context: Context, sampling: Sampling, **more: Any) -> list[Token]:
    segment = Segment(context)
    generation = backend.open(segment, sampling, **more)
    try:
        return [token async for token in reading(generation, segment)]
    finally:
        generation.close()


@pytest.mark.parametrize(("strategy", "n"), [("single", None), ("apr", 8)])
async def test_a_strategy_writes_the_same_as_on_the_embedded_engine(
    here: LoadedModel, there: Reasoner, strategy: str, n: int | None
) -> None:
    for problem in draw_problems("countdown", 3, numbers=4, seed=11):
        options: dict[str, Any] = {"strategy": strategy, "n": n, "max_tokens": CONTEXT}
        async with Reasoner(here) as reasoner:
            mine = await reasoner.solve(problem, **options)
        theirs = await there.solve(problem, **options)
        assert [t.text for t in theirs.threads] == [t.text for t in mine.threads]
        assert work(theirs) == work(mine)
        assert theirs.errors == ()


def work(solution: Solution) -> tuple[Any, ...]:
    return solution.answer, solution.usage.work_tokens, solution.usage.span_tokens


async def test_logprobs_and_confidence_are_those_of_the_embedded_engine(
    here: LoadedModel, there: Reasoner
) -> None:
    prompt = here.dialect.prompt(draw_problems("countdown", 1, numbers=4, seed=3)[0])
    async with here.backend as backend:
        mine = await written(backend, prompt, Sampling(confidence=5), limit=200)
    theirs = await written(there.model.backend, prompt, Sampling(confidence=5), limit=200)
    assert [t.token for t in theirs] == [t.token for t in mine]
    assert theirs[-1].reason == mine[-1].reason
    for one, other in zip(mine, theirs, strict=True):
        assert other.logprob == pytest.approx(one.logprob, abs=1e-4)
        assert other.confidence == pytest.approx(one.confidence, abs=1e-3)


@pytest.mark.parametrize(("drawn", "rank"), [(7, 1), (3, 2), (9, 5)])
def test_confidence_is_the_same_where_deltas_are_merged_for_a_late_reader(
    drawn: int, rank: int
) -> None:
    from vllm.logprobs import FlatLogprobs

    likely = {7: -0.5, 3: -1.5, 4: -2.5}
    logprobs = [likely.get(drawn, -6.0), *likely.values()]
    alone, merged = FlatLogprobs(), FlatLogprobs()
    alone.append_fast([drawn, *likely], logprobs, itertools.chain((rank,), range(1, 4)), [None] * 4)
    merged.extend(alone)  # what vLLM's `RequestOutput.add` does
    for flat in (alone, merged):
        output = SimpleNamespace(token_ids=[drawn], logprobs=flat, finish_reason=None)
        assert delivered(output, 3) == [Token(drawn, logprobs[0], None, 1.5)]
    only = FlatLogprobs()
    only.append_fast([drawn], logprobs[:1], itertools.chain((rank,)), [None])
    output = SimpleNamespace(token_ids=[drawn], logprobs=only, finish_reason=None)
    assert delivered(output, 0) == [Token(drawn, logprobs[0], None, None)]


async def test_the_same_seed_gives_the_same_tokens_alone_or_in_a_batch(there: Reasoner) -> None:
    backend, prompt = there.model.backend, Context.given(range(10, 40))
    alone = await written(backend, prompt, Sampling(temperature=1.0, seed=4), limit=60)
    batch: dict[int, list[Token]] = {}

    async def one(seed: int) -> None:
        sampling = Sampling(temperature=1.0, seed=seed)
        batch[seed] = await written(backend, prompt, sampling, limit=60)

    async with anyio.create_task_group() as group:
        for seed in range(8):
            group.start_soon(one, seed)
    assert [t.token for t in batch[4]] == [t.token for t in alone]
    assert len({tuple(t.token for t in tokens) for tokens in batch.values()}) > 4


async def test_forks_find_their_prefix_in_the_cache(there: Reasoner) -> None:
    backend = there.model.backend
    prompt = Context.given([(7 * i) % 1000 for i in range(200)])
    trunk = backend.open(Segment(prompt), Sampling(), limit=201)
    _ = [token async for token in reading(trunk, trunk.segment)]
    refilled = backend.refilled
    forks = [backend.open(Segment(prompt.then([i])), Sampling(), limit=210) for i in range(3)]
    for fork in forks:
        _ = [token async for token in reading(fork, fork.segment)]
        assert fork.prompted == 201
        assert fork.cached == 192
        fork.close()
    trunk.close()
    assert backend.refilled == refilled


async def test_a_form_is_kept_to(there: Reasoner) -> None:
    backend, prompt = there.model.backend, Context.given(range(10, 30))
    free = await written(backend, prompt, Sampling(), limit=33)
    bound = Sampling(constraint=Constraint(kind="choice", value="17\n23"))
    tokens = await written(backend, prompt, bound, limit=60)
    texts = []
    for found in (free, tokens):
        decoder = there.model.dialect.decoder()
        text = "".join(decoder.feed(t.token) for t in found)
        # The grammar spells: 1 and 7 are two of the model's words, with a space, or 17 is one.
        texts.append(text.replace("<eos>", "").replace(" ", ""))
    assert texts[1] in ("17", "23")
    assert texts[0] not in ("17", "23")


async def test_a_prompt_that_does_not_fit_and_what_is_lacking_are_refused(
    there: Reasoner,
) -> None:
    backend = there.model.backend
    with pytest.raises(InvalidValue, match="512"):
        await written(backend, Context.given([5] * 600), Sampling())
    with pytest.raises(InvalidValue, match="empty"):
        await written(backend, Context.given([]), Sampling())
    with pytest.raises(CapabilityMissing, match="adapters"):
        await written(backend, Context.given([5]), Sampling(adapter="x"))


async def test_stopping_threads_leaks_at_most_a_step_of_each(there: Reasoner) -> None:
    backend, prompt = there.model.backend, Context.given(range(10, 40))
    leaked, read = backend.leaked, [0] * 8
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def one(index: int) -> None:
                generation = backend.open(
                    Segment(prompt), Sampling(temperature=2.0, seed=index), limit=CONTEXT
                )
                try:
                    async for _ in generation.tokens():
                        read[index] += 1
                        if sum(read) > 160:
                            scope.cancel()
                finally:
                    generation.close()

            for index in range(8):
                group.start_soon(one, index)
    await anyio.sleep(0.5)
    assert backend.leaked - leaked <= 8
    assert backend.open_threads == 0


async def test_an_engine_that_dies_is_started_again_and_its_threads_go_on(
    here: LoadedModel, there: Reasoner
) -> None:
    backend = there.model.backend
    problem = draw_problems("countdown", 1, numbers=4, seed=3)[0]
    prompt = here.dialect.prompt(problem)
    whole = await written(backend, prompt, Sampling(), limit=200)
    generation = backend.open(Segment(prompt), Sampling(), limit=200)
    tokens, recovered = [], backend.recovered
    async for token in reading(generation, generation.segment):
        tokens.append(token)
        if len(tokens) == 20:
            kill(backend)
    generation.close()
    assert [t.token for t in tokens] == [t.token for t in whole]
    assert backend.recovered == recovered + 1


async def test_an_engine_that_dies_too_often_ends_the_run_with_what_is_there(
    there: Reasoner,
) -> None:
    backend = there.model.backend

    def listen(event: Any) -> None:
        nonlocal seen
        if isinstance(event, TextGenerated):
            seen += 1
            if seen == 30:
                kill(backend)

    seen = 0
    problem = draw_problems("countdown", 1, numbers=4, seed=3)[0]
    solution = await there.solve(problem, strategy="single", max_tokens=200, listener=listen)
    (thread,) = solution.threads
    assert 30 <= thread.tokens == solution.usage.completion_tokens
    assert thread.lost is not None
    assert "died" in thread.lost
    with pytest.raises(BackendLost, match="died"):
        await written(backend, Context.given([5]), Sampling())


def kill(backend: Any) -> None:
    """The engine's process dies, as for want of memory."""
    for process in backend._llm.engine_core.resources.engine_manager.processes:
        os.kill(process.pid, signal.SIGKILL)
