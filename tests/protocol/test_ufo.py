"""UFO³'s clients at a hub, by the frames that they send (sources: `tests.support.ufo_clients`)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from orchestrator.errors import InvalidValue, TaskCancelled
from protocol import Hub, Registry, RemoteFailure, TaskNeeds, TaskRequest, WorkerLost
from protocol.ufo import UfoServer, UfoSettings
from protocol.wire.messages import TaskBudget
from tests.support.protocol_tools import until, working
from tests.support.ufo_clients import (
    SYSTEM_INFO,
    Said,
    UfoDevice,
    Unrunnable,
    device,
    frame,
    galaxy,
)

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def ufo_server(**options: Any) -> AsyncIterator[tuple[Hub, UfoServer]]:
    options = {"discover_s": 0.5, "command_s": 5.0} | options
    async with Hub() as hub, UfoServer(hub, UfoSettings(**options)) as ufo:
        yield hub, ufo


async def shout(parameters: dict[str, Any]) -> str:
    if not parameters.get("text"):
        raise ValueError("nothing to shout")
    return str(parameters["text"]).upper()


def order(name: str, arguments: dict[str, Any], id: str = "1", **options: Any) -> TaskRequest:
    return TaskRequest(id=id, kind="tool", name=name, arguments=json.dumps(arguments), **options)


async def closed(socket: ClientConnection) -> None:
    """Wait until the other side has closed, whatever it said before."""
    with anyio.fail_after(5):
        async for _ in socket:
            pass


def orders(said: list[Said]) -> list[Said]:
    """Frames that ask for something: not the empty commands that follow each command."""
    return [one for one in said if one.actions != []]


def requested(*tools: str) -> str:
    return json.dumps({"commands": [{"tool_name": tool} for tool in tools]})


COMMANDS = json.dumps({"commands": [{"tool_name": "shout", "parameters": {"text": "hi"}}]})


async def test_a_device_joins_with_its_tools_and_answers_calls() -> None:
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"shout": shout}):
            await until(lambda: "dev1" in hub.workers)
            profile = hub.workers["dev1"]
            assert profile.platform == "linux"
            assert "browser" in profile.tags
            assert [offer.name for offer in profile.tools] == ["request", "shout"]
            outcome = await hub.submit(order("shout", {"text": "hi"})).outcome()
            assert (outcome.value, outcome.worker) == ('"HI"', "dev1")
            with pytest.raises(RemoteFailure, match="nothing to shout"):
                await hub.submit(order("shout", {}, id="2")).outcome()
        await until(lambda: "dev1" not in hub.workers)


async def test_a_device_is_given_a_request_and_asks_for_it_and_is_told_the_end() -> None:
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"shout": shout}) as dev:
            outcome = await hub.submit(order("request", {"request": COMMANDS})).outcome()
            assert json.loads(outcome.value) == ["HI"]
            await until(lambda: dev.ends)
            assert dev.tasks == [COMMANDS]
            heard = orders(dev.heard)
            kinds = [said.type for said in heard]
            assert kinds == ["command", "task", "heartbeat", "command", "task_end"]
            assert len({said.session_id for said in heard[1:]}) == 1
            assert (dev.ends[0].status, dev.ends[0].result) == ("completed", ["HI"])
            with pytest.raises(RemoteFailure, match="no model steers devices"):
                await hub.submit(order("request", {"request": "be loud"}, id="2")).outcome()


async def test_a_cancelled_task_gets_no_further_command() -> None:
    begun = anyio.Event()
    go_on = anyio.Event()

    async def slow(parameters: dict[str, Any]) -> str:
        begun.set()
        await go_on.wait()
        return "late"

    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"slow": slow, "shout": shout}) as dev:
            ticket = hub.submit(order("request", {"request": requested("slow", "shout")}))
            await begun.wait()
            ticket.cancel()
            with pytest.raises(TaskCancelled):
                await ticket.outcome()
            assert getattr(await ticket.ended(), "leaked", None) is True
            go_on.set()
            await until(lambda: dev.ends)
            assert (dev.ends[0].status, dev.ends[0].error) == ("failed", "cancelled")
            outcome = await hub.submit(order("shout", {"text": "on"}, id="2")).outcome()
            assert outcome.value == '"ON"'  # and the late result went nowhere
            tools = [a.tool_name for said in dev.heard for a in said.actions or ()]
            assert tools == ["list_tools", "slow", "shout"]


async def test_a_task_that_the_devices_own_user_types_is_run_and_ended_there() -> None:
    """``ufo/client/client.py --request TEXT`` sends ``task`` before any server asked for it."""
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"shout": shout}) as dev:
            await dev.start_task(COMMANDS, None)
            await until(lambda: dev.ends)
            assert (dev.tasks, dev.ends[0].result) == ([], ["HI"])


async def test_a_device_that_tells_no_tools_takes_requests_all_the_same() -> None:
    async with ufo_server(discover_s=0.1) as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with connect(f"{ufo.url}?token={token}") as socket:
            dev = UfoDevice(socket, "dev1", {})
            await dev.register()
            await until(lambda: "dev1" in hub.workers)
            assert [offer.name for offer in hub.workers["dev1"].tools] == ["request"]


async def test_a_result_that_json_can_not_hold_fails_its_task() -> None:
    async def measure(_: dict[str, Any]) -> Any:
        return {"weight": float("nan")}

    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"measure": measure}):
            await until(lambda: "dev1" in hub.workers)
            with pytest.raises(RemoteFailure, match="not JSON compliant"):
                await hub.submit(order("measure", {})).outcome()


async def test_results_that_are_empty_or_zero_come_back_as_none() -> None:
    """Their router sends ``data if data else None``."""

    async def nothing(parameters: dict[str, Any]) -> list[str]:
        return []

    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"nothing": nothing}):
            await until(lambda: "dev1" in hub.workers)
            assert (await hub.submit(order("nothing", {})).outcome()).value == "null"


async def test_a_command_that_a_device_cannot_carry_out_fails_at_once() -> None:
    """Their client answers nothing when a tool's server is down; the time limit is far away."""

    async def down(parameters: dict[str, Any]) -> None:
        raise Unrunnable

    async with ufo_server(command_s=300.0) as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"down": down, "shout": shout}) as dev:
            await until(lambda: "dev1" in hub.workers)
            with anyio.fail_after(5):
                with pytest.raises(RemoteFailure, match="could not carry out down"):
                    await hub.submit(order("down", {})).outcome()
                asked = {"request": requested("down")}
                with pytest.raises(RemoteFailure, match="could not carry out down"):
                    await hub.submit(order("request", asked, id="2")).outcome()
                outcome = await hub.submit(order("shout", {"text": "on"}, id="3")).outcome()
            assert outcome.value == '"ON"'
            await until(lambda: dev.ends)
            assert dev.ends[0].status == "failed"


async def test_an_unknown_tool_is_refused_with_the_names_of_the_known() -> None:
    async with ufo_server(command_s=300.0) as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"shout": shout}):
            asked = {"request": requested("whisper")}
            with (
                anyio.fail_after(5),
                pytest.raises(RemoteFailure, match="no tool 'whisper'; it has shout"),
            ):
                await hub.submit(order("request", asked)).outcome()


async def test_a_device_that_has_no_tools_to_tell_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tools' server is down: it answers what was asked next, and so not that."""
    monkeypatch.setattr("protocol.ufo.commands.GRACE_S", 0.05)
    async with ufo_server(discover_s=30.0) as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, agents={}):
            await until(lambda: "dev1" in hub.workers)


async def test_a_device_that_takes_commands_side_by_side_has_all_its_time() -> None:
    """Not so theirs; then an answer to a later frame says nothing of an earlier one."""

    async def slow(parameters: dict[str, Any]) -> str:
        await anyio.sleep(0.2)
        return "done"

    async def listed_slowly(agent: str | None, action: Any) -> dict[str, Any]:
        await anyio.sleep(0.02)
        return await UfoDevice.result(dev, agent, action)

    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with connect(f"{ufo.url}?token={token}") as socket:
            dev = UfoDevice(socket, "dev1", {"slow": slow}, eager=True)
            dev.result = listed_slowly  # type: ignore[method-assign]
            await dev.register()
            async with anyio.create_task_group() as group:
                group.start_soon(dev.listen)
                await until(lambda: "dev1" in hub.workers)
                assert (await hub.submit(order("slow", {})).outcome()).value == '"done"'
                group.cancel_scope.cancel()


async def test_a_windows_device_offers_the_tools_of_both_its_agents() -> None:
    """Windows are chosen by the host's agent and clicked by the application's."""

    async def where(parameters: dict[str, Any]) -> str:
        return "there"

    agents = {"HostAgent": {"choose": where}, "AppAgent": {"click": where, "choose": where}}
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, platform="windows", agents=agents) as dev:
            await until(lambda: "dev1" in hub.workers)
            names = [offer.name for offer in hub.workers["dev1"].tools]
            assert names == ["request", "choose", "click"]
            asked = {"request": requested("choose", "click")}
            outcome = await hub.submit(order("request", asked)).outcome()
            assert json.loads(outcome.value) == ["there", "there"]
            called = {
                a.tool_name: said.agent_name for said in dev.heard for a in said.actions or ()
            }
            assert (called["choose"], called["click"]) == ("HostAgent", "AppAgent")


async def test_a_task_of_a_lost_device_is_not_done_twice_if_so_asked() -> None:
    begun = anyio.Event()

    async def hang(parameters: dict[str, Any]) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"hang": hang}):
            once = TaskBudget(attempts=1)
            ticket = hub.submit(order("hang", {}, budget=once, needs=TaskNeeds(worker="dev1")))
            await begun.wait()
        with pytest.raises(WorkerLost):
            await ticket.outcome()


async def test_a_frame_that_is_too_large_is_named_as_what_the_task_was_lost_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def picture(parameters: dict[str, Any]) -> str:
        return "x" * 10_000

    monkeypatch.setattr("protocol.ufo.server.MOST_FRAME", 4096)
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with (
            connect(f"{ufo.url}?token={token}") as socket,
            anyio.create_task_group() as group,
        ):
            dev = UfoDevice(socket, "dev1", {"picture": picture})

            async def listen() -> None:
                try:
                    await dev.listen()
                except* ConnectionClosed:
                    pass

            await dev.register()
            group.start_soon(listen)
            await until(lambda: "dev1" in hub.workers)
            with pytest.raises(WorkerLost, match="a frame that is too large"):
                await hub.submit(order("picture", {}, budget=TaskBudget(attempts=1))).outcome()


async def test_a_returning_device_replaces_its_half_open_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.ufo.server.ALIVE_S", 0.1)
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with connect(f"{ufo.url}?token={token}") as first:
            await UfoDevice(first, "dev1", {}).register()
            first.transport.pause_reading()
            async with device(ufo.url, token, tools={"shout": shout}):
                first.transport.resume_reading()
                await closed(first)
                outcome = await hub.submit(order("shout", {"text": "new"})).outcome()
                assert outcome.value == '"NEW"'


async def test_a_second_client_of_one_name_is_refused_while_the_first_is_there() -> None:
    """Their client dials again when it is put out: two would put each other out for ever."""
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"shout": shout}):
            async with connect(f"{ufo.url}?token={token}") as second:
                answer = await UfoDevice(second, "dev1", {}).register()
                assert (answer.status, answer.type) == ("error", "error")
                assert "'dev1' is connected already" in (answer.error or "")
                with pytest.raises(ConnectionClosed):
                    await second.recv()
            outcome = await hub.submit(order("shout", {"text": "old"})).outcome()
            assert outcome.value == '"OLD"'


async def test_a_galaxy_client_uses_the_hub_as_its_devices_server() -> None:
    """Register, device info, heartbeats under the wrong role, a task, its result by session."""
    async with ufo_server() as (hub, ufo):
        dev_token = hub.tokens.create("dev1")
        token = hub.tokens.create("galaxy", scopes=("submit",))
        async with (
            device(ufo.url, dev_token, tools={"shout": shout}) as dev,
            galaxy(ufo.url, token, "dev1") as client,
        ):
            answer = await client.register()
            assert (answer.type, answer.status) == ("heartbeat", "ok")
            assert (await client.device_info()).result == SYSTEM_INFO
            assert (await client.heartbeat()).status == "ok"
            end = await client.run(COMMANDS)
            assert (end.status, end.result, end.error) == ("completed", ["HI"], None)
            assert dev.tasks == [COMMANDS]
            again = await client.run(COMMANDS)  # their retry has the same session
            assert again.status == "completed"
            assert dev.tasks == [COMMANDS] * 2
            failed = await client.run("be loud", "t2")
            assert failed.status == "failed"
            assert "no model steers devices" in (failed.error or "")


async def test_a_new_galaxy_request_of_the_same_name_replaces_the_old_one() -> None:
    """It gives up by its own clock, tells nobody, and may try other words under the same name."""
    begun = anyio.Event()
    go_on = anyio.Event()

    async def hang(parameters: dict[str, Any]) -> str:
        begun.set()
        await go_on.wait()
        return "old"

    async with ufo_server() as (hub, ufo):
        dev_token = hub.tokens.create("dev1")
        token = hub.tokens.create("galaxy", scopes=("submit",))
        async with (
            device(ufo.url, dev_token, tools={"hang": hang, "shout": shout}) as dev,
            galaxy(ufo.url, token, "dev1") as client,
        ):
            await client.register()
            await client.start(requested("hang"))
            await begun.wait()
            await client.start(requested("hang"))  # the same words: the same task
            await client.start(COMMANDS)
            await until(lambda: len(orders(dev.heard)) >= 4)
            go_on.set()
            end = await client.next("task_end")
            assert (end.status, end.result) == ("completed", ["HI"])
            await until(lambda: len(dev.ends) == 2)
            assert [said.error for said in dev.ends] == ["cancelled", None]
            assert dev.tasks == [requested("hang"), COMMANDS]


async def test_a_galaxy_client_that_leaves_has_its_tasks_cancelled() -> None:
    begun = anyio.Event()

    async def hang(parameters: dict[str, Any]) -> None:
        begun.set()
        await anyio.sleep(1)

    async with ufo_server() as (hub, ufo):
        dev_token = hub.tokens.create("dev1")
        token = hub.tokens.create("galaxy", scopes=("submit",))
        async with device(ufo.url, dev_token, tools={"hang": hang}) as dev:
            async with galaxy(ufo.url, token, "dev1") as client:
                await client.register()
                await client.start(requested("hang"))
                await begun.wait()
            await until(lambda: dev.ends)
            assert dev.ends[0].error == "cancelled"


async def test_a_galaxy_client_reaches_our_own_workers_that_take_requests() -> None:
    registry = Registry()

    @registry.tool
    def request(request: str) -> dict[str, str]:
        return {"echo": request}

    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("galaxy", scopes=("submit",))
        async with (
            working(hub, "box", registry=registry),
            working(hub, "bare"),
            galaxy(ufo.url, token, "box") as client,
            galaxy(ufo.url, token, "bare") as other,
        ):
            await client.register()
            assert (await client.run("do X")).result == {"echo": "do X"}
            assert (await client.device_info()).result["device_id"] == "box"
            await other.register()
            assert "no tool named 'request'" in ((await other.run("do X")).error or "")


async def test_a_galaxy_client_that_dials_before_its_device_waits_for_it() -> None:
    """After a hub's restart both dial again, in no order, and it gives up after five tries."""
    async with ufo_server() as (hub, ufo):
        dev_token = hub.tokens.create("dev1")
        token = hub.tokens.create("galaxy", scopes=("submit",))
        answers: list[Said] = []
        async with galaxy(ufo.url, token, "dev1") as client, anyio.create_task_group() as group:

            async def register() -> None:
                answers.append(await client.register())

            group.start_soon(register)
            await anyio.sleep(0.1)
            assert answers == []
            async with device(ufo.url, dev_token, tools={"shout": shout}):
                await until(lambda: answers)
                assert answers[0].status == "ok"
                assert (await client.run(COMMANDS)).result == ["HI"]


async def test_a_galaxy_client_is_told_that_its_device_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.ufo.server.ARRIVAL_S", 0.05)
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("galaxy", scopes=("submit",))
        async with galaxy(ufo.url, token, "dev9") as client:
            answer = await client.register()
            assert (answer.type, answer.status) == ("error", "error")
            assert answer.error == "Target device 'dev9' is not connected"
            with pytest.raises(ConnectionClosed):
                await client.socket.recv()


@pytest.mark.parametrize(
    ("query", "headers", "told"),
    [
        ("", {}, "bad-token"),
        ("?token=rt_0_0", {}, "bad-token"),
        ("", {"Authorization": "Bearer rt_0_0"}, "bad-token"),
    ],
)
async def test_nobody_comes_in_without_a_token(
    query: str, headers: dict[str, str], told: str
) -> None:
    async with (
        ufo_server() as (_, ufo),
        connect(ufo.url + query, additional_headers=headers) as socket,
    ):
        assert told in json.loads(await socket.recv())["error"]
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_a_token_is_for_its_scope_and_its_name() -> None:
    async with ufo_server() as (hub, ufo):
        submit = hub.tokens.create("galaxy", scopes=("submit",))
        work = hub.tokens.create("dev1")
        async with connect(f"{ufo.url}?token={submit}") as socket:
            assert "not for a device" in (
                (await UfoDevice(socket, "dev1", {}).register()).error or ""
            )
        async with galaxy(ufo.url, work, "") as client:
            assert "may not submit" in ((await client.register()).error or "")
        async with device(ufo.url, work, name="dev2"):
            await until(lambda: hub.workers)
            assert set(hub.workers) == {"dev1/dev2"}  # it can't take another's place


async def test_a_token_in_a_header_does_and_a_revoked_one_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.ufo.server.RECHECK_S", 0.05)
    async with ufo_server() as (hub, ufo):
        headers = {"X-API-Key": hub.tokens.create("dev1")}
        async with connect(ufo.url, additional_headers=headers) as socket:
            assert (await UfoDevice(socket, "dev1", {}).register()).status == "ok"
            hub.tokens.revoke("dev1")
            await closed(socket)


async def test_foreign_origins_paths_and_first_frames_are_refused() -> None:
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        with pytest.raises(InvalidStatus):
            async with connect(f"{ufo.url}?token={token}", origin="http://evil.example"):
                pass
        with pytest.raises(InvalidStatus):
            async with connect(ufo.url.removesuffix("/ws")):
                pass
        async with connect(f"{ufo.url}?token={token}") as socket:
            await socket.send(frame("heartbeat", "ok", client_id="dev1"))
            assert "begins with register" in json.loads(await socket.recv())["error"]
        async with connect(f"{ufo.url}?token={token}") as socket:
            answer = await UfoDevice(socket, "dev\x1b[2J", {}).register()
            assert "control characters" in (answer.error or "")


async def test_what_is_no_frame_is_answered_by_an_error_and_the_connection_stays() -> None:
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with device(ufo.url, token, tools={"shout": shout}) as dev:
            for junk in ("{", '{"type":"binary_data","size":3}', b"\x00\x01"):
                await dev.socket.send(junk)
            await dev.heartbeat()
            await until(lambda: [said.type for said in dev.heard][-1:] == ["heartbeat"])
            assert [said.type for said in dev.heard].count("error") == 3


async def test_a_silent_socket_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.ufo.server.HELLO_S", 0.1)
    async with ufo_server() as (hub, ufo):
        token = hub.tokens.create("dev1")
        async with connect(f"{ufo.url}?token={token}") as socket:
            with pytest.raises(ConnectionClosed), anyio.fail_after(5):
                await socket.recv()


def test_other_addresses_are_bound_with_tls_only() -> None:
    with pytest.raises(InvalidValue, match=r"host: .* can be reached"):
        UfoServer(Hub(), UfoSettings(host="0.0.0.0"))
