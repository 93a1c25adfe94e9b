"""What works where no extra is installed: help, completion, and models that are elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABSENT = """
import sys

for name in (
    *("torch", "numpy", "safetensors", "transformers", "tokenizers", "jinja2", "gguf", "sklearn"),
    *("matplotlib", "pyarrow", "vllm", "ray", "math_verify", "openai", "starlette", "uvicorn"),
    *("websockets", "a2a", "jsonschema", "prometheus_client", "opentelemetry", "cel", "typer"),
):
    sys.modules[name] = None
"""
HELP = """
import click
from reasoning.cli.main import COMMANDS, main

for name in COMMANDS:
    command = main.get_command(click.Context(main), name)
    assert command.get_help(click.Context(command, info_name=name))
"""
COMPLETION = """
from click.shell_completion import ShellComplete
from reasoning.cli import main

shell = ShellComplete(main, {}, "reason", "_REASON_COMPLETE")
for option in ("--strategy", "--policy", "--backend", "--domain", "--model"):
    assert len(shell.get_completions(["solve", option], "")) > 1, option
"""
SOLVING = """
from reasoning import STRATEGIES, TextBackend, solve_sync

class Fixed(TextBackend):
    async def write(self, messages, sampling, *, most):
        yield "It is \\\\boxed{4}"

for name in STRATEGIES.names:
    if name not in ("apr", "ab-mcts", "atts", "native"):  # need more than words
        assert solve_sync("2+2?", backend=Fixed(), strategy=name).answer == "4", name
"""

REFUSAL = """
from orchestrator.errors import ExtraMissing
from reasoning import solve_sync

try:
    solve_sync("Compute 1 + 1")
except ExtraMissing as error:
    assert str(error).endswith("[local]'") and "pip install " in str(error)
else:
    raise AssertionError("it found what is not there")
"""


GRAPH = """
from orchestrator import TaskGraph
from orchestrator.errors import ExtraMissing

def half(n: int) -> int:
    return n // 2

graph = TaskGraph()
four = graph.add(half, 8)
last = graph.add(half, four, after={four: "completion"})
try:
    graph.add(half, 2, after={four: "result > 3"})
except ExtraMissing as error:
    assert "the condition 'result > 3' needs cel; " in str(error), error
else:
    raise AssertionError("it decides without what decides")
assert graph.run_sync(last) == 2
"""


@pytest.mark.parametrize(
    "code",
    [HELP, COMPLETION, SOLVING, REFUSAL, GRAPH],
    ids=["help", "completion", "solving", "refusal", "graph"],
)
def test_it_works_without_any_extra(code: str) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", ABSENT + code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
