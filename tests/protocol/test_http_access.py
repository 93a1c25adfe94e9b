"""Who gets in: keys, hosts, origins, queues, limits, and how the server starts and stops."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.errors import InvalidValue
from protocol.http.access import ApiKeys
from protocol.http.admission import AdmissionControl
from protocol.http.errors import Refusal
from protocol.http.openai.thoughts import BranchFocus
from protocol.http.runs import EventBuffer
from protocol.http.service import BranchClosed, BranchText
from tests.support.serving_tools import HARD, LONG, Server, chat, eventually, raw_post, serving

KEY, HASHED = "correct horse battery staple", "another-long-random-key-0123"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys, one place, one place to wait, and one friendly origin."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    digest = hashlib.sha256(HASHED.encode()).hexdigest()
    file.write_text(f"# ours\n{KEY}\n\nsha256:{digest}\n")
    options = ["--max-concurrent", "1", "--max-queued", "1"]
    origin = ["--allow-origin", "http://localhost:3000"]
    with serving("--api-key-file", str(file), *options, *origin) as server:
        yield server


def headers(key: str = KEY, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **more}


@pytest.mark.parametrize("key", [KEY, HASHED])
def test_a_key_of_the_file_gets_in(server: Server, key: str) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key)
    with client:
        assert client.models.list().data


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {hashlib.sha256(HASHED.encode()).hexdigest()}"},
        {"X-Api-Key": KEY},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/openapi.json", "/nothing"])
def test_without_a_key_nothing_is_told(server: Server, given: dict[str, str], path: str) -> None:
    refused = httpx.get(f"{server.url}{path}?api_key={KEY}", headers=given)
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert refused.headers["www-authenticate"] == "Bearer"


def test_the_command_line_starts_without_the_server_s_packages() -> None:
    names = ("a2a", "httpx", "openai", "prometheus_client", "starlette", "uvicorn")
    code = f"import sys, reasoning.cli; print(*[n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_health_needs_no_key(server: Server) -> None:
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok", "runs": 0}


def test_keys_are_kept_hashed_and_never_printed(server: Server) -> None:
    keys = ApiKeys([KEY])
    assert KEY not in repr(vars(keys)) + repr(keys)
    assert KEY not in server.log


def test_a_page_of_a_foreign_origin_is_refused(server: Server) -> None:
    url = f"{server.url}/v1/models"
    for origin in ("https://evil.example", "null", "http://localhost:3001"):
        refused = httpx.get(url, headers=headers(Origin=origin))
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
    friend = httpx.get(url, headers=headers(Origin="http://localhost:3000"))
    assert friend.headers["access-control-allow-origin"] == "http://localhost:3000"
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    assert httpx.options(url, headers=preflight).status_code == 200


def test_a_foreign_name_for_loopback_is_refused(server: Server) -> None:
    for host, status in (("evil.example", 421), ("evil.example:80", 421), ("localhost:9", 200)):
        told = httpx.get(f"{server.url}/v1/models", headers=headers(Host=host))
        assert told.status_code == status


def test_more_than_can_wait_are_told_when_to_come_back(server: Server) -> None:
    def figure(name: str) -> float:
        text = httpx.get(f"{server.url}/metrics", headers=headers()).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name:
                    return sample.value
        return 0.0

    long = chat(HARD, **LONG)
    quick = chat(x_reason={"n": 1})
    url = f"{server.url}/v1/chat/completions"
    with ThreadPoolExecutor(1) as pool:
        with raw_post(server, "/v1/chat/completions", long, key=KEY):
            eventually(lambda: figure("reason_runs") == 1)
            waits = pool.submit(httpx.post, url, json=quick, headers=headers(), timeout=60)
            eventually(lambda: figure("reason_runs_waiting") == 1)
            refused = httpx.post(url, json=quick, headers=headers())
            assert refused.status_code == 429
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert not waits.done()
        assert waits.result().status_code == 200  # in the place of the one that left


def test_who_leaves_the_queue_gives_up_the_place() -> None:
    async def main() -> None:
        admission = AdmissionControl(1, 1)
        async with anyio.create_task_group() as group, admission.admitted():
            group.start_soon(_enter, admission)
            await anyio.wait_all_tasks_blocked()
            assert admission.waiting == 1
            with pytest.raises(Refusal, match="come back"):
                await _enter(admission)
            group.cancel_scope.cancel()
        assert (admission.waiting, admission.running) == (0, 0)
        await _enter(admission)

    anyio.run(main)


async def _enter(admission: AdmissionControl) -> None:
    async with admission.admitted():
        pass


def test_other_names_of_the_world_are_refused_without_a_key(tmp_path: Path) -> None:
    serve = [sys.executable, "-m", "reasoning", "serve", "--port", "0"]
    for more in (["--host", "0.0.0.0"], ["--host", "::"], ["--host", "192.0.2.1"]):
        done = subprocess.run([*serve, *more], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "--api-key-file" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "says"), [("", "no key"), ("short", "can be guessed"), (None, "can't be read")]
)
def test_a_file_of_keys_that_can_t_be_used_is_refused(
    tmp_path: Path, text: str | None, says: str
) -> None:
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidValue, match=says):
        ApiKeys.read(file)


def test_an_answer_does_not_wait_for_the_client_s_acknowledgement(server: Server) -> None:
    with httpx.Client(headers=headers()) as client:
        quickest = min(_seconds(client, f"{server.url}/v1/models") for _ in range(20))
    assert quickest < 0.03  # a delayed acknowledgement takes 0.04 s


def _seconds(client: httpx.Client, url: str) -> float:
    started = time.perf_counter()
    client.get(url).raise_for_status()
    return time.perf_counter() - started


def test_a_port_that_is_taken_is_one_line(server: Server) -> None:
    port = str(server.address[1])
    serve = [sys.executable, "-m", "reasoning", "serve", "--port", port]
    done = subprocess.run(serve, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"reason: port: {port} ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_runs_and_the_server(how: int) -> None:
    server = Server("--drain", "1")
    with raw_post(server, "/v1/chat/completions", chat(HARD, **LONG, stream=True)) as connection:
        eventually(lambda: server.metric("reason_runs") == 1)
        body = connection.recv(100)
        assert server.stop(how) == (130 if how == signal.SIGINT else 0)
        while piece := connection.recv(1 << 16):
            body = (body + piece)[-1000:]
    assert b"shutting_down" in body
    assert "Traceback" not in server.log


def refuses(server: Server) -> bool:
    try:
        socket.create_connection(server.address, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("busy", [False, True])
def test_a_second_signal_stops_the_runs_at_once_and_shows_no_traceback(busy: bool) -> None:
    server = Server("--drain", "60")
    with raw_post(server, "/v1/chat/completions", chat(HARD, **LONG, stream=True)) as connection:
        eventually(lambda: server.metric("reason_runs") == 1)
        if not busy:
            connection.close()
            eventually(lambda: server.metric("reason_runs") == 0)
        server.process.send_signal(signal.SIGINT)
        eventually(lambda: refuses(server))
        assert server.stop(signal.SIGINT) in (130, -signal.SIGINT)
    assert "Traceback" not in server.log


def test_a_body_that_never_comes_does_not_keep_a_place(server: Server) -> None:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    )
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(head.encode())
        assert httpx.get(f"{server.url}/health").json()["runs"] == 0
        assert b"408" in connection.recv(4096)


def test_a_slow_reader_loses_thoughts_and_nothing_else() -> None:
    async def main() -> None:
        buffer = EventBuffer(most=10)
        for _ in range(5):
            buffer.put(BranchText(branch="1", text="four"))
        buffer.put(BranchClosed(branch="1", state="succeeded"))
        buffer.close()
        *texts, closed = await buffer.take(0) or ()
        assert isinstance(closed, BranchClosed)
        assert len(texts) == 2
        assert buffer.dropped == 12
        assert await buffer.take(0) is None

    anyio.run(main)


def test_a_silent_branch_makes_room_for_one_that_writes() -> None:
    focus = BranchFocus()

    def feed(now: float, *events: BranchText | BranchClosed) -> list[tuple[str, str, bool]]:
        return [tuple(thought) for thought in focus.feed(events, now)]

    one, two = BranchText(branch="1", text="a"), BranchText(branch="2", text="b")
    assert feed(0.0, one, two) == [("1", "a", True)]
    assert focus.waiting
    assert feed(0.01, two) == []
    assert feed(0.1) == [("2", "bb", True)]
    assert feed(0.11, one) == []
    assert feed(0.12, BranchClosed(branch="2", state="succeeded")) == [("1", "a", True)]
    assert list(focus.flush()) == []


def test_widths_shrink_before_anybody_waits() -> None:
    async def main() -> None:
        admission = AdmissionControl(most=8, queue=1, branches=16)
        widths = []
        async with AsyncExitStack() as stack:
            for _ in range(5):
                place = admission.admitted(8, elastic=True)
                widths.append(await stack.enter_async_context(place))
            assert widths == [8, 4, 2, 1, 1]
            with pytest.raises(Refusal, match="within the request's timeout"):
                async with admission.admitted(8, elastic=True, within=0.01):
                    pass
            assert (admission.waiting, admission.branches) == (0, 16)
        assert (admission.running, admission.branches) == (0, 0)
        async with admission.admitted(99) as width:  # what can't shrink has the whole server
            assert width == 16

    anyio.run(main)


def test_a_key_s_limits_stand_behind_it(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY} width=2 policies=async,sc\n{HASHED} tokens-per-minute=5\n")
    with serving("--api-key-file", str(file)) as server:

        def ask(key: str, **more: Any) -> httpx.Response:
            body = chat(**{"model": "reason-5m/self-consistency:n=4", **more})
            return server.post("/v1/chat/completions", body, headers=headers(key))

        narrow = ask(KEY).json()["x_reason"]
        assert (narrow["width"], narrow["notes"]) == (2, ["width-shrunk"])
        refused = ask(KEY, x_reason={"policy": "esc"})
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "policy_not_allowed"
        assert ask(HASHED).status_code == 200
        spent = ask(HASHED)
        assert spent.status_code == 429
        assert spent.json()["error"]["code"] == "token_limit_reached"
        assert int(spent.headers["retry-after"]) > 10


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidValue, match="width=many is no limit"):
        ApiKeys([f"{KEY} width=many"])
    assert ApiKeys([KEY]).admit(f"Bearer {KEY}")
