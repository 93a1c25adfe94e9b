"""Threads of reasoning on workers: the same tokens as here, whatever happens to the workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from protocol import Client, Hub, ModelOffer, TaskRequest, Worker, WorkerSettings
from reasoning.backends.remote import RemoteBackend
from reasoning.backends.thread_host import BackendHost
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.models.devices import DevicesSource, offer_of
from reasoning.models.loaded import LoadedModel
from reasoning.solver import Reasoner
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling
from tests.support.protocol_tools import until, working
from tests.support.reading import reading

pytestmark = pytest.mark.anyio

PROBLEM = "Use 3, 10, 21 and 23 to make 50"


@asynccontextmanager
async def devices(
    hub: Hub, model: LoadedModel, *names: str, slots: int = 32
) -> AsyncIterator[dict[str, Worker]]:
    """Workers with the shipped model, on one engine."""
    offer = offer_of(None, backend=model.backend, slots=slots)
    found: dict[str, Worker] = {}
    async with model.backend as backend, anyio.create_task_group() as group:
        for name in names:
            host = BackendHost(backend, offer)
            settings = WorkerSettings(slowest_s=0.2)
            worker = Worker(hub.url, hub.tokens.create(name), hosts=[host], settings=settings)
            found[name] = worker
            group.start_soon(worker.run)
        await until(lambda: set(names) <= hub.workers.keys())
        yield found
        group.cancel_scope.cancel()


def essence(solution: Any) -> list[Any]:
    threads = sorted((t.id, t.text, t.answer, t.tokens) for t in solution.threads)
    return [solution.answer, solution.usage.work_tokens, solution.usage.span_tokens, threads]


@pytest.mark.parametrize(("strategy", "n"), [("apr", 6), ("self-consistency", 6)])
async def test_devices_give_the_same_run_as_this_machine(
    shipped: LoadedModel, strategy: str, n: int
) -> None:
    async with Reasoner(shipped) as here:
        local = await here.solve(PROBLEM, strategy=strategy, n=n, seed=3)
    hub = Hub()
    remote = DevicesSource(submitter=hub).load(None)
    async with Reasoner(remote) as reasoner, devices(hub, shipped, "a", "b"):
        spread = await reasoner.solve(PROBLEM, strategy=strategy, n=n, seed=3)
    assert essence(spread) == essence(local)


@pytest.mark.parametrize("strategy", ["multiverse", "hogwild"])
async def test_threads_that_join_or_go_in_steps_go_on_over_devices(
    shipped: LoadedModel, strategy: str
) -> None:
    hub = Hub()
    problem = "Compute each: 1) 3+4*5; 2) (7-2)*6; 3) 12*8-5"
    async with (
        Reasoner(DevicesSource(submitter=hub).load(None)) as reasoner,
        devices(hub, shipped, "a", "b"),
    ):
        solution = await reasoner.solve(problem, strategy=strategy, n=3)
    assert solution.errors == ()
    assert solution.emulated == (() if strategy == "multiverse" else ("step-wise",))
    assert solution.answer is not None
    kept = sum(thread.tokens for thread in solution.threads)
    assert kept <= solution.usage.completion_tokens <= kept + solution.usage.leaked_tokens


async def test_threads_of_one_problem_share_a_worker_until_it_is_full(shipped: LoadedModel) -> None:
    hub = Hub()
    ran: list[Any] = []
    hub.observe(ran.append)
    async with (
        Reasoner(DevicesSource(submitter=hub).load(None)) as reasoner,
        devices(hub, shipped, "a", "b", slots=5),
    ):
        await reasoner.solve(PROBLEM, policy="sc:n=8")
    placed = [event.worker for event in ran if type(event).__name__ == "TaskAssigned"]
    assert placed[:8] == ["a"] * 5 + ["b"] * 3 or placed[:8] == ["b"] * 5 + ["a"] * 3


async def test_a_probe_belongs_to_its_problem(
    shipped: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    asked: list[TaskRequest] = []
    submit = hub.submit

    def noted(request: TaskRequest, *more: Any) -> Any:
        asked.append(request)
        return submit(request, *more)

    monkeypatch.setattr(hub, "submit", noted)
    async with (
        Reasoner(DevicesSource(submitter=hub).load(None)) as reasoner,
        devices(hub, shipped, "a", "b"),
    ):
        solution = await reasoner.solve(PROBLEM, policy="default:probe_every=16", temperature=1.0)
    assert len(asked) > len(solution.threads)
    assert len({request.problem for request in asked}) == 1
    assert asked[0].problem


@pytest.mark.parametrize("slots", [2, 32])
async def test_what_a_policy_is_told_on_devices_is_what_it_is_told_here(
    shipped: LoadedModel, slots: int
) -> None:
    policy = "default:k=6,cap=48,probe_every=16"
    async with Reasoner(shipped) as here:
        local = await here.solve(PROBLEM, policy=policy, seed=3)
    hub = Hub()
    async with (
        Reasoner(DevicesSource(submitter=hub).load(None)) as reasoner,
        devices(hub, shipped, "a", "b", slots=slots),
    ):
        spread = await reasoner.solve(PROBLEM, policy=policy, seed=3)
    assert spread.steering is not None
    assert local.steering is not None
    assert spread.steering.log == local.steering.log
    assert [thread.trace for thread in spread.threads] == [one.trace for one in local.threads]
    assert essence(spread) == essence(local)


async def test_a_thread_goes_on_elsewhere_when_its_worker_is_lost(shipped: LoadedModel) -> None:
    prompt = Context.given(shipped.dialect.prompt(_problem()).tokens)
    sampling = Sampling(temperature=1.0, seed=5)
    async with shipped.backend as backend:
        segment = Segment(prompt)
        generation = backend.open(segment, sampling, stop=shipped.dialect.stop, limit=200)
        expected = [token async for token in reading(generation, segment)]
        generation.close()
    hub = Hub()
    offer = offer_of(None, backend=shipped.backend, slots=32)
    remote = RemoteBackend(hub, offer.name, context=512, fingerprint=offer.fingerprint)
    async with remote, devices(hub, shipped, "a", "b"):
        thread = remote.open(Segment(prompt), sampling, stop=shipped.dialect.stop, limit=200)
        got = []
        async for token in thread.tokens():
            got.append(token)
            if len(got) == 5:
                (lost,) = [worker for worker in hub.connected.values() if worker.assigned]
                hub.detach(lost, "pulled out")
        thread.close()
    assert [token[:3] for token in got] == [token[:3] for token in expected]
    assert remote.repeated > 0


def _problem() -> Any:
    from reasoning.problems import recognise

    return recognise(PROBLEM)


async def test_a_client_of_a_hub_elsewhere_solves_as_well(shipped: LoadedModel) -> None:
    async with Hub() as hub, devices(hub, shipped, "a"):
        client = Client(hub.url, hub.tokens.create("c", scopes=["submit"]))
        async with Reasoner(DevicesSource(submitter=client).load(None)) as reasoner:
            solution = await reasoner.solve(PROBLEM, strategy="apr", n=6)
        assert solution.answer is not None
        await until(lambda: not hub.connected["a"].assigned)


async def test_closing_a_thread_stops_it_on_its_worker(shipped: LoadedModel) -> None:
    hub = Hub()
    offer = offer_of(None, backend=shipped.backend, slots=32)
    remote = RemoteBackend(hub, offer.name, context=512)
    async with remote, devices(hub, shipped, "a") as workers:
        thread = remote.open(Segment(shipped.dialect.prompt(_problem())), Sampling(temperature=1.0))
        async for _ in thread.tokens():
            break
        assert remote.open_threads == 1
        thread.close()
        await until(lambda: not workers["a"].busy)
        assert remote.open_threads == 0


async def test_live_contexts_are_refused_by_capability(shipped: LoadedModel) -> None:
    remote = RemoteBackend(Hub(), "m", context=512)
    live = Segment(Context.given([1, 2]))
    remote.open(live, Sampling())
    for segment, missing in (
        (Segment(Context.given([1]).seeing(live)), "live-contexts"),
        (Segment(Context.flow([live])), "live-contexts"),
    ):
        with pytest.raises(CapabilityMissing, match=missing):
            await anext(remote.open(segment, Sampling()).tokens())


async def test_other_weights_under_the_same_name_are_not_asked(shipped: LoadedModel) -> None:
    hub = Hub()
    remote = RemoteBackend(hub, "reason-5m", context=512, fingerprint="other", patience_s=0.1)
    async with remote, devices(hub, shipped, "a"):
        thread = remote.open(Segment(Context.given([1])), Sampling())
        with pytest.raises(BackendLost, match="no connected worker can run thread reason-5m"):
            await anext(thread.tokens())


async def test_a_worker_that_generates_other_tokens_is_found_out(shipped: LoadedModel) -> None:
    hub = Hub()
    remote = RemoteBackend(hub, "m", context=512)
    async with remote:
        offers = [ModelOffer(name="m", backend="liar", context=512)] * 2
        async with (
            working(hub, "a", hosts=[_Liar(offers[0], 1)]),
            working(hub, "b", hosts=[_Liar(offers[1], 2)]),
        ):
            thread = remote.open(Segment(Context.given([1])), Sampling())
            stream = thread.tokens()
            await anext(stream)
            (lost,) = [worker for worker in hub.connected.values() if worker.assigned]
            hub.detach(lost, "pulled out")
            with pytest.raises(BackendLost, match="same version of the model"):
                await anext(stream)


class _Liar:
    def __init__(self, offer: ModelOffer, first: int) -> None:
        self.offer = offer
        self.first = first

    def open(self, start: Any) -> Any:
        return self

    async def tokens(self) -> AsyncIterator[Any]:
        from protocol import GeneratedToken

        yield GeneratedToken(self.first, 0.0, None)
        await anyio.sleep(60)

    def extend(self, tokens: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass
