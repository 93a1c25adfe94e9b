"""Faults and attackers: what one task, message or peer can't do to the others."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import pytest

from orchestrator.errors import InvalidValue, TaskAborted
from protocol import (
    Client,
    GeneratedToken,
    Hub,
    HubSettings,
    ModelOffer,
    Registry,
    RemoteFailure,
    TaskBudget,
    TaskNeeds,
    TaskRequest,
    ThreadStart,
    WorkerLost,
)
from protocol.hub import handshake
from protocol.hub.directory import TOOL, Directory
from protocol.hub.timers import TimerQueue
from protocol.wire.channel import Channel
from protocol.wire.framing import UpFrame, from_worker
from protocol.wire.messages import MAX_FRAME, MAX_TEXT, Progress, TaskFailure
from protocol.worker.registry import Callee, bind
from tests.support.protocol_tools import RawSession, registry, session_of, until, working

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"type": "task", "kind": "tool", "name": "t", "arguments": "{}"}


def call(id: str, name: str = "t", arguments: str = "{}", **options: Any) -> TaskRequest:
    return TaskRequest(id=id, kind="tool", name=name, arguments=arguments, **options)


def failed(told: dict[str, Any]) -> tuple[str, str]:
    return told["id"], told["failure"]["code"]


# ---- one task can't kill a worker ----------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def close() -> None:
    raise GeneratorExit


def stop() -> None:
    raise StopIteration


def recurse() -> None:
    recurse()


def mute() -> None:
    raise Mute


def surrogate() -> None:
    raise ValueError("no file \udcff")


def cancel() -> None:
    raise anyio.get_cancelled_exc_class()


def group() -> None:
    raise BaseExceptionGroup("two", [SystemExit(1), ValueError("x")])


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise KeyboardInterrupt


class Strange(Exception, metaclass=Nameless):
    pass


def strange() -> None:
    raise Strange("it has no name")


BAD = [leave, interrupt, close, stop, recurse, mute, surrogate, cancel, group, strange]


@pytest.mark.parametrize("function", BAD)
@pytest.mark.parametrize("kind", ["blocking", "async"])
async def test_whatever_a_function_raises_only_its_task_fails(
    function: Callable[[], None], kind: str
) -> None:
    async def inside() -> None:
        if function is cancel:
            raise anyio.get_cancelled_exc_class()
        function()

    mine = Registry()
    mine.tool(function if kind == "blocking" else inside, name="bad")
    mine.include(registry)
    async with Hub() as hub, working(hub, registry=mine):
        with pytest.raises(RemoteFailure) as caught, anyio.fail_after(10):
            await hub.submit(call("1", "bad")).outcome()
        assert caught.value.kind
        assert str(caught.value).encode().removeprefix(caught.value.kind.encode()).strip(b": ")
        outcome = await hub.submit(call("2", "add", '{"a": 1, "b": 2}')).outcome()
        assert (outcome.value, outcome.attempts) == ("3", 1)


async def test_a_value_longer_than_can_be_sent_fails_its_task_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_it_is = Callee.result

    def result(callee: Callee, value: Any) -> str:
        return "x" * (MAX_TEXT + 1) if callee.name == "long" else as_it_is(callee, value)

    monkeypatch.setattr(Callee, "result", result)
    mine = Registry()
    mine.tool(long)
    mine.include(registry)
    async with Hub() as hub, working(hub, registry=mine):
        with pytest.raises(RemoteFailure, match="long returned what can't be sent"):
            await hub.submit(call("1", "long")).outcome()
        outcome = await hub.submit(call("2", "add", '{"a": 1, "b": 2}')).outcome()
        assert (outcome.value, outcome.attempts) == ("3", 1)


def long() -> str:
    return "its result is made longer"


async def cancels_what_is_next() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()  # and returns before it could be told
    return "left"


async def starts_one_that_leaves() -> str:
    beside = asyncio.get_running_loop().create_task(leave_async())
    with pytest.raises(TaskAborted, match="SystemExit"):
        await beside
    return "left"


async def leave_async() -> None:
    sys.exit(3)


@pytest.mark.parametrize("function", [cancels_what_is_next, starts_one_that_leaves])
async def test_what_a_function_leaves_behind_does_not_end_its_worker(
    function: Callable[[], Any],
) -> None:
    mine = Registry()
    mine.tool(function, name="leaves")
    mine.include(registry)
    async with Hub() as hub, working(hub, registry=mine):
        for number in range(3):
            assert (await hub.submit(call(f"{number}", "leaves")).outcome()).value == '"left"'
            outcome = await hub.submit(call(f"add {number}", "add", '{"a": 1, "b": 2}')).outcome()
            assert (outcome.value, outcome.attempts) == ("3", 1)


async def test_a_task_under_which_two_processes_ended_is_given_up_by_name() -> None:
    async with Hub(HubSettings(lease_s=0.6)) as hub:
        token = hub.tokens.create("w")
        handle = hub.submit(call("poison"))
        for instance in ("a", "b"):
            async with RawSession(hub, token, instance=instance) as worker:
                assert (await worker.hear())["id"] == "poison"
                worker.socket.transport.abort()
        with pytest.raises(WorkerLost, match=r"poison \(tool t\) was run by w/a, w/b"):
            await handle.outcome()


async def test_a_worker_whose_socket_was_closed_is_not_waited_for_a_whole_lease() -> None:
    async with Hub(HubSettings(lease_s=3)) as hub:
        handle = hub.submit(call("1"))
        async with RawSession(hub, hub.tokens.create("w")) as worker:
            await worker.hear()
        with anyio.fail_after(2):
            async with RawSession(hub, hub.tokens.create("v")) as other:
                assert (await other.hear())["id"] == "1"
        handle.cancel()


# ---- one message can't stop a session ------------------------------------------------------------


class OddHost:
    """A model whose tokens are whatever it is told."""

    offer = ModelOffer(name="m", backend="x", context=10)

    def __init__(self, token: int, logprob: float) -> None:
        self._given = GeneratedToken(token, logprob, "stop")

    def open(self, start: ThreadStart) -> OddHost:
        return self

    async def tokens(self) -> AsyncIterator[GeneratedToken]:
        yield self._given

    def extend(self, tokens: Sequence[int]) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("token", "logprob"), [(1, float("nan")), (1, float("-inf")), (-1, 0.0), (1 << 31, 0.0)]
)
async def test_a_token_that_can_not_be_sent_fails_its_thread(token: int, logprob: float) -> None:
    async with Hub() as hub, working(hub, hosts=[OddHost(token, logprob)]):
        session = session_of(hub, "w")
        request = TaskRequest(id="1", kind="thread", name="m", arguments='{"prompt":[1]}')
        with pytest.raises(RemoteFailure, match="what is no token"):
            await hub.submit(request).outcome()
        assert session_of(hub, "w") is session


@pytest.mark.parametrize(
    "said",
    [
        {"type": "result", "value": 5},
        {"type": "result", "value": "1", "extra": 1},
        {"type": "chunk", "at": 0, "tokens": [1], "logprobs": [None]},
        {"type": "chunk", "at": 0, "tokens": [1], "logprobs": []},
        {"type": "chunk", "at": -1, "tokens": [], "logprobs": []},
        {"type": "nothing"},
    ],
)
async def test_a_result_that_can_not_be_read_fails_its_task_alone(said: dict[str, Any]) -> None:
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        first, second = hub.submit(call("1")), hub.submit(call("2"))
        tasks = {task["id"]: task for task in (await worker.hear(), await worker.hear())}
        given = {id: {"id": id, "fence": task["fence"]} for id, task in tasks.items()}
        await worker.say(said | given["1"], {"type": "result", "value": "2"} | given["2"])
        with pytest.raises(RemoteFailure) as caught:
            await first.outcome()
        assert caught.value.reason == "bad-message"
        assert (await second.outcome()).value == "2"
        assert (await worker.hear())["type"] == "cancel"


@pytest.mark.parametrize(
    "bad",
    [
        {"id": "bad", "kind": "spell"},
        {"id": "bad", "deadline_s": 1e300},
        {"id": "bad", "name": "\x1b[2J"},
        {"id": "bad", "arguments": {"sha256": "0" * 64, "size": 1}},
        {"id": "b" * 600},
        {"id": "bad", "needs": {"tags": [str(n) for n in range(100)]}},
    ],
)
async def test_a_task_that_can_not_be_read_is_refused_to_its_client(bad: dict[str, Any]) -> None:
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        token = hub.tokens.create("c", scopes=["submit"])
        async with RawSession(hub, token, "client") as client:
            await client.say(ASK | bad, ASK | {"id": "good"})
            told = await client.hear()
            assert told["id"] == bad["id"]
            assert told["failure"]["code"].startswith("bad-")
            task = await worker.hear()
            await worker.say(
                {"type": "result", "value": "1"} | {k: task[k] for k in ("id", "fence")}
            )
            assert (await client.hear())["value"] == "1"


async def test_the_longest_id_of_a_client_runs() -> None:
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        token = hub.tokens.create("c" * 64, scopes=["submit"])
        async with RawSession(hub, token, "client", instance="i" * 100) as client:
            await client.say(ASK | {"id": "€" * 400})
            task = await worker.hear()
            await worker.say(
                {"type": "result", "value": "1"} | {k: task[k] for k in ("id", "fence")}
            )
            assert (await client.hear())["id"] == "€" * 400


async def test_a_task_too_long_to_be_sent_fails_by_name() -> None:
    async with Hub() as hub, working(hub, hosts=[OddHost(1, 0.0)]):
        request = TaskRequest(id="1", kind="thread", name="m", arguments='{"prompt":[1]}')
        handle = hub.submit(request)
        handle.extend(tuple([1 << 30] * 150_000))
        with pytest.raises(RemoteFailure, match="longer than") as caught:
            await handle.outcome()
        assert caught.value.reason == "bad-message"
        assert "w" in hub.workers


async def test_a_value_that_can_not_be_written_is_an_error_not_null() -> None:
    def nan() -> list[float]:
        return [1.0, float("nan")]

    def lone() -> str:
        return "\ud800"

    mine = Registry()
    mine.tool(nan), mine.tool(lone)
    async with Hub() as hub, working(hub, registry=mine):
        for name in ("nan", "lone"):
            with pytest.raises(RemoteFailure):
                await hub.submit(call(name, name)).outcome()
    with pytest.raises(InvalidValue, match="Infinity is no JSON"):
        bind(json.dumps, (float("inf"),), {})
    with pytest.raises(InvalidValue):
        call("1", arguments="\ud800")


def test_messages_that_can_not_be_read_keep_their_numbers() -> None:
    bad = '{"type":"result","id":"1","fence":7,"value":NaN}'
    good = '{"type":"progress","id":"2"}'
    frame = from_worker.read(f'{{"type":"frame","ack":0,"seq":1,"body":[{bad},{good}]}}'.encode())
    assert isinstance(frame, UpFrame)
    channel = Channel()
    found: Any = channel.accept(frame.ack, frame.seq, frame.body)
    assert (found[0].id, found[0].fence, found[1].id, channel.received) == ("1", 7, "2", 2)


def test_texts_for_people_can_always_be_sent() -> None:
    failure = TaskFailure(code="failed", message="\udcff" * 20_000)
    assert len(failure.model_dump_json()) < MAX_FRAME // 8
    assert Progress(id="1", text="\ud800").text == "\\ud800"


async def test_a_question_to_the_directory_can_not_end_the_hub() -> None:
    async with Hub() as hub:
        Directory(hub).open()
        token = hub.tokens.create("c", scopes=["submit"])
        async with RawSession(hub, token, "client") as client:
            for n, odd in enumerate(
                ["[]", "null", "x", '{"least": "', '{"least": []}', "[" * 9999]
            ):
                await client.say(ASK | {"id": str(n), "name": TOOL, "arguments": odd})
                assert failed(await client.hear()) == (str(n), "bad-arguments")
            await client.say(ASK | {"id": "good", "name": TOOL})
            assert "value" in await client.hear()


async def test_a_demand_for_none_of_something_is_no_demand() -> None:
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        hub.submit(call("1", needs=TaskNeeds(resources={"gpu": 0})))
        assert (await worker.hear())["id"] == "1"


async def test_an_error_of_an_observer_or_a_listener_is_its_own() -> None:
    def broken(_: object) -> None:
        raise RuntimeError("mine")

    async with Hub() as hub, working(hub):
        hub.observe(broken)
        handle = hub.submit(call("1", "add", '{"a": 1, "b": 2}'), broken)
        assert (await handle.outcome()).value == "3"


# ---- a peer's claim is checked -------------------------------------------------------------------


async def test_who_claims_to_hold_a_task_of_others_does_not_get_it() -> None:
    async with Hub() as hub:
        held = [{"id": "1", "fence": (hub.epoch << 32) + n} for n in range(5)]
        thief = RawSession(hub, hub.tokens.create("thief"), holding=held)
        async with thief, working(hub, "good"):
            await until(lambda: len(hub.workers) == 2)
            for _ in held:
                assert (await thief.hear())["type"] == "cancel"
            needs = TaskNeeds(worker="good")
            handle = hub.submit(call("1", "add", '{"a": 1, "b": 2}', needs=needs))
            assert (await handle.outcome()).worker == "good"


async def test_a_proof_shows_a_later_hub_whose_task_it_was() -> None:
    tokens, given = None, {}
    for life in range(2):
        hub = Hub(tokens=tokens)
        tokens = hub.tokens
        async with hub:
            mine = tokens.rotate("w") if life else tokens.create("w")
            other = tokens.rotate("v") if life else tokens.create("v")
            held = [given] if life else []
            async with (
                RawSession(hub, mine, holding=held) as worker,
                RawSession(hub, other, holding=held) as thief,
            ):
                handle = hub.submit(call("1", needs=TaskNeeds(worker=None if life else "w")))
                task = await worker.hear()
                assert task["type"] == "task"
                if life:
                    assert (await thief.hear())["type"] == "cancel"
                    assert handle.worker == "w"
                given = {key: task[key] for key in ("id", "fence", "proof")}


async def test_a_rotated_token_ends_its_sessions_after_its_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake, "RECHECK_S", 0.05)
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        hub.tokens.rotate("w", grace_s=0.5)
        await anyio.sleep(0.2)
        assert "w" in hub.workers
        assert (await worker.hear())["code"] == "bad-token"
        assert "w" not in hub.workers


async def test_an_acknowledgement_that_can_not_be_is_no_resumption() -> None:
    async with Hub() as hub:
        token = hub.tokens.create("w")
        async with RawSession(hub, token) as first:
            session = first.welcome["session"]
            async with RawSession(hub, token, session=session, ack=99) as second:
                assert second.welcome["resumed"] is False


# ---- a client that comes back --------------------------------------------------------------------


@pytest.mark.parametrize("leaves", ["killed", "gone for a lease"])
async def test_a_client_that_comes_back_takes_over_what_runs(leaves: str) -> None:
    async with (
        Hub(HubSettings(lease_s=0.5)) as hub,
        RawSession(hub, hub.tokens.create("w")) as worker,
    ):
        token = hub.tokens.create("c", scopes=["submit"])
        async with RawSession(hub, token, "client") as client:
            await client.say(ASK | {"id": "1"})
            task = await worker.hear()
            client.socket.transport.abort()
        if leaves != "killed":
            for _ in range(10):
                await anyio.sleep(0.1)
                await worker.say()
        async with RawSession(hub, token, "client") as client:
            await client.say(ASK | {"id": "1"})
            await worker.answer(task)
            assert (await client.hear())["value"] == "1"


async def test_what_a_client_left_behind_is_stopped_after_a_while() -> None:
    async with Hub(HubSettings(lease_s=0.3, keep_s=0.2)) as hub, working(hub) as worker:
        token = hub.tokens.create("c", scopes=["submit"])
        async with RawSession(hub, token, "client") as client:
            name = "tests.support.protocol_tools:pause"
            ask = ASK | {"kind": "function", "name": name, "arguments": '{"seconds": 60}'}
            await client.say(ask | {"id": "1"})
            await until(lambda: worker.busy)
            client.socket.transport.abort()
        await until(lambda: not worker.busy)


# ---- what a peer costs ---------------------------------------------------------------------------


async def test_what_has_ended_is_forgotten_at_once() -> None:
    async with Hub() as hub:
        handles = [hub.submit(call(str(n), f"nobody{n}", deadline_s=1e6)) for n in range(1000)]
        for handle in handles:
            handle.cancel()
        dispatcher = hub._dispatcher
        assert not dispatcher._tasks
        assert len(dispatcher._lists._lists) <= 64
        assert len(hub._timers._heap) <= 200


def test_cancelled_timers_take_no_place() -> None:
    queue = TimerQueue(lambda: 0.0)
    for timer in [queue.after(1e6, list) for _ in range(10_000)]:
        timer.cancel()
    assert len(queue._heap) <= 128


async def test_parts_of_payloads_are_bounded_and_cheap() -> None:
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        parts = [
            {"type": "part", "sha256": f"{n:064x}", "offset": 0, "size": 9, "data": data}
            for n in range(2000)
            for data in ("", "eA==")
        ]
        await worker.say(*parts)
        handle = hub.submit(call("1"))
        task = await worker.hear()
        await worker.answer(task)
        assert (await handle.outcome()).value == "1"
        assert len(list(session_of(hub, "w").payloads._under_way)) <= 64


async def test_a_task_that_is_submitted_again_and_again_is_told_once() -> None:
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        token = hub.tokens.create("c", scopes=["submit"])
        async with RawSession(hub, token, "client") as client:
            await client.say(*[ASK | {"id": "1"}] * 100, ASK | {"id": "2"})
            for _ in range(2):
                task = await worker.hear()
                await worker.answer(task)
            assert [(await client.hear())["id"] for _ in range(2)] == ["1", "2"]


async def test_a_client_has_a_bounded_number_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.hub.sessions.MOST_TASKS", 3)
    async with Hub() as hub:
        token = hub.tokens.create("c", scopes=["submit"])
        async with RawSession(hub, token, "client") as client:
            await client.say(*[ASK | {"id": str(n)} for n in range(4)])
            assert failed(await client.hear()) == ("3", "congested")


async def test_patience_goes_over_the_wire() -> None:
    async with Hub() as hub:
        token = hub.tokens.create("c", scopes=["submit"])
        async with Client(hub.url, token) as client:
            handle = client.submit(call("1", "nobody", patience_s=0.1))
            with anyio.fail_after(3), pytest.raises(LookupError):
                await handle.outcome()


async def test_a_task_may_be_given_more_processes_to_end() -> None:
    budget = TaskBudget(kills=3)
    async with Hub(HubSettings(lease_s=0.3)) as hub:
        token = hub.tokens.create("w")
        handle = hub.submit(call("1", budget=budget))
        for instance in "abc":
            assert handle.result is None
            async with RawSession(hub, token, instance=instance) as worker:
                await worker.hear()
        with pytest.raises(WorkerLost):
            await handle.outcome()


async def test_a_task_that_nobody_can_run_says_who_nearly_could() -> None:
    async with Hub() as hub, working(hub):
        needs = TaskNeeds(tags=frozenset({"gpu"}), resources={"gpu": 2}, platform="plan9")
        handle = hub.submit(call("1", "add", needs=needs, patience_s=0.1))
        why = r"w offers it, but its platform is \w+, it lacks the tag gpu, it has 0 gpu"
        with pytest.raises(LookupError, match=why):
            await handle.outcome()


async def test_who_says_hello_twice_is_refused() -> None:
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        await worker.socket.send('{"type":"hello","role":"worker","profile":{}}')
        with anyio.fail_after(5):
            said = json.loads(await worker.socket.recv())
        assert (said["type"], said["code"]) == ("refused", "bad-message")


def test_what_would_be_ignored_is_refused() -> None:
    with pytest.raises(InvalidValue, match="only threads spend tokens"):
        call("1", budget=TaskBudget(tokens=5))
    with pytest.raises(InvalidValue, match="only threads have a model"):
        call("1", needs=TaskNeeds(fingerprint="f"))
