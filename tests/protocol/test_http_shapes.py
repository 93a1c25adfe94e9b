"""Requests as Open WebUI and LibreChat send them: chats are voted on, small things are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rule_server import RuleServer, rule_server
from tests.support.serving_tools import Server, serving

SHAPES = Path(__file__).parents[1] / "clients" / "shapes"
BODIES: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in SHAPES.iterdir()}
CHATS = [name for name in BODIES if "-chat" in name]
SMALL = [name for name in BODIES if "-chat" not in name]
LIMITED = [name for name in SMALL if "max_tokens" in BODIES[name]]
SAMPLES = 3


@pytest.fixture(scope="module")
def rules() -> Iterator[RuleServer]:
    with rule_server() as rules:
        yield rules


@pytest.fixture(scope="module")
def server(rules: RuleServer) -> Iterator[Server]:
    options = ["--default", f"self-consistency:n={SAMPLES},policy=sc", "--plain-tokens", "1000"]
    with serving("--base-url", rules.url, *options) as server:
        yield server


def samples(server: Server, rules: RuleServer, name: str, model: str) -> int:
    """How many samples a request of this shape gets."""
    before = len(rules.bodies)
    done = server.post("/v1/chat/completions", BODIES[name] | {"model": model})
    assert done.status_code == 200, done.text
    return len(rules.bodies) - before


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_is_voted_on(server: Server, rules: RuleServer, name: str) -> None:
    assert samples(server, rules, name, "rules") == SAMPLES


@pytest.mark.parametrize("name", LIMITED)
def test_a_small_limit_gets_one_sample(server: Server, rules: RuleServer, name: str) -> None:
    assert samples(server, rules, name, "rules") == 1


@pytest.mark.parametrize("name", SMALL)
def test_a_task_model_gets_one_sample(server: Server, rules: RuleServer, name: str) -> None:
    assert samples(server, rules, name, "rules/single") == 1


@pytest.mark.parametrize("name", sorted({*SMALL} - {*LIMITED}))
def test_what_names_neither_is_not_guessed_at(server: Server, rules: RuleServer, name: str) -> None:
    assert samples(server, rules, name, "rules") == SAMPLES
