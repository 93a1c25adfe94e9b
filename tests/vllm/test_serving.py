"""The plugin behind ``vllm serve`` with two API servers."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from reasoning import Reasoner
from reasoning.backends.base import Token
from reasoning.backends.embedded import EmbeddedBackend
from reasoning.engine.engine import Engine
from reasoning.models.loading import load_model
from reasoning.models.server import ServerSource
from reasoning.values.context import Context, Gang, Segment
from reasoning.vllm_plugin import engine_arguments
from reasoning.vllm_plugin.client import PlannedRequest, SegmentClient
from reasoning.vllm_plugin.note import Member
from tests.support.vllm_server import COMMAND, STARTS_S, started

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")

from tests.vllm.test_parathinker import PATHS, solved
from tests.vllm.test_shared_backend import group_think, hogwild, multiverse

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]

STEPS = 96
PATIENCE_S = 4.0
PAGE = Path(__file__).parents[2] / "docs" / "vllm-plugin.md"


def documented(beginning: str) -> str:
    """A command of the plugin's page."""
    blocks = re.findall("```bash\n(.*?)```", PAGE.read_text(), re.S)
    (found,) = (block for block in blocks if block.startswith(beginning))
    return str(found)


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

    _, serve, _, *more = shlex.split(documented("vllm serve MODEL").replace("\\\n", ""))
    transfer = json.loads(more.pop())
    transfer["kv_connector_extra_config"] = {"patience_s": PATIENCE_S}
    command = [
        *(COMMAND, serve, str(shipped()["reason-5m"]), *more, json.dumps(transfer)),
        *("--served-model-name", "m", "--max-model-len", "2048", "--api-server-count", "2"),
    ]
    log = tmp_path_factory.mktemp("serve") / "log"
    with started(command, log) as running, ExitStack() as opened:
        yield Server(*running, opened)


def test_the_documented_request_is_answered(server: Server) -> None:
    asked = documented("curl").replace("localhost:8000", f"127.0.0.1:{server.port}")
    done = subprocess.run(["bash", "-c", asked.replace('"MODEL"', '"m"')], capture_output=True)
    assert len(json.loads(done.stdout)["choices"][0]["token_ids"]) == 4


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


def refusal(server: Server, note: Any, **more: Any) -> tuple[int, str]:
    """The status and the message with which a note is answered."""
    connection = server.connect()
    text = note if isinstance(note, str) else json.dumps(note)
    asked = json.loads(body([5, 6, 7], 2, {"reason": text})) | more
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/completions", json.dumps(asked).encode(), headers)
    answer = connection.getresponse()
    found = json.load(answer)
    return answer.status, found["error"]["message"] if "error" in found else ""


def seeing(name: str, **more: Any) -> dict[str, Any]:
    return {"home": 3, "view": {"segments": [{"name": name, "upto": 2}]}, **more}


MISTAKES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no JSON": ("{oops", {}, "JSON"),
    "an unknown field": ({"hold": []}, {}, "hold"),
    "several answers": ({"keeps": [{"name": "s"}]}, {"n": 2, "temperature": 1}, "n: 2 answers"),
    "a missing segment": (seeing("nowhere"), {}, "segment 'nowhere' is not there"),
    "a view without a place": ({"view": {"segments": []}}, {}, "home"),
    "positions": ({"home": 5000, "view": {"segments": []}}, {}, "home: positions reach"),
    "a short gang": ({"member": {"gang": "g7", "size": 2, "member": 0}}, {}, "gang 'g7'"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_clients_mistake_is_told_by_its_name(server: Server, what: str) -> None:
    note, more, word = MISTAKES[what]
    status, said = refusal(server, note, **more)
    assert (status, word in said) == (400, True), said
    assert refusal(server, {}) == (200, "")


def test_segments_are_seen_and_released_by_their_key_alone(server: Server) -> None:
    assert refusal(server, {"key": "one", "keeps": [{"name": "k"}]}) == (200, "")
    assert refusal(server, {"key": "two", "release": ["k"]}) == (200, "")
    for key in "two", "":
        status, said = refusal(server, seeing("k", key=key))
        assert (status, "segment 'k' is not there" in said) == (400, True), said
    assert refusal(server, seeing("k", key="one")) == (200, "")


@pytest.mark.anyio
async def test_threads_share_over_http_what_they_do_in_the_embedded_engine(
    server: Server, model: Callable[[str], Any]
) -> None:
    folder = model("shipped")
    here = load_model("reason-5m")
    url = f"http://127.0.0.1:{server.port}/v1"
    there = await ServerSource(base_urls=(url,), tokenizer="reason-5m", probe_timeout=60).connect()
    assert {"kv-join", "live-contexts"} <= there.capabilities

    async def paths(backend: Any) -> list[list[Token]]:
        return await solved(backend, here, Gang(size=PATHS, lockstep=True))

    for kind in multiverse, hogwild, group_think, paths:
        async with EmbeddedBackend(Engine.load(folder)) as backend:
            wanted = await kind(backend)
        source = ServerSource(base_urls=(url,), tokenizer="reason-5m", probe_timeout=60)
        async with source.with_profile(there.backend.profile).backend as remote:  # type: ignore[attr-defined]
            with anyio.fail_after(240):
                found = await kind(remote)
        for one, other in zip(wanted, found, strict=True):
            assert [token.token for token in one] == [token.token for token in other], kind
            assert max(abs(a.logprob - b.logprob) for a, b in zip(one, other, strict=True)) < 1e-4


QUESTIONS = {
    "multiverse": "Compute each: 1) 3+4*5; 2) (7-2)*6; 3) 12*8-5",
    "parathinker": "Use 3, 10, 21 and 23 to make 50",
    "hogwild": "List 12 different multiples of 7",
    "group-think": "List 12 different multiples of 7",
}


@pytest.mark.anyio
@pytest.mark.parametrize("strategy", QUESTIONS)
async def test_a_strategy_runs_over_http_as_published(server: Server, strategy: str) -> None:
    url = f"http://127.0.0.1:{server.port}/v1"
    model = await ServerSource(base_urls=(url,), tokenizer="reason-5m", probe_timeout=60).connect()
    problem = QUESTIONS[strategy]
    async with Reasoner(model) as reasoner:
        with anyio.fail_after(240):
            solution = await reasoner.solve(problem, strategy=strategy, n=2, max_tokens=512)
    assert solution.emulated == solution.errors == ()
    assert sum(thread.tokens for thread in solution.threads) > 30


@pytest.mark.parametrize("wrong", [["--dtype", "bfloat16"], ["--max-num-seqs", "1"]])
def test_a_server_refuses_a_wrong_setting_before_it_loads_weights(wrong: list[str]) -> None:
    from reasoning.models.catalog import shipped

    live = engine_arguments("live")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *wrong]
    command += ["--model", str(shipped()["reason-1m"]), "--enforce-eager", "--block-size", "32"]
    command += ["--worker-cls", live["worker_cls"], "--scheduler-cls", live["scheduler_cls"]]
    command += ["--no-async-scheduling"]
    command += ["--kv-transfer-config", json.dumps(live["kv_transfer_config"])]
    quiet = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, timeout=STARTS_S)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: vllm plugin: ")
    assert wrong[0].strip("-").replace("bfloat16", "float32") in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
