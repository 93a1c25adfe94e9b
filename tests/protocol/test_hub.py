"""Hub and workers over real sockets, when nothing goes wrong."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from orchestrator import Task, TaskGraph
from orchestrator.errors import InvalidValue
from protocol import (
    BadMessage,
    ClientSettings,
    ConnectionLimits,
    ConnectionRefused,
    Devices,
    Hub,
    HubSettings,
    HubUnreachable,
    NoWorker,
    RemoteFailure,
    RemoteTimeout,
    TaskNeeds,
    TaskRequest,
    WorkerLost,
    WorkerSettings,
)
from tests.support.protocol_tools import Point, block, double, move, pause, until, working

pytestmark = pytest.mark.anyio


def request(id: str, name: str = "double", kind: Any = "function", **given: Any) -> TaskRequest:
    options = {key: given.pop(key) for key in ("needs", "patience_s", "deadline_s") if key in given}
    full = f"tests.support.protocol_tools:{name}" if kind == "function" else name
    return TaskRequest(id=id, kind=kind, name=full, arguments=json.dumps(given), **options)


async def test_a_worker_runs_a_function_by_its_name() -> None:
    async with Hub() as hub, working(hub):
        outcome = await hub.submit(request("1", number=21)).outcome()
        assert (outcome.value, outcome.worker, outcome.attempts) == ("42", "w", 1)


async def test_a_graph_runs_its_tasks_on_workers() -> None:
    async with Hub() as hub, working(hub, "a"), working(hub, "b"):
        graph, devices = TaskGraph(), Devices(hub)
        doubled = graph.map(double, range(20), executor=devices)
        moved = graph.add(move, Point(1, 2), Point(3, 4), executor=devices)
        await graph.run()
        assert doubled.value == [2 * n for n in range(20)]
        assert moved.value == Point(4, 6)


async def test_a_tool_is_called_with_arguments_that_a_model_wrote() -> None:
    async with Hub() as hub, working(hub):
        assert (await hub.submit(request("1", "add", "tool", a=1, b=2)).outcome()).value == "3"
        with pytest.raises(RemoteFailure, match="add: b: ") as caught:
            await hub.submit(request("2", "add", "tool", a=1, b="import os")).outcome()
        assert caught.value.reason == "bad-arguments"


async def test_what_a_function_raises_arrives_by_its_kind_and_words() -> None:
    async with Hub() as hub, working(hub):
        with pytest.raises(RemoteFailure, match="KeyError: 'gone'") as caught:
            await hub.submit(request("1", "fail", message="gone")).outcome()
        assert (caught.value.reason, caught.value.kind) == ("failed", "KeyError")


async def test_progress_arrives_in_order_and_before_the_end() -> None:
    said: list[Any] = []
    async with Hub() as hub, working(hub):
        await hub.submit(request("1", "report", steps=5), said.append).outcome()
    assert [message.type for message in said] == ["progress"] * 5 + ["result"]
    assert [message.text for message in said[:5]] == [f"step {n}" for n in range(5)]


async def test_a_long_text_goes_in_parts_both_ways() -> None:
    text = "ä" * 1_500_000
    async with Hub() as hub, working(hub):
        outcome = await hub.submit(request("1", "length", text=text)).outcome()
        assert json.loads(outcome.value) == text + text


async def test_a_cancelled_task_is_stopped_where_it_runs() -> None:
    async with Hub() as hub, working(hub) as worker:
        handle = hub.submit(request("1", "pause", seconds=60))
        await until(lambda: worker.busy)
        handle.cancel()
        end = await handle.ended()
        assert (end.type, getattr(end, "leaked", None)) == ("cancelled", False)
        await until(lambda: not worker.busy)


async def test_a_cancelled_run_cancels_its_remote_tasks_and_says_what_leaked() -> None:
    async with Hub() as hub, working(hub, slots=4) as worker:
        graph, devices = TaskGraph(), Devices(hub)
        tasks: list[Task[Any]] = [
            graph.add(pause, 60.0, executor=devices),
            graph.add(block, 0.7, executor=devices),
        ]
        with anyio.move_on_after(0.3):
            await graph.run()
        assert [task.leaked for task in tasks] == [False, True]
        assert not worker.busy


async def test_a_task_that_takes_too_long_fails_by_its_deadline() -> None:
    async with Hub() as hub, working(hub) as worker:
        with pytest.raises(TimeoutError) as caught:
            await hub.submit(request("1", "pause", seconds=60, deadline_s=0.2)).outcome()
        assert isinstance(caught.value, RemoteFailure)
        assert caught.value.reason == "deadline"
        await until(lambda: not worker.busy)


async def test_a_task_that_nobody_can_run_fails_when_patience_ends() -> None:
    async with Hub() as hub, working(hub):
        needs = TaskNeeds(tags=frozenset({"gpu"}))
        handle = hub.submit(request("1", number=1, needs=needs, patience_s=0.1))
        with pytest.raises(NoWorker, match="tag gpu; start one with reason worker"):
            await handle.outcome()


async def test_the_same_id_is_the_same_task() -> None:
    async with Hub() as hub, working(hub):
        first, second = hub.submit(request("1", number=1)), hub.submit(request("1", number=1))
        assert first is second
        await first.outcome()
        assert hub.submit(request("1", number=1)) is first
        with pytest.raises(InvalidValue, match="an id names one task"):
            hub.submit(request("1", number=2))


async def test_a_worker_that_drains_finishes_what_it_has_and_leaves() -> None:
    async with Hub() as hub, working(hub, "a") as a, working(hub, "b"):
        needs = TaskNeeds(worker="a")
        handle = hub.submit(request("1", "pause", seconds=0.2, needs=needs))
        await until(lambda: a.busy)
        await hub.drain("a")
        assert (await handle.outcome()).worker == "a"
        assert (await hub.submit(request("2", number=1)).outcome()).worker == "b"


# ---- settings and errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (HubSettings, {"lease_s": 0}, "HubSettings: lease_s: Input should be greater than 0"),
        (HubSettings, {"port": "80"}, "HubSettings: port: Input should be a valid integer"),
        (
            HubSettings,
            {"most_wating": 1},
            "HubSettings: most_wating is no field; give most_waiting",
        ),
        (WorkerSettings, {"tags": "gpu"}, "WorkerSettings: tags: "),
        (WorkerSettings, {"instance": "a b"}, "WorkerSettings: instance: "),
        (ClientSettings, {"patience_s": -1}, "ClientSettings: patience_s: "),
        (ConnectionLimits, {"frames_per_s": 0}, "ConnectionLimits: frames_per_s: "),
        (TaskRequest, {"id": "1", "kind": "tool"}, "TaskRequest: name: Field required"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(
    kind: Any, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        kind(**given)
    assert str(caught.value).startswith(said)


def test_errors_are_the_builtins_that_people_catch() -> None:
    assert issubclass(HubUnreachable, ConnectionError)
    assert issubclass(ConnectionRefused, ConnectionRefusedError)
    assert issubclass(WorkerLost, ConnectionError)
    assert issubclass(RemoteTimeout, TimeoutError)
    assert issubclass(NoWorker, LookupError)
    assert issubclass(BadMessage, ValueError)
