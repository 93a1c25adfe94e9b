"""Constellations with a scripted planner: what it may write, and what becomes of it."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Event, TaskStarted
from orchestrator.errors import InvalidValue
from protocol import Client, Hub, HubSettings, Profile, Registry
from protocol.hub.directory import Directory, devices
from reasoning.errors import CapabilityMissing
from reasoning.models.loaded import LoadedModel
from reasoning.planning import (
    ChatClient,
    Constellation,
    ConstellationResult,
    DeviceChanged,
    ModelPilot,
    PlanApplied,
    PlannerReply,
    PlanRefused,
    TaskGiven,
    TaskPlaced,
    TaskReturned,
    TaskUnplaced,
)
from reasoning.planning.calls import CallLimits
from reasoning.planning.devices import DevicePool, PlannedCall
from reasoning.planning.reply import AddTask
from tests.support.planning_tools import Reply, Script, add, fleet, tools
from tests.support.protocol_tools import RawSession, until, working
from tests.support.ufo_clients import device

anyio_test = pytest.mark.anyio


async def carried_out(
    hub: Hub, script: Script, *, seconds: float = 20, **options: Any
) -> tuple[ConstellationResult, list[Event]]:
    constellation = Constellation(hub, script, **options)
    events: list[Event] = []
    constellation.events.subscribe(events.append)
    return await constellation.run("Count the files", seconds=seconds), events


def refusals(events: list[Event]) -> list[str]:
    return [why for event in events if isinstance(event, PlanRefused) for why in event.reasons]


@anyio_test
async def test_a_request_becomes_tasks_on_devices_and_their_results_an_answer() -> None:
    plan = [
        add("a", "read", {"path": "x"}),
        add("b", "read", {"path": "y"}),
        add("n", "count", {"texts": [{"$task": "a"}, {"$task": "b"}]}),
    ]

    def look(prompt: str) -> dict[str, Any]:
        return {"answer": "18"} if "n: count" in prompt and "with 18" in prompt else {}

    async with fleet() as hub:
        outcome, events = await carried_out(hub, Script({"edits": plan}, look, look, look))
    assert (outcome.answer, outcome.status, outcome.refused) == ("18", "answered", 0)
    assert {task.id: task.value for task in outcome.tasks}["n"] == 18
    assert {task.device for task in outcome.tasks} == {"box"}
    (applied,) = [event for event in events if isinstance(event, PlanApplied)]
    assert [edit.op for edit in applied.plan.edits] == ["add"] * 3
    assert len([event for event in events if isinstance(event, TaskPlaced)]) == 3


@anyio_test
async def test_tasks_go_to_devices_that_can_run_them() -> None:
    plan = [
        add("any", "read", {"path": "x"}),
        add("gpu", "read", {"path": "x"}, tags=["gpu"]),
        add("pinned", "read", {"path": "x"}, device="small"),
    ]
    async with fleet(small={}, big={"tags": {"gpu"}}) as hub:
        outcome, _ = await carried_out(hub, Script({"edits": plan}, {}, {}, {}, {"answer": "done"}))
    ran = {task.id: task.device for task in outcome.tasks}
    assert (ran["gpu"], ran["pinned"]) == ("big", "small")


@anyio_test
async def test_the_planner_edits_while_others_run_and_nothing_waits_for_it() -> None:
    """The published system holds back a ready task until every edit is over; here it starts."""
    started: list[str] = []
    b_started = anyio.Event()

    class Slow(Script):
        async def reply(self, prompt: str, schema: str) -> str:
            if self.prompts:  # asked because a has ended: b has to start meanwhile
                with anyio.fail_after(10):
                    await b_started.wait()
            return await super().reply(prompt, schema)

    plan = [
        add("a", "wait", {"seconds": 0.05}),
        add("b", "read", {"path": "x"}, after={"a": "success"}),
    ]
    more = [add("c", "read", {"path": "z"}, after={"a": "success"})]
    script = Slow({"edits": plan}, {"edits": more}, {}, *[{"answer": "done"}] * 2)
    async with fleet() as hub:
        constellation = Constellation(hub, script)

        def look(event: Event) -> None:
            if isinstance(event, TaskStarted):
                started.append(event.task)
                if event.task == "b":
                    b_started.set()

        constellation.events.subscribe(look)
        outcome = await constellation.run("x", seconds=30)
    assert outcome.status == "answered"
    assert started == ["a", "b", "c"]


@anyio_test
async def test_a_failure_is_shown_to_the_planner_which_mends_the_plan() -> None:
    bad = [add("a", "break_down"), add("n", "count", {"texts": [{"$task": "a"}]})]

    def mend(prompt: str) -> dict[str, Any]:
        assert "a: break_down {} is failed: OSError: disk is full" in prompt
        assert 'n: count {"texts": [{"$task": "a"}]} is skipped' in prompt
        return {"edits": [add("b", "read", {"path": "x"})]}

    script = Script({"edits": bad}, mend, {"answer": "mended"})
    async with fleet() as hub:
        outcome, _ = await carried_out(hub, script)
    assert outcome.answer == "mended"
    assert [task.state for task in outcome.tasks] == ["failed", "skipped", "succeeded"]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("Let me think.", "the reply holds no JSON object"),
        ('{"edits": [', "the reply is no JSON"),
        ({"edit": []}, "edit: Extra inputs"),
        ({"edits": [{"op": "explode"}]}, "edits.0: Input tag 'explode'"),
        ({"edits": [add("a b", "read", {"path": "x"})]}, "edits.0.add.id"),
        ({"edits": [add("b", "fly")]}, "add b: tool: no device offers 'fly' (there"),
        ({"edits": [add("b", "read", {"file": 1})]}, "add b: arguments: 'file' is unknown; read"),
        ({"edits": [add("b", "read")]}, "add b: arguments: 'path' is missing"),
        ({"edits": [add("b", "read", {"path": "x"}, device="moon")]}, "add b: device: 'moon' is"),
        ({"edits": [add("b", "read", {"path": "x"}, tags=["gpu"])]}, "add b: tags: none of box"),
        ({"edits": [add("a", "read", {"path": "x"})]}, "add a: there is a task a already"),
        ({"edits": [add("b", "read", {"path": {"$task": "z"}})]}, "add b: there is no task z"),
        (
            {"edits": [add("b", "read", {"path": "x"}, after={"a": "import os"})]},
            "edits.0.add.after.a",
        ),
        (
            {"edits": [add("b", "read", {"path": {"$task": "b"}})]},
            "add b: task b would wait for itself; let it wait for another",
        ),
        (
            {
                "edits": [
                    add("b", "read", {"path": "x"}, after={"c": "success"}),
                    add("c", "read", {"path": "x"}),
                ]
            },
            "add b: task c is added later in the same edit; add it before",
        ),
        ({"edits": [{"op": "remove", "id": "a"}]}, "remove a: task a is running"),
        ({"edits": [{"op": "change", "id": "z", "tool": "read"}]}, "change z: there is no such"),
        (
            {
                "edits": [
                    add("b", "read", {"path": "x"}),
                    add("c", "read", {"path": "x"}, after={"b": "success"}),
                    {"op": "connect", "source": "c", "target": "b"},
                ]
            },
            "connect b: ",
        ),
    ],
)
@anyio_test
async def test_a_bad_edit_is_refused_by_name_and_the_planner_is_told(
    reply: Reply, told: str
) -> None:
    plan = [add("s", "read", {"path": "s"}), add("a", "wait", {"seconds": 30})]
    script = Script({"edits": plan}, reply, {"answer": "done"})  # asked again when s has ended
    async with fleet() as hub:
        outcome, events = await carried_out(hub, script)
    (why,) = refusals(events)
    assert told in why
    assert f"your last reply was refused: {why}" in script.prompts[2]
    assert {task.id for task in outcome.tasks} == {"s", "a"}  # nothing of it was applied


@anyio_test
async def test_waiting_tasks_are_changed_rewired_and_removed() -> None:
    plan = [
        add("s", "read", {"path": "s"}),
        add("a", "wait", {"seconds": 1.0}),
        add("b", "read", {"path": "old"}, after={"a": "success"}),
        add("c", "read", {"path": "x"}, after={"a": "success"}),
        add("d", "read", {"path": "x"}, after={"a": "success"}),
    ]
    edits = [
        {"op": "change", "id": "b", "arguments": {"path": "new"}},
        {"op": "remove", "id": "c"},
        {"op": "disconnect", "source": "a", "target": "d"},
        {"op": "connect", "source": "s", "target": "d", "when": "completion"},
    ]

    def end(prompt: str) -> dict[str, Any]:
        return {"answer": "ok"} if "b: read" in prompt and 'with "text of new"' in prompt else {}

    script = Script({"edits": plan}, {"edits": edits}, *[end] * 6)
    async with fleet() as hub:
        outcome, events = await carried_out(hub, script)
    assert refusals(events) == []
    assert outcome.answer == "ok"
    assert {task.id: task.value for task in outcome.tasks} == {
        "s": "text of s",
        "a": "waited",
        "b": "text of new",
        "d": "text of x",
    }


@anyio_test
async def test_a_planner_that_has_nothing_to_say_is_stuck_not_endless() -> None:
    async with fleet() as hub:
        outcome, _ = await carried_out(hub, Script())
        assert (outcome.status, outcome.answer, outcome.turns) == ("stuck", None, 4)
        script = Script(*["nonsense"] * 50)
        outcome, _ = await carried_out(hub, script, most_turns=3)
        assert (outcome.status, outcome.refused) == ("turns", 3)
        late = Script({"edits": [add("a", "wait", {"seconds": 60})]})
        outcome, _ = await carried_out(hub, late, seconds=0.5)
        assert outcome.status == "timed-out"
        assert [task.state for task in outcome.tasks] == ["cancelled"]


@anyio_test
async def test_the_same_refusal_again_and_again_ends_the_run_and_says_why() -> None:
    async with fleet() as hub:
        outcome, events = await carried_out(hub, Script(*["nonsense"] * 50))
    assert (outcome.status, outcome.refused, outcome.answer) == ("refused", 4, None)
    assert outcome.reasons == tuple(refusals(events)[-1:])
    assert "the reply holds no JSON object" in outcome.reasons[0]


@anyio_test
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_person_and_the_planner_are_told_what_becomes_of_devices(elsewhere: bool) -> None:
    """A device that hangs is told of before its lease ends, and its task goes on elsewhere."""
    seen: list[Event] = []

    def away(prompt: str) -> dict[str, Any]:
        assert "device stuck is not heard of; it had a" in prompt
        return {}

    def gone(prompt: str) -> dict[str, Any]:
        assert "device stuck is gone: its lease ended; it had a" in prompt
        return {}

    script = Script({"edits": [add("a", "t", {})]}, away, gone, {"answer": "1"})
    async with Hub(HubSettings(lease_s=0.8)) as hub, AsyncExitStack() as stack:
        Directory(hub).open()
        submitter: Hub | Client = hub
        if elsewhere:
            token = hub.tokens.create("me", scopes=("submit",))
            submitter = await stack.enter_async_context(Client(hub.url, token))
        await stack.enter_async_context(RawSession(hub, hub.tokens.create("stuck")))
        constellation = Constellation(submitter, script)
        constellation.events.subscribe(seen.append)

        done: list[ConstellationResult] = []

        async def run() -> None:
            done.append(await constellation.run("x", seconds=20))

        mine = Registry()
        mine.tool(one, name="t")
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await until(lambda: any(isinstance(event, TaskGiven) for event in seen))
            async with working(hub, "other", registry=mine):
                await until(lambda: done)
    assert done[0].answer == "1"
    states = [event.state for event in seen if isinstance(event, DeviceChanged)]
    assert [state for state in states if state != "here"] == ["away", "gone"]
    given = [(e.device, e.attempt) for e in seen if isinstance(e, TaskGiven)]
    assert given == [("stuck", 1), ("other", 2)]
    assert [event.value for event in seen if isinstance(event, TaskReturned)] == ["1"]


def one() -> int:
    return 1


@anyio_test
async def test_a_task_that_no_device_can_take_says_at_once_who_nearly_could() -> None:
    seen: list[Event] = []

    def told(prompt: str) -> dict[str, Any]:
        assert "a waits: no connected worker can run tool read, worker big" in prompt
        return {"answer": "it is gone"}

    async with fleet(small={}, big={"tags": {"gpu"}}) as hub:

        class Leaving(Script):
            async def reply(self, prompt: str, schema: str) -> str:
                reply = await super().reply(prompt, schema)
                if len(self.prompts) == 1:
                    hub.detach(hub.connected["big"], "it left")
                return reply

        script = Leaving({"edits": [add("a", "read", {"path": "x"}, device="big")]}, told)
        constellation = Constellation(hub, script, limits=CallLimits(patience_s=60))
        constellation.events.subscribe(seen.append)
        outcome = await constellation.run("x", seconds=20)
    assert outcome.answer == "it is gone"
    (waits,) = [event for event in seen if isinstance(event, TaskUnplaced)]
    assert "small offers it, but the task is for big alone" in waits.why


@anyio_test
async def test_an_answer_stops_what_still_runs() -> None:
    plan = [add("a", "read", {"path": "x"}), add("b", "wait", {"seconds": 60})]
    async with fleet() as hub:
        outcome, _ = await carried_out(hub, Script({"edits": plan}, {"answer": "enough"}))
    assert outcome.answer == "enough"
    assert [task.state for task in outcome.tasks] == ["succeeded", "cancelled"]


@anyio_test
async def test_a_lost_device_costs_an_attempt_not_the_task() -> None:
    plan = {"edits": [add("a", "wait", {"seconds": 0.4})]}
    done: list[ConstellationResult] = []

    def lost(prompt: str) -> dict[str, Any]:
        """It is asked at once, not when the task ends."""
        assert f"device {busy.id} is gone: it was killed; it had a" in prompt
        return {}

    async with fleet(first={}, second={}) as hub:
        constellation = Constellation(hub, Script(plan, lost, {"answer": "ok"}))

        async def run() -> None:
            done.append(await constellation.run("x", seconds=20))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await until(lambda: any(worker.assigned for worker in hub.connected.values()))
            (busy,) = [worker for worker in hub.connected.values() if worker.assigned]
            hub.detach(busy, "it was killed")
    (task,) = done[0].tasks
    assert (task.state, task.attempts) == ("succeeded", 2)
    assert task.device != busy.id


@anyio_test
async def test_a_tool_that_no_device_has_any_more_fails_the_task_in_time() -> None:
    def told(prompt: str) -> dict[str, Any]:
        assert "no connected worker can run" in prompt
        return {"answer": "there is no device left"}

    script = Script({"edits": [add("a", "read", {"path": "x"}, after={"w": "success"})]}, told)
    script.replies[0]["edits"].insert(0, add("w", "wait", {"seconds": 0.2}))  # type: ignore[index,call-overload]
    async with Hub() as hub, working(hub, "box", registry=tools):
        constellation = Constellation(hub, script, limits=CallLimits(patience_s=0.2))
        outcomes: list[ConstellationResult] = []

        async def run() -> None:
            outcomes.append(await constellation.run("x", seconds=20))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await anyio.sleep(0.1)
            hub.detach(hub.connected["box"], "gone")
    assert outcomes[0].answer == "there is no device left"


@anyio_test
async def test_a_client_of_a_hub_elsewhere_sees_its_devices_and_plans_on_them() -> None:
    async with fleet(box={}) as hub:
        Directory(hub).open()
        token = hub.tokens.create("me", scopes=("submit",))
        async with Client(hub.url, token) as client:
            script = Script({"edits": [add("a", "read", {"path": "x"})]}, {"answer": "ok"})
            outcome = await Constellation(client, script).run("x", seconds=20)
    assert outcome.answer == "ok"
    assert outcome.tasks[0].device == "box"
    assert "hub.devices" not in script.prompts[0]


@anyio_test
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_whoever_asks_for_two_devices_waits_until_both_are_there(elsewhere: bool) -> None:
    async with Hub() as hub, AsyncExitStack() as stack:
        Directory(hub).open()
        submitter: Hub | Client = hub
        if elsewhere:
            token = hub.tokens.create("me", scopes=("submit",))
            submitter = await stack.enter_async_context(Client(hub.url, token))
        found: list[set[str]] = []

        async def ask(id: str) -> None:
            found.append(set(await devices(submitter, id, least=2)))

        async with working(hub, "first", registry=tools), anyio.create_task_group() as group:
            group.start_soon(ask, "waits")
            with anyio.move_on_after(0.2):  # one that gives up leaves nothing behind
                await ask("gives up")
            assert found == []
            async with working(hub, "second", registry=tools):
                await until(lambda: found)
        assert found == [{"first", "second"}]


@anyio_test
async def test_a_ufo_device_is_a_device_like_others_and_a_model_steers_it() -> None:
    from protocol.ufo import UfoServer

    async def shout(parameters: dict[str, Any]) -> str:
        return str(parameters["text"]).upper()

    pilot = Script(
        {"tool": "fly"},
        {"tool": "shout", "parameters": {"text": "hi"}},
        {"done": True, "result": "HI"},
    )
    plan = [add("a", "shout", {"text": "yo"}), add("b", "request", {"request": "shout hi"})]
    async with (
        Hub() as hub,
        UfoServer(hub, pilot=ModelPilot(pilot)) as ufo,
        device(ufo.url, hub.tokens.create("dev1"), tools={"shout": shout}),
    ):
        await until(lambda: hub.workers)
        outcome, _ = await carried_out(hub, Script({"edits": plan}, {}, {"answer": "ok"}))
    assert {task.id: task.value for task in outcome.tasks} == {"a": "YO", "b": "HI"}
    assert "fly {} was refused: there is no such tool" in pilot.prompts[1]
    assert 'returned "HI"' in pilot.prompts[2]


def test_waits_may_be_a_list_and_text_may_hold_what_json_should_escape() -> None:
    waits = [{"task": "x", "when": "completion"}, {"task": "y"}]
    found = PlannerReply.parse(json.dumps({"edits": [add("a", "read", after=waits)]}))
    (edit,) = found.edits
    assert isinstance(edit, AddTask)
    assert {id: str(when) for id, when in edit.after.items()} == {"x": "completion", "y": "success"}
    assert PlannerReply.parse('{"thought": "a\tb\n"}').thought == "a\tb\n"
    with pytest.raises(InvalidValue, match="after"):
        PlannerReply.parse(json.dumps({"edits": [add("a", "read", after=[{"job": "x"}])]}))


def test_a_reply_may_think_first_and_fence_its_json() -> None:
    text = '<think>{"edits": 1}</think>\nHere:\n```json\n{"answer": "4"}\n```\nDone {}.'
    assert PlannerReply.parse(text).answer == "4"


@given(st.text() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_whatever_a_model_writes_is_a_plan_or_an_error_of_one_line(text: str) -> None:
    with suppress(InvalidValue):
        assert isinstance(PlannerReply.parse(text), PlannerReply)


def test_arguments_of_a_tool_that_says_nothing_of_them_are_let_through() -> None:
    from protocol import Offer

    offer = Offer(name="t", parameters="{}", result="{}")
    found = DevicePool({"d": Profile(tools=(offer,))})
    assert found.kind(PlannedCall(tool="t", arguments={"anything": 1})) == "tool"


def test_a_model_that_knows_only_our_markup_is_refused(shipped: LoadedModel) -> None:
    with pytest.raises(CapabilityMissing, match="can't plan"):
        ChatClient(shipped)


@anyio_test
async def test_an_embedded_chat_model_is_asked_and_its_nonsense_refused(
    general: LoadedModel,
) -> None:
    """The model is real, tiny and random: all of the path runs, and nothing it writes passes."""
    async with fleet() as hub, ChatClient(general) as chat:
        constellation = Constellation(hub, chat, most_turns=1)
        with pytest.raises(InvalidValue, match="tokens and the context is"):
            await constellation.run("x", seconds=60)
        text = await chat.reply("x", "{}")
    assert chat.written > 0
    with pytest.raises(InvalidValue):
        PlannerReply.parse(text)
