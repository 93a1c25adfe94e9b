"""What the HTTP backend promises, on real sockets: a small server, and a proxy that harms it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from orchestrator.errors import InvalidValue, ReasonError, UnknownName
from reasoning import Context, Reasoner, Segment, Solution
from reasoning.backends.openai.profile import ServerProfile
from reasoning.cli.diagnosis import diagnose
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.models.loading import model_source
from reasoning.models.server import ServerSource
from reasoning.problems import Countdown
from reasoning.values.sampling import Constraint, Sampling
from tests.support.completions_server import Completions, Proxy, served

pytestmark = pytest.mark.anyio

PROBLEM = Countdown(numbers=(3, 10, 21, 23), target=50)
FAST: dict[str, Any] = {
    "backoff": 0.01,
    "token_timeout": 1.0,
    "first_token_timeout": 5.0,
    "connect_timeout": 2.0,
}


@asynccontextmanager
async def service(model: LoadedModel, **more: Any) -> AsyncIterator[tuple[Completions, int]]:
    async with model.backend as engine:
        app = Completions(engine, model, **more)
        async with served(app) as port:
            yield app, port


KNOWN: dict[bool, ServerProfile] = {}
"""What the server can do, bare or not; asked once."""


async def connected(*ports: int | str, bare: bool = False, **more: Any) -> LoadedModel:
    urls = tuple(p if isinstance(p, str) else f"http://127.0.0.1:{p}" for p in ports)
    settings = ServerSource(base_urls=urls, **{**FAST, **more})
    if bare not in KNOWN:
        KNOWN[bare] = (await settings.connect()).backend.profile
    return settings.with_profile(KNOWN[bare])


async def solved(model: Any, **options: Any) -> Solution:
    async with Reasoner(model) as reasoner:
        return await reasoner.solve(PROBLEM, **{"max_tokens": 400, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "single"},
        {"strategy": "apr", "n": 8},
        {"strategy": "self-consistency", "n": 6, "temperature": 0.8, "seed": 5},
    ],
    ids=lambda options: options["strategy"],
)
async def test_a_strategy_writes_the_same_over_http(shipped: LoadedModel, options: Any) -> None:
    here = await solved(shipped, **options)
    async with service(shipped) as (_, port):
        there = await solved(await connected(port), **options)
    assert [t.text for t in there.threads] == [t.text for t in here.threads]
    assert (there.answer, there.votes) == (here.answer, here.votes)
    assert (there.usage.work_tokens, there.usage.span_tokens) == (
        here.usage.work_tokens,
        here.usage.span_tokens,
    )
    for mine, theirs in zip(here.threads, there.threads, strict=True):
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-6)
    assert there.errors == ()


async def test_each_thread_is_a_request_and_goes_on_with_all_that_it_has_seen(
    shipped: LoadedModel,
) -> None:
    async with service(shipped) as (app, port):
        model = await connected(port)
        app.prompts.clear()
        solution = await solved(model, strategy="apr", n=8)
    assert len(app.prompts) == len(solution.threads) + 1  # the parent was asked twice
    first, *_, last = app.prompts
    assert last[: len(first)] == first
    assert len(last) > len(first) + solution.threads[0].tokens / 2


async def test_a_closed_thread_ends_on_the_server_at_once(shipped: LoadedModel) -> None:
    async with service(shipped, pace_s=0.005) as (app, port):
        model = await connected(port)
        async with model.backend as backend:
            generated, read = app.generated, 0
            prompt = shipped.dialect.prompt(PROBLEM)
            generation = backend.open(Segment(prompt), Sampling(temperature=1.0), limit=900)
            with anyio.CancelScope() as scope:
                async for _ in generation.tokens():
                    read += 1
                    if read == 10:
                        scope.cancel()
            generation.close()
            with anyio.fail_after(5):
                await app.gone.wait()
            assert app.generated - generated - read <= 3
            assert backend.open_threads == 0


async def test_a_thread_that_is_closed_between_two_tokens_ends_too(shipped: LoadedModel) -> None:
    async with service(shipped, pace_s=0.005) as (app, port):
        model = await connected(port)
        async with model.backend as backend:
            prompt = shipped.dialect.prompt(PROBLEM)
            generation = backend.open(Segment(prompt), Sampling(temperature=1.0), limit=900)
            stream = generation.tokens()
            await anext(stream)
            generation.close()  # and nobody asks for another token
            with anyio.fail_after(5):
                await app.gone.wait()
            await stream.aclose()


async def test_no_more_requests_are_open_than_allowed(shipped: LoadedModel) -> None:
    async with service(shipped) as (app, port):
        proxy = Proxy(port)
        async with proxy.running() as url:
            model = await connected(url, max_connections=2)
            solution = await solved(model, strategy="self-consistency", n=8, temperature=0.8)
    assert len(solution.threads) == 8
    assert proxy.most_open <= 2
    assert app.aborted == 0


FAULTS = ["die", "truncate", "stall", "garbage", "500", "429"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_with_another_replica_a_run_goes_on_as_if_nothing_had_happened(
    shipped: LoadedModel, fault: str
) -> None:
    here = await solved(shipped, strategy="apr", n=8)
    async with service(shipped) as (_, port):
        proxy = Proxy(port)
        async with proxy.running() as url:
            model = await connected(url, port)
            proxy.harm(fault)
            there = await solved(model, strategy="apr", n=8)
    assert proxy.harmed
    assert [t.text for t in there.threads] == [t.text for t in here.threads]
    assert there.errors == ()


@pytest.mark.parametrize("fault", ["truncate", "stall", "garbage", "500", "429"])
async def test_a_fault_that_passes_is_survived_on_the_same_server(
    shipped: LoadedModel, fault: str
) -> None:
    here = await solved(shipped, strategy="single")
    async with service(shipped) as (_, port):
        proxy = Proxy(port)
        async with proxy.running() as url:
            model = await connected(url)
            proxy.harm(fault, times=2)
            there = await solved(model, strategy="single")
    assert proxy.harmed == 2
    assert there.threads[0].text == here.threads[0].text
    assert there.errors == ()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_that_stays_ends_the_run_with_what_is_there(
    shipped: LoadedModel, fault: str
) -> None:
    async with service(shipped) as (_, port):
        proxy = Proxy(port)
        async with proxy.running() as url:
            model = await connected(url, retries=1, token_timeout=0.3)
            proxy.harm(fault)
            with anyio.fail_after(30):
                solution = await solved(model, strategy="single")
    (thread,) = solution.threads
    assert solution.status == "finished"
    assert solution.answer is None
    assert thread.state == "succeeded"
    assert thread.lost is not None
    assert solution.errors == (thread.lost,)
    assert "; " in thread.lost  # what happened, and what to do
    assert solution.usage.completion_tokens == thread.tokens
    assert solution.usage.work_tokens == thread.context
    assert (thread.tokens > 0) == (fault not in ("500", "429"))


async def test_threads_that_had_ended_keep_their_votes_when_the_server_dies(
    shipped: LoadedModel,
) -> None:
    async with service(shipped, pace_s=0.002) as (_, port):
        proxy = Proxy(port)
        async with proxy.running() as url:
            model = await connected(url, retries=0, max_connections=2)
            proxy.harm("die", skip=3)
            solution = await solved(model, strategy="self-consistency", n=6, temperature=0.8)
    lost = [thread for thread in solution.threads if thread.lost]
    assert 0 < len(lost) < 6
    assert all(thread.tokens for thread in solution.threads if not thread.lost)


async def test_replicas_share_the_work(shipped: LoadedModel) -> None:
    async with service(shipped) as (_, port):
        left, right = Proxy(port), Proxy(port)
        async with left.running() as first, right.running() as second:
            model = await connected(first, second)
            probes = left.requests
            await solved(model, strategy="apr", n=8)
    assert left.requests - probes >= 3
    assert right.requests >= 3


async def test_what_a_server_lacks_is_refused_by_name(shipped: LoadedModel) -> None:
    async with service(shipped) as (_, port):
        model = await connected(port)
        assert "token-prompts" in model.capabilities
        assert not {"kv-join", "live-contexts", "priorities"} & model.capabilities
        async with Reasoner(model) as reasoner:
            with pytest.raises(CapabilityMissing, match="priorities"):
                await reasoner.solve(PROBLEM, strategy="single", priority=3)
        async with model.backend as backend:
            context = Context.given([1, 2, 3])
            live = Segment(context)
            other = backend.open(live, Sampling(), limit=50)
            generation = backend.open(Segment(context.seeing(live)), Sampling(), limit=50)
            with pytest.raises(CapabilityMissing, match="live-contexts"):
                await anext(generation.tokens())
            branches = [context.after(Segment(context, [4, 5])) for _ in range(2)]
            joined = backend.open(Segment(context.join(branches)), Sampling(), limit=50)
            with pytest.raises(CapabilityMissing, match="kv-join"):
                await anext(joined.tokens())
            for one in (other, generation, joined):
                one.close()


async def test_a_server_without_token_ids_is_talked_to_in_text(shipped: LoadedModel) -> None:
    async with service(shipped, bare=True) as (app, port):
        model = await connected(port, bare=True)
        assert model.backend.mode == "text"
        assert "token-prompts" not in model.capabilities
        app.prompts.clear()
        async with Reasoner(model) as reasoner:
            solution = await reasoner.solve("Why?", strategy="single", max_tokens=60)
    (prompt,) = app.prompts
    assert prompt.startswith("Why?")
    assert 0 < solution.threads[0].tokens <= 60
    assert solution.threads[0].text


async def test_the_doctor_tells_what_runs_and_how(shipped: LoadedModel) -> None:
    async with service(shipped) as (_, port):
        settings = ServerSource(base_urls=(f"127.0.0.1:{port}",))
        report = await diagnose(settings)
    assert report.mode == "tokens"
    (facts,) = report.facts
    assert (facts.token_prompts, facts.token_ids, facts.seeds) == (True, True, True)
    assert (facts.chat, facts.priorities, facts.structured_output) == (False, False, False)
    assert facts.prefix_caching is None
    runs = {one.strategy: one.runs for one in report.strategies}
    assert runs["apr"]
    assert runs["self-consistency"]


async def test_a_wrong_address_model_or_mode_is_an_error_with_its_cure(
    shipped: LoadedModel,
) -> None:
    with pytest.raises(BackendLost, match="base-url"):
        await ServerSource(base_urls=("127.0.0.1:1",)).connect()
    async with service(shipped, bare=True) as (_, port):
        with pytest.raises(UnknownName, match="reason-5m"):
            await ServerSource(base_urls=(f"127.0.0.1:{port}",), model="gpt-12").connect()
        with pytest.raises(CapabilityMissing, match="tokenizer"):
            await connected(port, bare=True, mode="tokens")
        model = await connected(port, bare=True)
        async with Reasoner(model) as reasoner:
            form = Constraint(kind="regex", value="a")
            with pytest.raises(ReasonError, match="structured-output"):
                await reasoner.solve("Why?", strategy="single", constraint=form)


def test_settings_are_checked_by_name() -> None:
    settings = model_source("openai:retries=2,mode=chat", base_urls=("http://a:1/v1/",))
    assert (settings.retries, settings.mode) == (2, "chat")
    assert settings.base_urls == ("http://a:1/v1",)
    for pair, words in (
        ("retries=-2", "retries"),
        ("retries", "is not key=value"),
        ("retires=2", "did you mean 'retries'"),
        ("extra_body.stop=a", None),
    ):
        if words is None:
            made = model_source(base_urls=("a",), settings=[pair])
            assert made.extra_body == {"stop": "a"}
            continue
        with pytest.raises(InvalidValue, match=words):
            model_source(base_urls=("a",), settings=[pair])
    with pytest.raises(InvalidValue, match="base-url"):
        model_source(base_urls=("ftp://a",))
