"""What evaluation programs ask a strategy, and get from it, without these programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.errors import ReasonError
from protocol.http.errors import Refusal
from reasoning.integrations.strategy_model import StrategyArguments, StrategyModel
from tests.support.rule_server import RuleServer, rule_server


@pytest.fixture
def server() -> Iterator[RuleServer]:
    with rule_server() as rules:
        yield rules


def made(server: RuleServer, **more: Any) -> StrategyModel:
    return StrategyModel(StrategyArguments.of({"base_url": server.url, **more}))


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def test_a_chat_is_answered_by_the_vote_of_several_samples(server: RuleServer) -> None:
    model = made(server, strategy="self-consistency:n=3")
    vote = "SAY: \\boxed{4} || it is \\boxed{5} || so \\boxed{5.0}"
    found = model.chat(ask(vote, max_tokens=64)).result()
    model.close()
    assert found["choices"][0]["message"]["content"] in ("it is \\boxed{5}", "so \\boxed{5.0}")
    assert found["x_reason"]["votes"]["5"] == 2
    assert found["usage"]["completion_tokens"] == 2 + 4 + 3  # of all samples
    assert [body["max_tokens"] for body in server.bodies] == [64] * 3


def test_many_chats_are_answered_at_once(server: RuleServer) -> None:
    model = made(server, strategy="self-consistency:n=2")
    pending = [model.chat(ask(f"SAY: \\boxed{{{n}}}")) for n in range(12)]
    said = [one.result()["choices"][0]["message"]["content"] for one in pending]
    model.close()
    assert said == [f"\\boxed{{{n}}}" for n in range(12)]


def test_a_program_that_closes_nothing_ends(server: RuleServer) -> None:
    code = f"""
from reasoning.integrations.strategy_model import StrategyArguments, StrategyModel

model = StrategyModel(StrategyArguments.of({{"base_url": {server.url!r}}}))
body = {{"messages": [{{"role": "user", "content": "SAY: hello"}}]}}
print(model.chat(body).result()["choices"][0]["message"]["content"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_shipped_model_answers_too() -> None:
    given = {"model": "reason-5m", "strategy": "self-consistency:n=4"}
    model = StrategyModel(StrategyArguments.of(given))
    found = model.chat(ask("Compute 3+4")).result()
    model.close()
    assert found["choices"][0]["message"]["content"] == "7"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "rules"),
        ({"strategy": "self-consistency:n=8"}, "rules/self-consistency:n=8"),
        ({"strategy": "self-consistency:n=8;ahead=2"}, "rules/self-consistency:n=8,ahead=2"),
        ({"strategy": ["self-consistency:n=8", "ahead=2"]}, "rules/self-consistency:n=8,ahead=2"),
        ({"policy": "async:k=4"}, "rules/self-consistency:policy=async:k=4"),
    ],
)
def test_settings_reach_the_strategy_however_programs_part_them(
    server: RuleServer, given: dict[str, Any], name: str
) -> None:
    assert made(server, **given).name == name


def test_what_was_said_of_the_model_goes_before_what_a_program_asks(server: RuleServer) -> None:
    model = made(server, temperature=0.3, n=2, strategy="self-consistency")
    model.chat(ask("SAY: \\boxed{1}", temperature=1.5)).result()
    model.close()
    assert [body["temperature"] for body in server.bodies] == [0.3, 0.3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stategy": "apr"}, "stategy: no argument; did you mean 'strategy'"),
        ({"strategy": "nope"}, "no strategy 'nope'"),
        ({"strategy": "self-consistency:m=4"}, "has no setting 'm'"),
        ({"policy": "nope"}, "policy: 'nope' does not exist"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_asked(
    server: RuleServer, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReasonError) as refused:
        made(server, **given)
    assert message in str(refused.value)
    assert server.bodies == []


def test_a_request_that_asks_nothing_is_refused(server: RuleServer) -> None:
    model = made(server)
    with pytest.raises(Refusal, match="messages"):
        model.chat({"messages": []})
