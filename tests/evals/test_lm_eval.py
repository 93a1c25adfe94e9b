"""A strategy as a model of lm-eval, and lm-eval's samples as traces."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from orchestrator.errors import InvalidValue
from reasoning.evaluation.importers import import_traces
from reasoning.integrations.lm_eval import StrategyLM
from tests.support.rule_server import RuleServer

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: {target}
{more}
"""
GENERATE = """
generation_kwargs: {until: ["STOP"], max_gen_toks: 64}
filter_list:
  - name: boxed
    filter:
      - {function: regex, regex_pattern: "boxed.(-?[0-9.]+)"}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
ASKED = [
    {"question": "SAY: \\boxed{4} || \\boxed{5} STOP more || \\boxed{5}", "answer": "5"},
    {"question": "SAY: \\boxed{7} || \\boxed{7} || \\boxed{8}", "answer": "7"},
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder of tasks: three that generate, repeat, and compare likelihoods."""
    data = tmp_path / "asked.jsonl"
    data.write_text("\n".join(map(json.dumps, ASKED)))
    choices = 'doc_to_choice: ["5", "7"]'
    answer = '"{{answer}}"'
    for name, kind, target, more in (
        ("voted", "generate_until", answer, GENERATE),
        ("repeated", "generate_until", answer, f"repeats: 3\n{GENERATE}"),
        ("compared", "multiple_choice", 0, choices),
    ):
        text = TASK.format(name=name, kind=kind, data=data, more=more, target=target)
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def evaluated(server: RuleServer, tasks: Path, task: str, arguments: str, **more: Any) -> Any:
    return simple_evaluate(
        model="reason",
        model_args=f"base_url={server.url},{arguments}",
        tasks=[task],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
        **more,
    )


@pytest.mark.parametrize("template", [True, False], ids=["chat", "plain"])
def test_the_vote_of_samples_is_scored_as_one_answer(
    server: RuleServer, tasks: Path, template: bool
) -> None:
    found = evaluated(
        server, tasks, "voted", "strategy=self-consistency:n=3", apply_chat_template=template
    )
    assert found["results"]["voted"]["exact_match,boxed"] == 1.0
    (first, _) = found["samples"]["voted"]
    assert "STOP" not in first["resps"][0][0]
    assert len(server.bodies) == 2 * 3
    assert {body["max_tokens"] for body in server.bodies} == {64}
    assert all(body["stop"] == ["STOP"] for body in server.bodies)
    # A task's greedy default would make all samples one.
    assert not any(body.get("temperature") == 0 for body in server.bodies)


def test_one_sample_is_greedy_where_the_task_says_so(server: RuleServer, tasks: Path) -> None:
    found = evaluated(server, tasks, "voted", "strategy=single,until=false")
    assert found["results"]["voted"]["exact_match,boxed"] == 0.5
    assert {body["temperature"] for body in server.bodies} == {0}
    assert not any("stop" in body for body in server.bodies)


def test_likelihoods_are_refused_by_name(server: RuleServer, tasks: Path) -> None:
    with pytest.raises(InvalidValue, match="a strategy has no log-likelihoods"):
        evaluated(server, tasks, "compared", "strategy=single")
    assert server.bodies == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stategy": "single"}, "stategy: no argument; did you mean"),
        ({"strategy": "nope"}, "no strategy 'nope'"),
    ],
)
def test_a_wrong_argument_is_refused(
    server: RuleServer, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        StrategyLM(base_url=server.url, batch_size=1, device=None, **arguments)


def test_the_package_declares_the_model_for_versions_that_look_for_it() -> None:
    (found,) = entry_points(group="lm_eval.models", name="reason")
    assert found.load() is StrategyLM


def test_the_beginning_of_an_answer_is_refused(server: RuleServer) -> None:
    model = StrategyLM(base_url=server.url)
    with pytest.raises(InvalidValue, match="gen_prefix"):
        model.apply_chat_template([], add_generation_prompt=False)


def test_the_command_writes_samples_that_are_traces(
    server: RuleServer, tasks: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "reasoning.integrations.lm_eval", "run"]
    command += ["--model", "reason", "--model_args", f"base_url={server.url},temperature=0.7"]
    command += ["--tasks", "repeated", "--include_path", str(tasks), "--apply_chat_template"]
    command += ["--log_samples", "--output_path", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (samples,) = (tmp_path / "out").rglob("samples_repeated_*.jsonl")
    first, second = import_traces([str(samples)]).questions
    assert [sorted(str(trace.answer) for trace in one.traces) for one in (first, second)] == [
        ["4", "5", "5"],
        ["7", "7", "8"],
    ]
    assert (first.id, first.right, second.right) == ("repeated/0", {"5"}, {"7"})
