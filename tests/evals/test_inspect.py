"""A strategy as a provider of Inspect, and Inspect's logs as traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, tool

from orchestrator.errors import ReasonError
from reasoning.evaluation.importers import import_traces
from tests.support.rule_server import RuleServer

VOTE = "SAY: \\boxed{4} || it is \\boxed{5} || so \\boxed{5}"


@tool
def double() -> Tool:
    async def execute(number: int) -> str:
        """Double a number.

        Args:
            number: The number.
        """
        return str(2 * number)

    return execute


def evaluated(server: RuleServer, task: Task, folder: Path, **arguments: Any) -> EvalLog:
    config = {name: arguments.pop(name) for name in ("epochs", "log_format") if name in arguments}
    (log,) = eval(
        task,
        model="reason/rules",
        model_base_url=server.url,
        model_args=arguments,
        log_dir=str(folder),
        display="none",
        **config,
    )
    return log


def task(words: str = VOTE, **config: Any) -> Task:
    return Task(
        dataset=[Sample(id="q", input=words, target="5")],
        solver=generate(),
        scorer=includes(),
        config=GenerateConfig(**config),
    )


def test_the_vote_of_samples_is_scored_as_one_answer(server: RuleServer, tmp_path: Path) -> None:
    log = evaluated(
        server, task(max_tokens=64), tmp_path, strategy="self-consistency:n=3", temperature=0.7
    )
    assert log.status == "success"
    assert log.samples is not None
    output = log.samples[0].output
    assert output.completion in ("it is \\boxed{5}", "so \\boxed{5}")
    assert output.usage is not None
    assert output.usage.output_tokens == 2 + 4 + 3  # of all samples
    assert [body["max_tokens"] for body in server.bodies] == [64] * 3
    assert {body["temperature"] for body in server.bodies} == {0.7}


@pytest.mark.parametrize("log_format", ["eval", "json"])
def test_logs_are_traces(server: RuleServer, tmp_path: Path, log_format: str) -> None:
    log = evaluated(server, task(), tmp_path, epochs=3, log_format=log_format)
    (question,) = import_traces([log.location]).questions
    assert (question.right, question.words) == ({"5"}, VOTE)
    assert sorted(str(trace.answer) for trace in question.traces) == ["4", "5", "5"]
    assert sorted(trace.tokens for trace in question.traces) == [2, 3, 4]


def test_tools_are_called_by_the_chosen_branch(server: RuleServer, tmp_path: Path) -> None:
    calling = Task(
        dataset=[Sample(id="q", input='CALL: double {"number": 21}', target="42")],
        solver=[use_tools(double()), generate()],
        scorer=includes(),
    )
    log = evaluated(server, calling, tmp_path, strategy="self-consistency:n=2")
    assert log.status == "success", log.error
    assert log.samples is not None
    assert "42" in log.samples[0].output.completion


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stategy": "single"}, "stategy: no argument; did you mean"),
        ({"strategy": "nope"}, "no strategy 'nope'"),
    ],
)
def test_a_wrong_argument_is_refused(
    server: RuleServer, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReasonError, match=message):
        evaluated(server, task(), tmp_path, **arguments)
    assert server.bodies == []


def test_what_a_strategy_can_not_do_fails_the_task_by_name(
    server: RuleServer, tmp_path: Path
) -> None:
    log = evaluated(server, task(logprobs=True), tmp_path)
    assert log.error is not None
    assert "logprobs: a strategy can't do this" in log.error.message
    assert server.bodies == []
