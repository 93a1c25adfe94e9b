"""A server for the programs that people use, and what came of each of their features.

These tests run in an environment of their own, which ``scripts/test-clients`` makes; where the
programs are not installed they are not collected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support import vllm_server
from tests.support.rule_server import rule_server
from tests.support.serving_tools import serving

PROGRAMS = ("openai", "anthropic", "litellm", "langchain-openai", "pydantic-ai-slim")
PROGRAMS += ("instructor", "llm")
MODULES = ("litellm", "langchain_openai", "pydantic_ai", "instructor", "llm", "anthropic")
collect_ignore_glob = [] if all(map(find_spec, MODULES)) else ["test_*.py"]

VLLM_OPTIONS = "--enable-auto-tool-choice --tool-call-parser hermes --tool-strict-level parameter"
VLLM_OPTIONS += ' --structured-outputs-config {"backend":"xgrammar","disable_any_whitespace":true}'
VLLM_SIZES = "--max-model-len 4096 --dtype float32 --block-size 32 --enforce-eager"
VLLM_SIZES += " --gpu-memory-utilization 0.3"


@contextmanager
def vllm() -> Iterator[str]:
    """The URL of the ``vllm serve`` that is named, or of one that the named command starts."""
    if "REASON_TEST_VLLM_URL" in os.environ:
        yield os.environ["REASON_TEST_VLLM_URL"]
        return
    model = Path(os.environ["REASON_TEST_CHAT_MODEL"])
    command = [os.environ["REASON_TEST_VLLM_COMMAND"], "serve", str(model)]
    command += ["--served-model-name", model.name, *VLLM_OPTIONS.split(), *VLLM_SIZES.split()]
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with vllm_server.started(command, log, {"VLLM_CPU_KVCACHE_SPACE": "1"}) as running:
            yield running.url


UPSTREAMS: dict[str, Callable[[ExitStack], list[str]]] = {
    "scripted": lambda stack: ["--base-url", stack.enter_context(rule_server()).url],
    "embedded": lambda stack: ["--model", os.environ["REASON_TEST_CHAT_MODEL"]],
    "vllm": lambda stack: [
        *("--base-url", stack.enter_context(vllm())),
        *("--engine", "probe_timeout=60"),  # it compiles its first grammar meanwhile
    ],
}
"""What stands behind, and how the server is told of it."""
NEEDED = {
    "scripted": {"PATH"},
    "embedded": {"REASON_TEST_CHAT_MODEL"},
    "vllm": {"REASON_TEST_VLLM_URL", "REASON_TEST_VLLM_COMMAND"},
}
"""The variables of which one must be there."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server in front of one of the upstreams.

    Attributes:
        model: The name of its model.
        behind: Which upstream it is.
    """

    url: str
    model: str
    behind: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def scripted(self) -> bool:
        """Whether it is known what is answered."""
        return self.behind == "scripted"


@pytest.fixture(scope="session", params=UPSTREAMS)
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    behind = request.param
    if not NEEDED[behind] & os.environ.keys():
        pytest.skip(f"none is named by {' or '.join(sorted(NEEDED[behind]))}")
    with ExitStack() as stack:
        options = UPSTREAMS[behind](stack)
        if behind == "scripted":  # a real model's samples take their time
            options += ["--default", "self-consistency:n=2"]
        server = stack.enter_context(serving(*options))
        models = server.get("/v1/models").json()["data"]
        yield Endpoint(url=server.url, model=models[0]["id"], behind=behind)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(program, name): what a test shows.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    report: Any = yield
    mark = item.get_closest_marker("feature")
    if mark is not None and (report.when == "call" or report.outcome == "skipped"):
        behind = str(item.callspec.params["endpoint"])
        item.config.stash.setdefault(_FOUND, []).append((*mark.args, behind, report.outcome))
    return report


_FOUND = pytest.StashKey[list[tuple[str, str, str, str]]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what came of each feature, where a file is named for it."""
    file = os.environ.get("REASON_TEST_RESULTS")
    if file is None:
        return
    found: dict[str, Any] = {}
    for program, feature, behind, outcome in session.config.stash.get(_FOUND, []):
        tried = found.setdefault(program, {}).setdefault(feature, {})
        if tried.get(behind) != "failed":  # a feature may have several tests
            tried[behind] = outcome
    versions = {name: metadata.version(name) for name in PROGRAMS}
    report = {"schema": "reason.clients/1", "versions": versions, "programs": found}
    Path(file).write_text(json.dumps(report, indent=2) + "\n")
