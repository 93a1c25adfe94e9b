"""The server keeps its own schema's promises, whatever is sent."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.serving_tools import Server, serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--a2a", "--timeout", "0.1", "--model", "reason-1m") as server:
        yield server


def test_generated_requests_never_make_the_server_fail(server: Server, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{server.url}/openapi.json",
            f"--checks={','.join(CHECKS)}",
            "--max-examples=6",
            "--phases=examples,coverage,fuzzing",
            "--mode=all",
            "--seed=1",
            "--generation-database=none",
            "--request-timeout=30",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) generated", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) > 100
    assert server.metric("reason_requests_total", status="200") > 0
    assert server.metric("reason_requests_total", status="500") == 0


def test_the_schema_names_every_field_and_documents_ours(server: Server) -> None:
    spec = httpx.get(f"{server.url}/openapi.json").json()
    assert set(spec["paths"]) == {
        "/health",
        "/metrics",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/responses/{id}",
        "/.well-known/agent-card.json",
        "/a2a",
        "/a2a/v1/message:send",
        "/a2a/v1/message:stream",
        "/a2a/v1/tasks",
        "/a2a/v1/tasks/{id}",
        "/a2a/v1/tasks/{id}:cancel",
        "/a2a/v1/tasks/{id}:subscribe",
    }
    chat = spec["components"]["schemas"]["ChatRequest"]
    assert chat["additionalProperties"] is True  # what is unknown is for the server behind
    assert {"model", "messages", "n", "tools", "x_reason"} <= set(chat["properties"])
    assert "description" in chat["properties"]["messages"]
    assert json.dumps(spec).count('"$ref"') > 5
