"""Each control of the wire, with somebody who tries to get past it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import ssl
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from orchestrator.errors import InvalidValue, UnknownName
from protocol import (
    Client,
    ConnectionLimits,
    ConnectionRefused,
    Hub,
    HubSettings,
    MessageIgnored,
    Registry,
    RemoteFailure,
    TaskRequest,
    TokenStore,
    Worker,
    WorkerSettings,
)
from protocol.hub import handshake, listener
from protocol.wire.connection import Tls, check_url
from protocol.wire.framing import Hello
from protocol.wire.gate import ConnectionGate
from protocol.wire.messages import MAX_FRAME
from tests.support.protocol_tools import double, registry, until, working

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def raw_connection(hub: Hub, token: str | None = None, **options: Any) -> AsyncIterator[Any]:
    """A bare connection to a hub."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with connect(hub.url, additional_headers=headers, proxy=None, **options) as socket:
        yield socket


async def say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection) -> dict[str, Any]:
    with anyio.fail_after(5):
        found: dict[str, Any] = json.loads(await socket.recv())
        return found


async def ended(socket: ClientConnection) -> None:
    with anyio.fail_after(5), contextlib.suppress(ConnectionClosed):
        while True:
            await socket.recv()


HELLO = {"type": "hello", "role": "worker", "profile": {"slots": 1}}


def request(id: str, **given: Any) -> TaskRequest:
    name = "tests.support.protocol_tools:" + given.pop("name", "double")
    return TaskRequest(id=id, kind="function", name=name, arguments=json.dumps(given))


# ---- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "x", "rt_00000000_guess", "rt_{id}_wrong", "rt_{id}_"])
async def test_a_wrong_token_is_refused_and_not_told_why(token: str) -> None:
    async with Hub() as hub:
        known = hub.tokens.create("w").split("_")[1]
        async with raw_connection(hub, token.replace("{id}", known)) as socket:
            await say(socket, **HELLO)
            found = await hear(socket)
            assert (found["type"], found["code"]) == ("refused", "bad-token")
            assert found["message"] == "not a valid token; see reason token create"
            await ended(socket)


async def test_a_refused_worker_stops() -> None:
    async with Hub() as hub:
        with anyio.fail_after(5), pytest.raises(ConnectionRefused) as caught:
            await Worker(hub.url, "rt_0_0", registry).run()
        assert caught.value.reason == "bad-token"


async def test_a_token_may_come_in_the_first_frame() -> None:
    async with Hub() as hub:
        token = hub.tokens.create("w")
        async with raw_connection(hub) as socket:
            await say(socket, **HELLO, token=token)
            assert (await hear(socket))["type"] == "welcome"


@pytest.mark.parametrize("where", ["?token={}", "#{}", "/{}"])
async def test_a_token_in_the_url_is_refused_on_both_sides(where: str) -> None:
    async with Hub() as hub:
        url = hub.url + where.format(hub.tokens.create("w"))
        if not where.startswith("/"):
            with pytest.raises(InvalidValue, match="may hold no secret"):
                check_url(url, insecure=False)
        if not where.startswith("#"):
            with pytest.raises(InvalidStatus, match="404"):
                await connect(url, proxy=None)


async def test_tokens_are_stored_hashed_in_a_file_of_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "tokens.db"
    store = TokenStore(path)
    token = store.create("w")
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token.split("_", 2)[2].encode() not in path.read_bytes()


async def test_a_token_is_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with Hub() as hub:
            token = hub.tokens.create("w")
            async with anyio.create_task_group() as group:
                group.start_soon(Worker(hub.url, token, registry).run)
                await hub.submit(request("1", number=1)).outcome()
                group.cancel_scope.cancel()
            with pytest.raises(ConnectionRefused) as caught:
                await Worker(hub.url, token + "x", registry).run()
    texts = [caplog.text, str(caught.value), repr(Hello(role="worker", token=token))]
    assert not any(token.split("_", 2)[2] in text for text in texts)


async def test_scopes_bound_what_a_token_is_for() -> None:
    async with Hub() as hub:
        with pytest.raises(ConnectionRefused, match="not for a client"):
            async with Client(hub.url, hub.tokens.create("w")):
                await anyio.sleep(5)
        with pytest.raises(ConnectionRefused, match="not for a worker"):
            await Worker(hub.url, hub.tokens.create("c", scopes=["submit"]), registry).run()
        tools_only = hub.tokens.create("t", scopes=["tool"])
        async with anyio.create_task_group() as group:
            group.start_soon(Worker(hub.url, tools_only, registry).run)
            await until(lambda: "t" in hub.workers)
            handle = hub.submit(request("1", number=1))
            await anyio.sleep(0.1)
            assert handle.state == "queued"
            group.cancel_scope.cancel()


async def test_a_token_that_is_over_or_rotated_or_revoked_opens_nothing() -> None:
    store = TokenStore()
    short = store.create("short", expires_s=0.05)
    store.verify(short)
    await anyio.sleep(0.06)
    first = store.create("w")
    second = store.rotate("w", grace_s=0.1)
    assert store.verify(first).name == store.verify(second).name == "w"  # both, for a while
    await anyio.sleep(0.11)
    third = store.rotate("w")
    for old in (short, first, second):
        with pytest.raises(ConnectionRefused):
            store.verify(old)
    store.revoke("w")
    with pytest.raises(ConnectionRefused):
        store.verify(third)
    with pytest.raises(UnknownName):
        store.rotate("nobody")


async def test_a_revoked_token_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "RECHECK_S", 0.05)
    async with Hub() as hub:
        worker = Worker(hub.url, hub.tokens.create("w"), registry)
        async with anyio.create_task_group() as group:
            group.start_soon(_revoke, hub)
            with anyio.fail_after(5), pytest.raises(ConnectionRefused, match="no longer valid"):
                await worker.run()
        await until(lambda: not hub.workers)


async def _revoke(hub: Hub) -> None:
    await until(lambda: "w" in hub.workers)
    hub.tokens.revoke("w")


# ---- frames --------------------------------------------------------------------------------------


async def test_a_silent_socket_is_closed_after_the_hello_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert handshake.HELLO_S == listener.HELLO_S == 5.0
    monkeypatch.setattr(handshake, "HELLO_S", 0.2)
    async with Hub() as hub, raw_connection(hub, hub.tokens.create("w")) as socket:
        assert (await hear(socket))["code"] == "late-hello"
        await ended(socket)


async def test_a_socket_that_never_speaks_http_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HELLO_S", 0.2)
    async with Hub() as hub:
        stream = await anyio.connect_tcp("127.0.0.1", hub.port)
        with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.aclose()


async def test_an_oversized_frame_ends_the_connection_and_harms_nobody_else() -> None:
    async with Hub() as hub, working(hub, "good"):
        async with raw_connection(hub, hub.tokens.create("w")) as socket:
            await say(socket, **HELLO)
            await hear(socket)
            await socket.send("x" * (MAX_FRAME + 1))
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1009
        assert (await hub.submit(request("1", number=1)).outcome()).value == "2"


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[]",
        '{"type":"frame"}',
        '{"type":"frame","ack":0,"seq":0,"body":[]}',
        '{"type":"frame","ack":99,"seq":1,"body":[]}',
        '{"type":"frame","ack":0,"seq":1,"body":{"type":"task","id":"1","kind":"tool"}}',
        '{"type":"beat","ack":0,"sent":0,"extra":1}',
        '{"type":"welcome"}',
        "[" * 100_000,
    ],
)
async def test_what_is_no_message_is_refused_with_the_field(frame: str) -> None:
    async with Hub() as hub, raw_connection(hub, hub.tokens.create("w")) as socket:
        await say(socket, **HELLO)
        await hear(socket)
        await socket.send(frame)
        found = await hear(socket)
        assert (found["type"], found["code"]) == ("refused", "bad-message")
        await ended(socket)


async def test_a_replayed_frame_changes_nothing() -> None:
    async with Hub() as hub, raw_connection(hub, hub.tokens.create("w")) as socket:
        profile = {"functions": [{"name": "f", "parameters": "{}", "result": "{}"}]}
        await say(socket, **HELLO | {"profile": profile})
        await hear(socket)
        handles = [hub.submit(TaskRequest(id=str(n), kind="function", name="f")) for n in (1, 2)]
        task = (await hear(socket))["body"][0]
        result = {"type": "result", "id": task["id"], "fence": task["fence"], "value": '"one"'}
        frame = {"type": "frame", "ack": 1, "seq": 1, "body": [result]}
        for _ in range(3):
            await say(socket, **frame)
        second = (await hear(socket))["body"][0]
        assert second["id"] == "2"
        forged = result | {"id": "2", "value": '"old fence"'}
        await say(socket, **frame | {"seq": 2, "body": [forged]})
        right = forged | {"fence": second["fence"], "value": '"two"'}
        await say(socket, **frame | {"seq": 3, "body": [right]})
        assert [(await handle.outcome()).value for handle in handles] == ['"one"', '"two"']


async def test_a_stolen_session_is_no_use_without_the_token() -> None:
    async with Hub() as hub, raw_connection(hub, hub.tokens.create("w")) as socket:
        await say(socket, **HELLO)
        session = (await hear(socket))["session"]
        async with raw_connection(hub, hub.tokens.create("thief")) as thief:
            await say(thief, **HELLO, session=session)
            welcome = await hear(thief)
            assert (welcome["id"], welcome["resumed"]) == ("thief", False)
        assert "w" in hub.workers


async def test_a_worker_can_only_touch_its_own_tasks() -> None:
    seen: list[Any] = []
    async with Hub() as hub, working(hub, "good"):
        hub.observe(seen.append)
        handle = hub.submit(request("1", name="pause", seconds=0.3))
        await until(lambda: handle.worker == "good")
        async with raw_connection(hub, hub.tokens.create("bad")) as socket:
            await say(socket, **HELLO)
            await hear(socket)
            for fence in (0, (hub.epoch << 32) + 1):
                for message in ("result", "cancelled"):
                    body = [{"type": message, "id": "1", "fence": fence}]
                    seq = len([e for e in seen if isinstance(e, MessageIgnored)]) + 1
                    await say(socket, type="frame", ack=0, seq=seq, body=body)
                    await until(lambda n=seq: sum(isinstance(e, MessageIgnored) for e in seen) == n)
        outcome = await handle.outcome()
        assert (outcome.value, outcome.worker) == ('"done"', "good")


async def test_a_client_can_only_touch_its_own_tasks() -> None:
    seen: list[Any] = []
    async with Hub() as hub, working(hub):
        hub.observe(seen.append)
        token = {n: hub.tokens.create(n, scopes=["submit"]) for n in ("a", "b")}
        async with Client(hub.url, token["a"]) as a, Client(hub.url, token["b"]) as b:
            mine = a.submit(request("1", name="pause", seconds=0.3, then="mine"))
            await until(lambda: any(getattr(event, "task", "") == "a/1" for event in seen))
            theirs = b.submit(request("1", name="pause", seconds=60))  # the same id, another task
            await until(lambda: any(getattr(event, "task", "") == "b/1" for event in seen))
            theirs.cancel()
            assert (await theirs.ended()).type == "cancelled"
            assert (await mine.outcome()).value == '"mine"'


async def test_a_flood_is_slowed_down_and_others_are_served() -> None:
    slow = HubSettings(limits=ConnectionLimits(frames_per_s=50))
    async with Hub(slow) as hub, working(hub, "good"):
        async with raw_connection(hub, hub.tokens.create("w")) as socket:
            await say(socket, **HELLO)
            await hear(socket)
            answered = 0

            async def flood() -> None:
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await socket.send('{"type":"beat","ack":0,"sent":0,"reply":true}')

            async def count() -> None:
                nonlocal answered
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await socket.recv()
                        answered += 1

            async with anyio.create_task_group() as group:
                group.start_soon(flood)
                group.start_soon(count)
                began = anyio.current_time()
                with anyio.fail_after(5):
                    for number in range(10):
                        await hub.submit(request(str(number), number=1)).outcome()
                await anyio.sleep(1)
                lasted = anyio.current_time() - began
                socket.transport.abort()  # what it has flooded with need not be sent
                group.cancel_scope.cancel()
        assert answered <= 100 + 50 * lasted + 1


async def test_more_connections_than_allowed_are_turned_away() -> None:
    async with (
        Hub(HubSettings(most_connections=2)) as hub,
        raw_connection(hub),
        raw_connection(hub),
    ):
        with pytest.raises(InvalidStatus, match="503"):
            await connect(hub.url, proxy=None)


async def test_one_address_has_only_so_many_connections_silent_ones_included() -> None:
    async with Hub(HubSettings(most_per_address=2)) as hub, AsyncExitStack() as stack:
        silent = [await anyio.connect_tcp("127.0.0.1", hub.port) for _ in range(2)]
        for stream in silent:
            await stack.enter_async_context(stream)
        with pytest.raises((InvalidMessage, OSError)):
            await connect(hub.url, proxy=None)
        await silent[0].aclose()
        async with working(hub, "late"):  # it dials until there is room
            assert "late" in hub.workers


async def test_a_head_without_end_is_cut_off() -> None:
    async with Hub() as hub, await anyio.connect_tcp("127.0.0.1", hub.port) as stream:
        await stream.send(b"GET / HTTP/1.1\r\n")
        with anyio.fail_after(5), pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await _without_end(stream)


async def _without_end(stream: anyio.abc.ByteStream) -> None:
    for number in range(20):
        await stream.send(b"x%d: " % number + b"y" * 4000 + b"\r\n")
    await stream.receive()


def test_an_ipv6_network_is_one_address_and_ipv4_in_it_is_not() -> None:
    gate = ConnectionGate(9, 1)
    assert gate.enter("2001:db8::1")
    assert not gate.enter("2001:db8::ffff:2")
    assert gate.enter("2001:db8:0:1::1")
    assert gate.enter("fe80::1%eth0")
    assert gate.enter("::ffff:10.0.0.1")
    assert gate.enter("::ffff:10.0.0.2")
    assert not gate.enter("10.0.0.2")
    gate.leave("2001:db8::1")
    assert gate.enter("2001:db8::3")


async def test_arguments_that_do_not_fit_the_schema_never_reach_the_function() -> None:
    async with Hub() as hub, working(hub):
        for arguments in ({"number": "1"}, {"number": 1, "more": 2}, {}, [1], None):
            text = json.dumps(arguments)
            name = "tests.support.protocol_tools:double"
            handle = hub.submit(TaskRequest(id=text, kind="function", name=name, arguments=text))
            with pytest.raises(RemoteFailure) as caught:
                await handle.outcome()
            assert caught.value.reason == "bad-arguments"


async def test_only_registered_names_can_be_called() -> None:
    mine = Registry()
    mine.function(double, name="os:system")
    async with Hub() as hub, working(hub, registry=mine):
        mine.functions.clear()  # the hub believes that it is there
        with pytest.raises(RemoteFailure) as caught:
            await hub.submit(TaskRequest(id="1", kind="function", name="os:system")).outcome()
        assert caught.value.reason == "unknown-name"


# ---- where it listens ----------------------------------------------------------------------------


async def test_a_foreign_origin_is_refused() -> None:
    async with Hub() as hub:
        for origin in ("https://evil.example", "http://127.0.0.1", "null"):
            with pytest.raises(InvalidStatus, match="403"):
                await connect(hub.url, origin=origin, proxy=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com"])
def test_plain_text_is_refused_off_loopback(host: str) -> None:
    with pytest.raises(InvalidValue, match="plain text"):
        Hub(HubSettings(host=host))
    Hub(HubSettings(host=host, insecure=True))
    shown = f"[{host}]" if ":" in host else host
    with pytest.raises(InvalidValue, match="plain text"):
        Worker(f"ws://{shown}:1", "t", registry)
    Worker(f"ws://{shown}:1", "t", registry, settings=WorkerSettings(insecure=True))


def test_what_only_looks_like_loopback_is_not() -> None:
    for host in ("127.0.0.1.evil.example", "localhost.evil.example", "0177.0.0.1", "127.1.evil"):
        with pytest.raises(InvalidValue, match="plain text"):
            check_url(f"ws://{host}:1", insecure=False)


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA and certificates by it of a hub and a worker, and a stranger's own."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for ca in ("ca", "stranger"):
        openssl(
            "req", "-x509", *new, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}"
        )
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("hub", "worker"):
        openssl(
            "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "san", "-out", f"{name}.pem",
        )  # fmt: skip
    return folder


def tls(folder: Path, name: str | None = None, ca: str | None = "ca") -> Tls:
    return Tls(
        cert=None if name is None else folder / f"{name}.pem",
        key=None if name is None else folder / f"{name}.key",
        ca=None if ca is None else folder / f"{ca}.pem",
    )


async def served(hub: Hub, by: Tls) -> str:
    async with working(hub, tls=by, patience_s=0.5):
        return (await hub.submit(request("1", number=2)).outcome()).value


async def test_tasks_run_over_tls(certificates: Path) -> None:
    async with Hub(HubSettings(tls=tls(certificates, "hub", ca=None))) as hub:
        assert hub.url.startswith("wss://")
        assert await served(hub, tls(certificates)) == "4"


async def test_mutual_tls_asks_the_worker_for_a_certificate(certificates: Path) -> None:
    async with Hub(HubSettings(tls=tls(certificates, "hub"))) as hub:
        assert await served(hub, tls(certificates, "worker")) == "4"
        token = hub.tokens.create("other")
        for wrong in (tls(certificates), tls(certificates, "stranger")):
            settings = WorkerSettings(tls=wrong, patience_s=0.3, slowest_s=0.1)
            worker = Worker(hub.url, token, registry, settings=settings)
            with anyio.fail_after(10), pytest.raises(Exception, match="can't be reached"):
                await worker.run()
        assert "other" not in hub.workers


async def test_a_hub_that_nobody_vouches_for_is_not_believed(certificates: Path) -> None:
    async with Hub(HubSettings(tls=tls(certificates, "hub", ca=None))) as hub:
        for ca in ("stranger", None):
            by = tls(certificates, ca=ca)
            settings = WorkerSettings(tls=by, patience_s=0.3, slowest_s=0.1)
            token = hub.tokens.create(f"w{ca}")
            worker = Worker(hub.url, token, registry, settings=settings)
            with anyio.fail_after(10), pytest.raises(Exception, match="certificate verify failed"):
                await worker.run()


async def test_old_tls_is_refused(certificates: Path) -> None:
    context = tls(certificates, "hub").server()
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_certificate_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pem"
    path.write_text("nothing")
    with pytest.raises(InvalidValue, match="tls: a file can't be used"):
        Tls(cert=path).server()
    with pytest.raises(InvalidValue, match="needs a certificate"):
        Tls().server()
    assert os.path.exists(path)
