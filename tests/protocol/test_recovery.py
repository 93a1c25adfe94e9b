"""What is kept, taken over and told to stop when workers and hubs go and come back."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from orchestrator import TaskGraph
from protocol import (
    Client,
    ConnectionRefused,
    Devices,
    Hub,
    HubEvent,
    HubSettings,
    MessageIgnored,
    Registry,
    TaskAssigned,
    TaskNeeds,
    TaskRequest,
    TokenStore,
    Worker,
    WorkerLost,
    WorkerSettings,
)
from protocol.wire.framing import Hello
from protocol.wire.messages import TaskBudget
from tests.protocol.test_security import HELLO, hear, raw_connection, say
from tests.support.protocol_tools import double, pause, registry, session_of, until, working

pytestmark = pytest.mark.anyio


def request(id: str, name: str = "double", **given: Any) -> TaskRequest:
    options = {key: given.pop(key) for key in ("needs", "budget") if key in given}
    name = "tests.support.protocol_tools:" + name
    return TaskRequest(id=id, kind="function", name=name, arguments=json.dumps(given), **options)


@asynccontextmanager
async def worker_at(url: str, token: str, registry: Registry) -> AsyncIterator[Worker]:
    """A worker of a hub that may be away."""
    worker = Worker(url, token, registry, settings=WorkerSettings(slowest_s=0.1))
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        yield worker
        group.cancel_scope.cancel()


class Counted:
    """A registry whose function counts how often it was run."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.registry = Registry()

        async def slow(number: int, seconds: float) -> int:
            self.ran.append(number)
            await anyio.sleep(seconds)
            return number

        self.registry.function(slow, name="slow")

    def request(self, number: int, seconds: float) -> TaskRequest:
        arguments = json.dumps({"number": number, "seconds": seconds})
        return TaskRequest(id=str(number), kind="function", name="slow", arguments=arguments)


# ---- connections that break ----------------------------------------------------------------------


async def cut(hub: Hub, id: str = "w") -> None:
    """End a worker's connection without a word, as networks do."""
    session = session_of(hub, id)
    assert session.socket is not None
    session.socket.transport.abort()  # type: ignore[attr-defined]
    await until(lambda: session.socket is None)


async def test_a_worker_whose_connection_was_cut_resumes_and_repeats_nothing() -> None:
    counted, seen = Counted(), list[HubEvent]()
    async with Hub() as hub, working(hub, registry=counted.registry, slots=8):
        hub.observe(seen.append)
        handles = [hub.submit(counted.request(n, 0.3)) for n in range(5)]
        await until(lambda: len(counted.ran) == 5)
        await cut(hub)
        assert [(await handle.outcome()).value for handle in handles] == list("01234")
    assert sorted(counted.ran) == list(range(5))
    assert sum(isinstance(event, TaskAssigned) for event in seen) == 5


async def test_a_half_open_duplicate_is_taken_over_by_its_secret() -> None:
    async with Hub() as hub:
        token = hub.tokens.create("w")
        async with raw_connection(hub, token) as old, raw_connection(hub, token) as new:
            await say(old, **HELLO)
            session = (await hear(old))["session"]
            await say(new, **HELLO, session=session)
            assert (await hear(new))["resumed"] is True
            told = await hear(old)
            assert (told["code"], told["retry"]) == ("replaced", True)
            assert list(hub.workers) == ["w"]


async def test_of_two_workers_with_one_name_the_newer_stays_and_the_older_stops() -> None:
    async with Hub() as hub:
        token = hub.tokens.create("w")
        first, second = Worker(hub.url, token, registry), Worker(hub.url, token, registry)
        async with anyio.create_task_group() as group:

            async def replace() -> None:
                await until(lambda: "w" in hub.workers)
                await second.run()

            group.start_soon(replace)
            with anyio.fail_after(5), pytest.raises(ConnectionRefused) as caught:
                await first.run()
            assert caught.value.reason == "replaced"
            assert (await hub.submit(request("1", number=1)).outcome()).value == "2"
            group.cancel_scope.cancel()


async def test_after_the_lease_a_task_moves_and_a_late_result_is_ignored() -> None:
    seen: list[HubEvent] = []
    async with Hub(HubSettings(lease_s=0.4)) as hub:
        hub.observe(seen.append)
        async with raw_connection(hub, hub.tokens.create("mute")) as socket:
            profile = {"functions": [{"name": "slow", "parameters": "{}", "result": "{}"}]}
            await say(socket, **HELLO | {"profile": profile})
            session = (await hear(socket))["session"]
            counted = Counted()
            handle = hub.submit(counted.request(7, 0.0))
            task = (await hear(socket))["body"][0]
            async with working(hub, "good", registry=counted.registry):
                outcome = await handle.outcome()
                assert (outcome.value, outcome.worker, outcome.attempts) == ("7", "good", 2)
                async with raw_connection(hub, hub.tokens.rotate("mute")) as late:
                    held = {"id": task["id"], "fence": task["fence"]}
                    await say(late, **HELLO, session=session, holding=[held])
                    assert (await hear(late))["resumed"] is False
                    (stop,) = (await hear(late))["body"]  # it is told to stop
                    assert (stop["type"], stop["id"]) == ("cancel", "7")
                    result = {"type": "result", "value": "8"} | held
                    await say(late, type="frame", ack=1, seq=1, body=[result])
                    await until(lambda: any(isinstance(event, MessageIgnored) for event in seen))
        assert (await handle.outcome()).value == "7"


async def test_a_worker_that_was_cut_off_stops_before_others_are_given_its_tasks() -> None:
    counted, store = Counted(), TokenStore()
    token = store.create("w")
    async with (
        Hub(HubSettings(lease_s=0.6), tokens=store) as hub,
        worker_at(hub.url, token, counted.registry) as worker,
    ):
        hub.submit(counted.request(1, 60))
        await until(lambda: worker.busy)
        hub._handshake._serve = _silence  # type: ignore[assignment,method-assign]
        await cut(hub)
        began = time.monotonic()
        await until(lambda: not worker.busy)
        assert 0.1 < time.monotonic() - began < 5


async def _silence(socket: Any) -> None:
    await socket.wait_closed()


async def test_workers_lost_too_often_fail_the_task() -> None:
    async with Hub() as hub, working(hub, "a"), working(hub, "b"):
        budget = TaskBudget(attempts=2)
        handle = hub.submit(request("1", "pause", seconds=60, budget=budget))
        for _ in range(2):
            await until(lambda: handle.worker is not None)
            hub.detach(hub.connected[handle.worker or ""], "pulled out")
        with pytest.raises(WorkerLost, match="given to 2 workers"):
            await handle.outcome()


async def test_a_slow_reader_loses_its_session_and_nobody_else_waits() -> None:
    async with (
        Hub() as hub,
        working(hub, "good"),
        raw_connection(hub, hub.tokens.create("slow")) as socket,
    ):
        profile = {
            "slots": 100_000,
            "functions": [{"name": "f", "parameters": "", "result": ""}],
        }
        await say(socket, **HELLO | {"profile": profile})
        await hear(socket)
        await until(lambda: "slow" in hub.workers)
        session = session_of(hub, "slow")
        session.channel.most_messages = 100
        handles = [
            hub.submit(TaskRequest(id=f"f{n}", kind="function", name="f")) for n in range(200)
        ]
        began = time.monotonic()
        assert (await hub.submit(request("1", number=1)).outcome()).worker == "good"
        assert time.monotonic() - began < 2
        await until(lambda: "slow" not in hub.workers)
        assert {handle.state for handle in handles} == {"queued"}


# ---- hubs that go and come back ------------------------------------------------------------------


class Lives:
    """A hub that ends and begins again at the same address; killing it is the fault harness's."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._scope = anyio.CancelScope()
        self.tokens = TokenStore()
        self.hub = Hub(tokens=self.tokens)

    async def begin(self, **options: Any) -> Hub:
        self.hub = Hub(HubSettings(port=self.hub.port, **options), tokens=self.tokens)
        await self._group.start(self._run)
        return self.hub

    async def end(self) -> None:
        self._scope.cancel()
        await until(lambda: self._scope.cancelled_caught)

    async def _run(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.CancelScope() as self._scope:
            async with self.hub:
                task_status.started()
                await anyio.sleep_forever()


@pytest.fixture
async def lives() -> AsyncIterator[Lives]:
    async with anyio.create_task_group() as group:
        yield Lives(group)
        group.cancel_scope.cancel()


async def test_a_hub_takes_over_what_a_worker_brought_along(lives: Lives) -> None:
    counted, seen = Counted(), list[HubEvent]()
    token, first = lives.tokens.create("w"), await lives.begin()
    async with worker_at(first.url, token, counted.registry) as worker:
        await until(lambda: "w" in first.workers)
        work = [counted.request(1, 0.0), counted.request(2, 1.0)]  # one ends before, one after
        for one in work:
            first.submit(one)
        await until(lambda: len(counted.ran) == 2 and len(worker._runner.holding) == 2)
        await lives.end()
        second = await lives.begin()
        second.observe(seen.append)
        await until(lambda: "w" in second.workers)
        assert [(await second.submit(one).outcome()).value for one in work] == ["1", "2"]
    assert sorted(counted.ran) == [1, 2]
    assert [event.adopted for event in seen if isinstance(event, TaskAssigned)] == [True, True]


async def test_what_a_worker_brought_along_and_nobody_asks_for_is_stopped(lives: Lives) -> None:
    counted = Counted()
    token, first = lives.tokens.create("w"), await lives.begin()
    async with worker_at(first.url, token, counted.registry) as worker:
        await until(lambda: "w" in first.workers)
        first.submit(counted.request(1, 60))
        await until(lambda: worker.busy)
        await lives.end()
        await lives.begin(lease_s=0.5)
        await until(lambda: not worker.busy)


async def test_a_client_submits_again_what_a_restarted_hub_does_not_know(lives: Lives) -> None:
    counted = Counted()
    token, mine = lives.tokens.create("w"), lives.tokens.create("c", scopes=["submit"])
    first = await lives.begin()
    async with worker_at(first.url, token, counted.registry), Client(first.url, mine) as client:
        handle = client.submit(counted.request(1, 1.0))
        await until(lambda: counted.ran == [1])
        await lives.end()
        await lives.begin()
        assert (await handle.outcome()).value == "1"
    assert counted.ran == [1]


async def test_a_hub_that_was_taken_for_dead_is_not_believed_again() -> None:
    store = TokenStore()
    token = store.create("w")
    async with Hub(tokens=store) as old, Hub(tokens=store) as new:
        assert old.epoch < new.epoch
        async with raw_connection(old, token) as socket:
            hello = Hello.model_validate(HELLO).model_dump(exclude_none=True, mode="json")
            await say(socket, **hello | {"epoch": new.epoch})
            assert (await hear(socket))["code"] == "stale-hub"
        assert not old.workers


# ---- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
async def test_a_wall_clock_that_jumps_changes_nothing(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted()
    real = time.time
    async with Hub(HubSettings(lease_s=0.5)) as hub, working(hub, registry=counted.registry):
        handle = hub.submit(counted.request(1, 1.2))
        await until(lambda: counted.ran == [1])
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        outcome = await handle.outcome()
    assert (outcome.value, outcome.attempts) == ("1", 1)


# ---- placement -----------------------------------------------------------------------------------


async def test_placement_is_by_capability_load_pin_and_data() -> None:
    async with (
        Hub() as hub,
        working(hub, "big", slots=2, tags=["gpu"], resources={"gpu": 1}),
        working(hub, "small", slots=2),
    ):

        async def where(id: str, name: str = "double", **given: Any) -> str:
            return (await hub.submit(request(id, name, **given)).outcome()).worker

        assert await where("1", number=1, needs=TaskNeeds(tags=frozenset({"gpu"}))) == "big"
        assert await where("2", number=1, needs=TaskNeeds(worker="small")) == "small"
        one = TaskNeeds(resources={"gpu": 1})
        first = hub.submit(request("3", "pause", seconds=0.3, needs=one))
        second = hub.submit(request("4", "pause", seconds=0.0, needs=one))
        assert (first.worker, second.worker) == ("big", None)  # there is one gpu
        assert await where("5", number=1) == "small"  # the less loaded
        assert (await second.outcome()).worker == "big"
        text = "x" * 2_000_000
        home = await where("6", "length", text=text)
        assert [await where(f"7{n}", "length", text=text) for n in range(3)] == [home] * 3


async def test_a_graph_spreads_over_workers() -> None:
    async with Hub() as hub, working(hub, "a", slots=1), working(hub, "b", slots=1):
        seen: list[HubEvent] = []
        hub.observe(seen.append)
        graph, devices = TaskGraph(), Devices(hub)
        for _ in range(6):
            graph.add(pause, 0.05, executor=devices)
        graph.add(double, 4, executor=devices)
        await graph.run()
        placed = [event.worker for event in seen if isinstance(event, TaskAssigned)]
        assert {"a", "b"} == set(placed)
