"""What sockets, heads and bodies can't do to the HTTP server."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from protocol.http import ServerSettings, connections
from protocol.http.server import listening
from protocol.wire.gate import BURST, ConnectionGate, LogLimit
from reasoning.models.loading import load_model
from reasoning.serving import ReasoningService
from tests.support.serving_tools import Server, serving

pytestmark = pytest.mark.anyio

CHAT = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--a2a", "--drain", "1") as server:
        yield server


def ask(server: Server, data: bytes) -> bytes:
    """All that comes back over a plain socket until it is closed."""
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_two_lengths_are_refused_and_the_connection_ends(server: Server) -> None:
    head = CHAT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answer = ask(server, head + b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("lines", [1, 50])
def test_a_large_head_is_refused(server: Server, lines: int) -> None:
    more = b"".join(b"X-%d: %s\r\n" % (n, b"a" * (40_000 // lines)) for n in range(lines))
    answer = ask(server, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + more + b"\r\n")
    assert answer[9:12] in (b"400", b"431")


BODIES = [b"{", b"\xff\xfe", b'{"model":"\xff"}', b"[" * 100_000]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_json_is_refused_as_such(server: Server, body: bytes) -> None:
    sent = {"content-type": "application/json", "A2A-Version": "1.0"}
    for path in ("/v1/chat/completions", "/v1/responses", "/a2a/v1/message:send"):
        assert httpx.post(server.url + path, content=body, headers=sent).status_code == 400
    answer = httpx.post(f"{server.url}/a2a", content=body, headers=sent).json()
    assert answer["error"]["code"] == -32700


HOSTILE = "x\r\nX-Forged: 1\r\n\x1b[2J\x1b]0;owned\x07/../../etc/passwd"
ASKED = [
    ("/v1/chat/completions", {"model": HOSTILE, "messages": [{"role": "user", "content": "2+3"}]}),
    ("/v1/chat/completions", {"user": HOSTILE, "messages": [{"role": HOSTILE, "content": "2+3"}]}),
    ("/v1/responses", {"previous_response_id": HOSTILE, "input": HOSTILE}),
    ("/v1/messages", {"model": HOSTILE, "max_tokens": 9, "messages": []}),
    ("/a2a", {"jsonrpc": "2.0", "id": HOSTILE, "method": HOSTILE, "params": {"id": HOSTILE}}),
]


@pytest.mark.parametrize(("path", "body"), ASKED)
def test_what_is_asked_gets_into_no_header_and_no_log(
    server: Server, path: str, body: dict[str, Any]
) -> None:
    said = json.dumps(body).encode()
    head = CHAT.replace(b"/v1/chat/completions", path.encode()) + b"A2A-Version: 1.0\r\n"
    head += b"X-Request-Id: \x9b31m\r\nConnection: close\r\n"
    answer = ask(server, head + b"Content-Length: %d\r\n\r\n" % len(said) + said)
    first = answer.partition(b"\r\n\r\n")[0]
    assert first.startswith(b"HTTP/1.1 ")
    assert not re.search(rb"(?i)forged|[^\x20-\x7e\r\n]", first)
    assert not re.search("[\x00-\x08\x0b-\x1f]", server.log)
    assert b"owned" not in httpx.get(f"{server.url}/metrics").content


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/responses", b"/a2a"])
def test_who_leaves_within_a_body_leaves_no_traceback(server: Server, path: bytes) -> None:
    head = CHAT.replace(b"/v1/chat/completions", path) + b"A2A-Version: 1.0\r\n"
    with socket.create_connection(server.address) as connection:
        connection.sendall(head + b"Content-Length: 99\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)  # it has seen that the client left
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert "Traceback" not in server.log


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/a2a", "/a2a/v1/message:send"])
def test_a_body_of_another_type_is_refused(server: Server, path: str) -> None:
    text = {"content-type": "text/plain", "A2A-Version": "1.0"}
    assert httpx.post(server.url + path, content=b"{}", headers=text).status_code == 415


def test_the_history_of_an_agent_task_is_bounded(server: Server) -> None:
    def send(n: int, task: str | None) -> str:
        parts = [{"text": "Hello " + "x" * 500_000}]
        message = {"messageId": str(n), "role": "ROLE_USER", "parts": parts}
        body = {"message": message | ({"taskId": task} if task else {})}
        path = f"{server.url}/a2a/v1/message:send"
        answer = httpx.post(path, json=body, headers={"A2A-Version": "1.0"}, timeout=30)
        found: str = answer.json()["task"]["id"]
        return found

    task = send(0, None)
    for n in range(1, 12):
        assert send(n, task) == task
    told = httpx.get(f"{server.url}/a2a/v1/tasks/{task}", headers={"A2A-Version": "1.0"})
    assert len(told.content) < 6 << 20
    assert told.json()["history"][-1]


def test_it_ends_within_its_drain_whatever_sockets_do() -> None:
    server = Server("--drain", "1")
    sockets = [socket.create_connection(server.address) for _ in range(3)]
    sockets[0].sendall(CHAT + b"Content-Length: 9\r\n\r\n{")
    sockets[1].sendall(b"GET / HT")
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 9  # a head may take 10 s
    for one in sockets:
        one.close()


# ---- connections ---------------------------------------------------------------------------------


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A server of two connections from one address, and of little patience."""
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    settings = ServerSettings(port=0, drain=0.0, max_per_address=2)
    async with ReasoningService([load_model()]) as service, listening(service, settings) as url:
        yield int(url.rpartition(":")[2])


async def closed(stream: anyio.abc.SocketStream) -> bool:
    """Whether the other side ends a connection soon."""
    with anyio.move_on_after(3):
        try:
            while True:
                await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return True
    return False


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: 127", b"\r\n"])
async def test_a_head_that_does_not_come_ends_the_connection(port: int, said: bytes) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        if said:
            await stream.send(said)
        assert await closed(stream)


async def test_a_second_request_that_does_not_come_ends_the_connection(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await stream.send(b"GET /hea")
        assert await closed(stream)


async def test_an_address_has_a_bounded_number_of_connections(port: int) -> None:
    async with (
        await anyio.connect_tcp("127.0.0.1", port),
        await anyio.connect_tcp("127.0.0.1", port),
    ):
        await anyio.sleep(0.05)
        async with await anyio.connect_tcp("127.0.0.1", port) as third:
            assert await closed(third)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200


def test_a_gate_lets_in_as_many_as_have_left() -> None:
    gate = ConnectionGate(3, 2)
    assert [gate.enter("a"), gate.enter("a"), gate.enter("a"), gate.enter("b")] == [1, 1, 0, 1]
    assert not gate.enter("c")
    gate.leave("a")
    assert gate.enter("c")


def test_a_text_is_logged_a_few_times_only() -> None:
    limit = LogLimit()
    record = logging.makeLogRecord({"msg": "out of descriptors"})
    assert sum(limit.filter(record) for _ in range(1000)) == BURST
    assert limit.filter(logging.makeLogRecord({"msg": "another"}))
