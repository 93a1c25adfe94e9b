"""A fuzzer of the wire that knows its structure: no hang, no crash, honest peers are served.

``REASON_TEST_FUZZ_S`` says how long it runs, ``REASON_TEST_FUZZ_SEED`` what it draws.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from protocol import (
    Client,
    ClientSettings,
    Hub,
    HubSettings,
    TaskRequest,
    Worker,
    WorkerSettings,
)
from protocol.hub.directory import Directory
from tests.support.protocol_tools import RawSession, registry, working

pytestmark = pytest.mark.anyio

SECONDS = float(os.environ.get("REASON_TEST_FUZZ_S", "20"))
SEED = int(os.environ.get("REASON_TEST_FUZZ_SEED", "1"))

ODD: list[Any] = [
    None, True, -1, 0, 1, 1 << 31, 1 << 63, 1 << 80, 0.5, float("nan"), float("inf"), "", "x",
    "\x1b[2J", "\x00", "€" * 400, "y" * 5000, [], [1], [[]], {}, {"a": 1}, "[" * 3000, "null",
]  # fmt: skip
MESSAGES: dict[str, list[dict[str, Any]]] = {
    "client": [
        {"type": "task", "id": "1", "kind": "tool", "name": "t", "arguments": "{}"},
        {"type": "task", "id": "2", "kind": "tool", "name": "hub.devices", "arguments": "{}"},
        {"type": "task", "id": "6", "kind": "tool", "name": "hub.news", "arguments": '{"id": "6"}'},
        {"type": "task", "id": "3", "kind": "function", "name": "n", "arguments": "{}",
         "deadline_s": 1.0, "patience_s": 0.5, "needs": {"tags": ["a"], "resources": {"r": 1}},
         "budget": {"attempts": 2, "kills": 1}, "inputs": [[1, 2]]},
        {"type": "task", "id": "4", "kind": "thread", "name": "m", "arguments": "{}"},
        {"type": "task", "id": "5", "kind": "tool", "name": "t",
         "arguments": {"sha256": "0" * 64, "size": 4}},
        {"type": "cancel", "id": "1"},
        {"type": "input", "id": "4", "tokens": [1, 2]},
        {"type": "part", "sha256": "0" * 64, "offset": 0, "size": 4, "data": "eHg="},
        {"type": "drain"},
    ],
    "worker": [
        {"type": "result", "id": "1", "fence": 1, "value": "1", "usage": {"seconds": 1}},
        {"type": "result", "id": "1", "fence": 1, "failure": {"code": "failed", "message": "m"}},
        {"type": "result", "id": "1", "fence": 1, "failure": {"code": "draining"}},
        {"type": "result", "id": "1", "fence": 1, "value": {"sha256": "0" * 64, "size": 4}},
        {"type": "chunk", "id": "1", "fence": 1, "at": 0, "tokens": [1], "logprobs": [-0.5]},
        {"type": "progress", "id": "1", "fence": 1, "text": "half"},
        {"type": "cancelled", "id": "1", "fence": 1, "leaked": True},
        {"type": "part", "sha256": "0" * 64, "offset": 0, "size": 4, "data": "eHg="},
    ],
}  # fmt: skip


def mutate(rng: random.Random, found: dict[str, Any]) -> None:
    """Make one field of a message odd, or leave it out."""
    key = rng.choice([*found, "extra"])
    inner = found.get(key)
    if isinstance(inner, dict) and inner and rng.random() < 0.7:
        mutate(rng, inner)
    elif rng.random() < 0.2:
        found.pop(key, None)
    else:
        found[key] = rng.choice(ODD)


class Fuzzer:
    """Says what is nearly right, in either role, and connects again when it is refused."""

    def __init__(self, hub: Hub, role: str, seed: int) -> None:
        self.hub, self.role, self.rng = hub, role, random.Random(seed)
        scopes = ["submit"] if role == "client" else ["function", "tool", "thread"]
        self.token = hub.tokens.create(f"{role}-{seed}", scopes=scopes)
        self.tasks: list[dict[str, Any]] = []
        self.session: str | None = None
        self.connections = self.said = 0

    async def run(self) -> None:
        while True:
            hello: dict[str, Any] = {
                "instance": self.rng.choice(["", "a"]),
                "session": self.session,
            }
            hello |= {"ack": self.rng.choice([0, 0, 1, 99])}
            if self.role == "worker":
                hello |= {"profile": self.profile(), "holding": self.tasks[-3:]}
                for held in hello["holding"]:
                    held.pop("proof", None) if self.rng.random() < 0.3 else None
            if self.rng.random() < 0.1:
                hello[self.rng.choice(list(hello))] = self.rng.choice(ODD)
            try:
                self.connections += 1
                async with RawSession(self.hub, self.token, self.role, **hello) as peer:
                    self.session = peer.welcome.get("session")
                    with anyio.move_on_after(0.5):
                        await self.talk(peer)
            except (ConnectionClosed, ValueError, KeyError, OSError):
                await anyio.sleep(0.005)

    async def talk(self, peer: RawSession) -> None:
        for _ in range(self.rng.randrange(1, 60)):
            await peer.say(*[self.message() for _ in range(self.rng.randrange(4))])
            if self.rng.random() < 0.1:
                await peer.socket.send(self.frame())
            with anyio.move_on_after(0.003):
                heard = await peer.hear()
                if heard["type"] == "task":
                    self.tasks.append({key: heard[key] for key in ("id", "fence", "proof")})
                    del self.tasks[:-10]
            await anyio.sleep(0.001)

    def profile(self) -> dict[str, Any]:
        offer = {"name": "t", "parameters": "{}", "result": "{}"}
        model = {"name": "m", "backend": "b", "context": 9}
        return {
            "slots": self.rng.randrange(1, 5), "tools": [offer], "tags": ["a"],
            "functions": [offer | {"name": "n"}], "models": [model], "resources": {"r": 1},
        }  # fmt: skip

    def message(self) -> dict[str, Any]:
        self.said += 1
        found: dict[str, Any] = json.loads(json.dumps(self.rng.choice(MESSAGES[self.role])))
        if self.role == "worker" and self.tasks and self.rng.random() < 0.8:
            found |= {key: self.rng.choice(self.tasks[-5:])[key] for key in ("id", "fence")}
        elif "id" in found:
            found["id"] = str(self.rng.randrange(40))
        if self.rng.random() < 0.5:
            mutate(self.rng, found)
        return found

    def frame(self) -> str:
        """A frame or a beat that is wrong as a whole."""
        found: dict[str, Any] = {"type": "frame", "ack": 0, "seq": 1, "body": [self.message()]}
        beat: dict[str, Any] = {"type": "beat", "ack": 0, "sent": 5, "resend": True, "reply": True}
        found = self.rng.choice([found, beat])
        mutate(self.rng, found)
        text = json.dumps(found)
        return text if self.rng.random() < 0.8 else text[: self.rng.randrange(len(text))]


class OddHub:
    """Takes one worker or client in, and says what is nearly right."""

    def __init__(self, role: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.odd = [one for one in MESSAGES[role] if one["type"] != "drain"]  # it obeys that
        self.rounds = 0

    async def __call__(self, socket: ServerConnection) -> None:
        await socket.recv()
        welcome = {"type": "welcome", "id": "x", "session": "s.s", "resumed": False, "ack": 0}
        await socket.send(json.dumps(welcome | {"epoch": 1, "lease_s": 9, "beat_s": 2}))
        sent = 0
        for _ in range(40):
            body = [self.message() for _ in range(self.rng.randrange(4))]
            await socket.send(
                json.dumps({"type": "frame", "ack": 0, "seq": sent + 1, "body": body})
            )
            sent += len(body)
            await anyio.sleep(0.001)
        self.rounds += 1
        await socket.send("nonsense")
        await socket.wait_closed()

    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(self.rng.choice(self.odd)))
        if "id" in found:
            found |= {"id": str(self.rng.randrange(3)), "fence": 1}
        if self.rng.random() < 0.6:
            mutate(self.rng, found)
        return found


@pytest.mark.parametrize("role", ["worker", "client"])
async def test_a_side_lives_on_whatever_a_hub_says(role: str) -> None:
    odd = OddHub("client" if role == "worker" else "worker", SEED)
    async with serve(odd, "127.0.0.1", 0) as server, anyio.create_task_group() as group:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if role == "worker":
            group.start_soon(
                Worker(url, "t", registry, settings=WorkerSettings(slowest_s=0.05)).run
            )
        else:
            client = Client(url, "t", ClientSettings(slowest_s=0.05))
            await client.__aenter__()
            for number in range(3):
                client.submit(TaskRequest(id=str(number), kind="tool", name="t"))
        with anyio.fail_after(30):
            while odd.rounds < 4:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        if role == "client":
            await client.__aexit__(None, None, None)
        group.cancel_scope.cancel()


async def honest(hub: Hub, waits: list[float], clock: Callable[[], float]) -> None:
    """Calls that must be answered all the while; how long each takes, by a clock."""
    for number in range(10**9):
        began = clock()
        arguments = json.dumps({"a": number, "b": 1})
        request = TaskRequest(id=f"honest-{number}", kind="tool", name="add", arguments=arguments)
        with anyio.fail_after(60):
            assert (await hub.submit(request).outcome()).value == str(number + 1)
        waits.append(clock() - began)
        await anyio.sleep(0.02)


async def test_honest_peers_are_served_while_others_say_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waits: list[float] = []
    async with Hub(HubSettings(lease_s=1)) as hub, working(hub, "honest"):
        Directory(hub).open()
        fuzzers: list[Callable[[], Any]] = [
            Fuzzer(hub, role, SEED + n).run for role in ("client", "worker") for n in range(3)
        ]
        async with anyio.create_task_group() as group:
            group.start_soon(honest, hub, waits, time.process_time)
            for fuzzer in fuzzers:
                group.start_soon(fuzzer)
            await anyio.sleep(SECONDS)
            group.cancel_scope.cancel()
        assert "honest" in hub.workers
    assert len(waits) > SECONDS / 2
    assert max(waits) < 1  # of processor time: other programs on this machine don't count
    assert not [record for record in caplog.records if record.exc_info], caplog.text[-3000:]
