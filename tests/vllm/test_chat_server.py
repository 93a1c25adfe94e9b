"""A real chat model on ``vllm serve``, asked through `solve`, as anybody would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from reasoning import Reasoner
from reasoning.cli.diagnosis import diagnose
from reasoning.models.server import ServerSource
from tests.support.vllm_server import AS_MODULE, started

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("default"),
    pytest.mark.slow,
]

ROOT = Path(__file__).parents[2]
CONTEXT = 1024


class ChatServer(NamedTuple):
    url: str

    @property
    def source(self) -> ServerSource:
        return ServerSource(base_urls=(self.url,), probe_timeout=60)

    def counted(self, name: str) -> int:
        """One of the server's own figures."""
        page = urllib.request.urlopen(self.url.replace("/v1", "/metrics")).read().decode()
        found = re.findall(rf"^vllm:{name}\{{[^}}]*\}} (\S+)", page, re.M)
        return round(sum(map(float, found)))


@pytest.fixture(scope="module")
def server(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    command = [
        *(*AS_MODULE, str(chat_model), "--served-model-name", "smollm2", "--enforce-eager"),
        *("--dtype", "float32", "--block-size", "32", "--max-model-len", str(CONTEXT)),
    ]
    with started(command, tmp_path_factory.mktemp("serve") / "log") as running:
        yield ChatServer(running.url)


async def test_chat_is_asked_in_chat_with_all_that_vllm_can(server: ChatServer) -> None:
    report = await diagnose(server.source)
    (facts,) = report.facts
    assert (report.mode, facts.server, facts.context) == ("chat", "vllm", CONTEXT)
    for name in ("chat", "chat_continuation", "token_prompts", "token_ids", "scoring", "seeds"):
        assert facts.facts[name], name
    assert facts.json_schema
    assert facts.refused == ()


def test_every_strategy_does_what_the_doctor_says(server: ChatServer, tmp_path: Path) -> None:
    out = tmp_path / "servers.json"
    script = ROOT / "benchmarks" / "servers.py"
    done = subprocess.run(
        [sys.executable, script, out, f"vllm={server.url}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {row["strategy"]: row for row in json.loads(out.read_text())["vllm"]["strategies"]}
    assert rows["apr"]["did"] == "refused"
    for name in ("single", "self-consistency"):
        assert (rows[name]["did"], rows[name]["lost"]) == ("runs", 0)
    for name in ("multiverse", "parathinker", "hogwild", "group-think"):
        assert rows[name]["did"] in ("runs", "emulated")
        assert rows[name]["lost"] == 0, rows[name]["errors"]


async def test_what_is_counted_is_what_the_server_counts(server: ChatServer) -> None:
    model = await server.source.connect()
    before = server.counted("generation_tokens_total")
    async with Reasoner(model) as reasoner:
        solution = await reasoner.solve(
            "Name a fruit.", strategy="self-consistency", n=3, max_new_tokens=24, temperature=1.0
        )
    written = server.counted("generation_tokens_total") - before
    assert solution.usage.completion_tokens == written
    assert solution.errors == ()


async def test_a_sample_that_is_stopped_ends_on_the_server(server: ChatServer) -> None:
    model = await server.source.connect()
    async with Reasoner(model) as reasoner:
        with anyio.move_on_after(6):
            await reasoner.solve(
                "Write a long story about the sea.", policy="sc:n=4", temperature=1.0
            )
    before = server.counted("generation_tokens_total")
    with anyio.fail_after(60):
        while server.counted("num_requests_running"):
            await anyio.sleep(0.5)
            assert server.counted("generation_tokens_total") - before < 200


async def test_limits_and_stop_texts_hold(server: ChatServer) -> None:
    model = await server.source.connect()
    assert model.context == CONTEXT
    async with Reasoner(model) as reasoner:
        counted = await reasoner.solve(
            "Count from 1 to 9 in digits.", strategy="single", stop=(" 4",), answer="text"
        )
        long = await reasoner.solve("word " * 900, strategy="single", answer="text")
    assert " 4" not in counted.threads[0].text
    assert long.threads[0].tokens <= CONTEXT
    assert long.errors == () or "context" in long.errors[0]
