"""Hostile peers, texts and files: each of these once worked, or might have."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve

from orchestrator.errors import InvalidValue
from protocol import ConnectionRefused, Hub, HubSettings, TaskRequest, TokenStore, Worker
from protocol.hub import handshake
from protocol.hub.directory import NEWS, Directory
from protocol.wire.bounded import Allowance, BoundedTable
from tests.support.protocol_tools import RawSession, until, working
from tests.support.shell import running_shell

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"type": "task", "kind": "tool", "name": "t", "arguments": "{}"}
ESCAPE = "\x1b[2J\x1b]0;owned\x07"


def call(id: str, name: str = "t", **options: Any) -> TaskRequest:
    return TaskRequest(id=id, kind="tool", name=name, **options)


def news(id: str, own: str = "") -> dict[str, Any]:
    arguments = json.dumps({"id": own or id})
    return {**ASK, "id": id, "name": NEWS, "arguments": arguments}


# ---- the directory -------------------------------------------------------------------------------


async def test_news_of_tasks_are_for_their_client_alone() -> None:
    async with Hub() as hub, working(hub, "w"):
        Directory(hub).open()
        tokens = {name: hub.tokens.create(name, scopes=["submit"]) for name in ("me", "me2")}
        async with (
            RawSession(hub, tokens["me"], "client") as mine,
            RawSession(hub, tokens["me2"], "client") as other,
        ):
            await mine.say(news("n"))
            await other.say(news("n"))
            await until(lambda: len(hub.connected["hub"].assigned) == 2)
            add = {**ASK, "id": "secret-7", "name": "add", "arguments": '{"a": 1, "b": 2}'}
            await mine.say(add)
            told = json.loads((await mine.hear())["text"])
            assert (told["what"], told["task"], told["worker"]) == ("given", "secret-7", "w")
            assert (await mine.hear())["value"] == "3"
            hub.detach(hub.connected["w"], "it left")
            seen = json.loads((await other.hear())["text"])
            assert seen == {"what": "gone", "worker": "w", "why": "it left"}


@pytest.mark.parametrize("own", ["", "x", "/n", "me/n", "n" * 401])
async def test_a_question_for_news_names_itself_and_nothing_wider(own: str) -> None:
    async with Hub() as hub:
        Directory(hub).open()
        token = hub.tokens.create("me", scopes=["submit"])
        async with RawSession(hub, token, "client") as peer:
            await peer.say({**news("n"), "arguments": json.dumps({"id": own})})
            assert (await peer.hear())["failure"]["code"] in ("bad-message", "bad-arguments")


async def test_a_client_follows_the_news_once_however_often_it_asks() -> None:
    async with Hub() as hub:
        Directory(hub).open()
        token = hub.tokens.create("me", scopes=["submit"])
        async with RawSession(hub, token, "client") as peer:
            await peer.say(*[news(str(number)) for number in range(200)])
            for number in range(199):
                told = await peer.hear()
                assert (told["id"], told["failure"]["code"]) == (str(number), "replaced")
            async with working(hub, "w"):
                assert json.loads((await peer.hear())["text"])["what"] == "here"


# ---- what peers make a hub keep ------------------------------------------------------------------


async def test_a_task_that_is_no_thread_keeps_no_inputs() -> None:
    async with Hub() as hub, RawSession(hub, hub.tokens.create("w")) as worker:
        handle = hub.submit(call("1"))
        await worker.hear()
        for _ in range(3):
            with pytest.raises(InvalidValue, match="is no thread"):
                handle.extend((1, 2, 3))
        assert handle.inputs == []


async def test_the_sessions_of_one_token_share_what_they_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of the tasks that may wait; the rest is for others."""
    monkeypatch.setattr(handshake, "MOST_BYTES", 10_000)
    async with Hub(HubSettings(most_waiting=8)) as hub:
        token = hub.tokens.create("greedy", scopes=["submit"])
        tokens = {"a": token, "b": token}
        async with (
            RawSession(hub, tokens["a"], "client", instance="a") as one,
            RawSession(hub, tokens["b"], "client", instance="b") as two,
        ):
            await one.say(*[{**ASK, "id": str(number)} for number in range(3)])
            await until(lambda: hub._dispatcher._tasks.keys() >= {"greedy/a/2"})
            await two.say(*[{**ASK, "id": str(number)} for number in range(3)])
            codes = [(await two.hear())["failure"] for _ in range(2)]
            assert [failure["code"] for failure in codes] == ["congested"] * 2
            assert "the clients of greedy have 4 tasks" in codes[0]["message"]
            handle = hub.submit(call("others"))
            assert handle.state == "queued"
            await two.say({"type": "cancel", "id": "0"})
            assert (await two.hear())["type"] == "cancelled"
            long = {**ASK, "id": "long", "arguments": json.dumps({"x": "y" * 11_000})}
            await two.say(long)
            assert (await two.hear())["failure"]["code"] == "congested"
            await two.say({**ASK, "id": "again"})
            await until(lambda: "greedy/b/again" in hub._dispatcher._tasks)


async def test_profiles_of_one_token_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "MOST_BYTES", 100_000)
    offer = {"name": "t", "description": "d" * 60_000, "parameters": "{}", "result": "{}"}
    async with Hub() as hub:
        token = hub.tokens.create("w")
        options: dict[str, Any] = {"profile": {"tools": [offer]}}
        async with RawSession(hub, token, instance="a", **options) as first:
            assert first.welcome["type"] == "welcome"
            async with RawSession(hub, token, instance="b", **options) as second:
                assert second.welcome["code"] == "congested"
            assert set(hub.workers) == {"w/a"}
            await first.socket.send('{"type":"refused","code":"draining","message":"bye"}')
            await until(lambda: not hub.workers)
        async with RawSession(hub, token, instance="c", **options) as third:
            assert third.welcome["type"] == "welcome"


def test_tables_that_share_an_allowance_forget_before_it_is_overdrawn() -> None:
    allowance = Allowance(100, 10)
    one: BoundedTable[int] = BoundedTable(10, 1000, allowance)
    two: BoundedTable[int] = BoundedTable(10, 1000, allowance)
    one.add("a", 1, 60)
    two.add("b", 2, 30)
    two.add("c", 3, 50)
    assert ("a" in one, "b" in two, "c" in two) == (True, False, False)
    one.clear()
    assert allowance.bytes == 0
    two.add("d", 4, 90)
    assert "d" in two


@pytest.mark.parametrize("more", [{"fence": 7}, {"attempt": 3}, {"proof": "x"}])
async def test_what_a_client_says_and_nobody_heeds_is_refused(more: dict[str, Any]) -> None:
    async with Hub() as hub:
        token = hub.tokens.create("me", scopes=["submit"])
        async with RawSession(hub, token, "client") as peer:
            await peer.say({**ASK, "id": "1", **more})
            failure = (await peer.hear())["failure"]
            assert (failure["code"], next(iter(more)) in failure["message"]) == (
                "bad-message",
                True,
            )
        async with RawSession(hub, token, "client", profile={"slots": 3}) as peer:
            assert peer.welcome["code"] == "bad-message"


async def test_a_hub_of_another_version_is_not_believed() -> None:
    async def welcome(socket: ServerConnection) -> None:
        await socket.recv()
        said = {"type": "welcome", "version": 2, "id": "x", "session": "s.s", "resumed": False}
        await socket.send(json.dumps(said | {"ack": 0, "epoch": 1, "lease_s": 9, "beat_s": 2}))
        await socket.wait_closed()

    async with serve(welcome, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with anyio.fail_after(10), pytest.raises(ConnectionRefused, match="speaks version 2"):
            await Worker(url, "t").run()


# ---- hubs that end and stand ---------------------------------------------------------------------


async def test_a_hub_after_a_killed_one_waits_for_its_workers(tmp_path: Path) -> None:
    """One that was killed can't have said that its workers left; they may be running the task."""
    path = tmp_path / "tokens.db"
    first = TokenStore(path)
    token = first.create("slow")
    killed = Hub(tokens=first)
    async with killed, RawSession(killed, token) as peer:
        killed.submit(call("1"))
        held = await peer.hear()
        left = TokenStore(path)  # as a killed hub leaves it
        async with Hub(HubSettings(lease_s=30), tokens=left) as hub, working(hub, "other"):
            handle = hub.submit(call("1"))
            mine = hub.submit(call("2", "add", arguments='{"a": 1, "b": 2}'))
            await anyio.sleep(0.2)
            assert (handle.state, mine.state) == ("queued", "queued")
            holding = [{key: held[key] for key in ("id", "fence", "proof")}]
            async with RawSession(hub, token, holding=holding):
                assert (await mine.outcome()).value == "3"
                assert handle.worker == "slow"


async def test_a_hub_that_ended_by_itself_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    tokens = TokenStore(tmp_path / "tokens.db")
    async with Hub(tokens=tokens) as hub, RawSession(hub, tokens.create("gone")):
        await until(lambda: "gone" in hub.workers)
    async with Hub(tokens=tokens) as hub, working(hub, "w"):
        outcome = await hub.submit(call("1", "add", arguments='{"a": 1, "b": 2}')).outcome()
        assert outcome.value == "3"


async def test_a_hub_that_stood_still_takes_nobody_for_silent() -> None:
    """Its clock jumps, as after a suspension; its worker was there all the while."""
    jump = 0.0

    def clock() -> float:
        return anyio.current_time() + jump

    seen: list[Any] = []
    async with Hub(HubSettings(lease_s=2), clock=clock) as hub, working(hub, "w"):
        hub.observe(seen.append)
        jump = 100.0
        outcome = await hub.submit(call("1", "add", arguments='{"a": 1, "b": 2}')).outcome()
        assert outcome.value == "3"
        await anyio.sleep(1)
        assert "w" in hub.workers
        assert not [event for event in seen if type(event).__name__ == "WorkerLeft"]


# ---- what others wrote ---------------------------------------------------------------------------


async def _refuse(socket: ServerConnection) -> None:
    await socket.recv()
    refused = {"type": "refused", "code": "forbidden", "message": f"no {ESCAPE} no"}
    await socket.send(json.dumps(refused))
    await socket.wait_closed()


async def test_no_command_shows_a_workers_escapes(tmp_path: Path) -> None:
    """A hub's refusal to a worker, a worker's words in a plan, and a log of both."""
    with running_shell(tmp_path) as shell:
        async with serve(_refuse, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            shell.environment["REASON_TOKEN"] = "rt_x"
            command = ("worker", "--hub", url, "--no-model")
            code, _, err = await anyio.to_thread.run_sync(partial(shell.run, *command))
    assert code != 0
    assert r"no \x1b[2J\x1b]0;owned\x07 no" in err
    assert "\x1b" not in err


def test_what_is_logged_does_nothing_to_a_terminal() -> None:
    program = (
        "import logging\nfrom reasoning.cli import printing\nprinting.show_logs_plainly()\n"
        "try:\n    raise ValueError('\\x1b[2J')\n"
        "except ValueError:\n    logging.getLogger('x').exception('of \\x1b]0;owned\\x07')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert r"of \x1b]0;owned\x07" in done.stderr  # logged as the last resort, at a terminal
    assert r"ValueError: \x1b[2J" in done.stderr
    assert not re.search("[\x00-\x08\x0b-\x1f]", done.stderr)


ANSWERS = [
    "9**9**9**9", "9^{9^{9^9}}", "10^{10^{100}}", "(10!)!!", "9999999999!", "1e999999999",
    r"\frac{1}{0}", r"\sqrt[0]{0}", r"\sum_{n=1}^{10^{12}} n", r"\prod_{k=1}^{10^9} k",
    "__import__('os').system('touch {mark}')", "exec(open('{mark}','w'))",
    r"\input{/etc/passwd}", r"\write18{touch {mark}}", "(" * 5_000 + ")" * 5_000,
    "[" * 5_000, r"\frac{" * 2_000, "{" * 5_000 + "}" * 5_000, "1," * 20_000, "-" * 20_000,
    "x" * 100_000, r"\left(" * 1_000, "0" * 50_000 + "1", "(a+)+" * 500, "{1,{2," * 2_000,
    "lambda: 0", "().__class__.__bases__", "a" * 40 + "!" * 400, r"\binom{10^9}{5^9}",
    r"\int_0^{10^9} e^{x^2} dx", r"\begin{matrix}" + "1&" * 5_000, "0.1" + "3" * 30_000,
]  # fmt: skip
READ = """
import json, sys
from reasoning.problems.answers import read_answer
from reasoning.problems.equality import canonical, equal
for text in json.load(sys.stdin):
    for said in (text, f"\\\\boxed{{{text}}}", f"The answer is {text}."):
        read_answer(said)
    canonical(text)
    equal(text, "42")
    equal(text, text + "0")
print("done")
"""


def test_no_answer_is_run_or_hangs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    texts = [text.replace("{mark}", str(mark)) for text in ANSWERS]
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []
