"""A strategy, a policy, a backend and a domain of one's own: as objects, by name, from a file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator import ReasonError, TaskGraph
from reasoning import BACKENDS, DOMAINS, POLICIES, STRATEGIES, TextBackend, solve_sync
from reasoning.registry import KindRegistry
from reasoning.values.sampling import Sampling

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OWN = {
    "strategy": (STRATEGIES, "own_strategy.py:SecondOpinion", "second-opinion"),
    "policy": (POLICIES, "own_policy.py:Quorum", "quorum"),
    "backend": (BACKENDS, "own_backend.py:ToyBackend", "toy"),
    "domain": (DOMAINS, "own_domain.py:Binary", "binary"),
}
COMMANDS = [
    ["Compute 12 + 5 * 3", "--strategy", "own_strategy.py:SecondOpinion:more=1"],
    ["Compute 12 + 5 * 3", "--policy", "own_policy.py:Quorum:need=2"],
    [
        *("Write 42 in binary", "--strategy", "self-consistency"),
        *("--backend", "own_backend.py:ToyBackend", "--domain", "own_domain.py:Binary"),
    ],
]


class Parrot(TextBackend):
    async def write(
        self, messages: list[dict[str, str]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        yield f"\\boxed{{{messages[-1]['content'].split()[1]}}}"


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[-1])
def test_the_command_takes_a_class_out_of_a_file(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "reasoning", "solve", *arguments, "--json", "--quiet"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verified"] is True
    assert found["answer"] in ("27", "101010")


@pytest.mark.parametrize("seam", OWN)
def test_an_example_is_short(seam: str) -> None:
    file = EXAMPLES / OWN[seam][1].partition(":")[0]
    assert len(file.read_text().splitlines()) <= 40


@pytest.mark.parametrize("seam", OWN)
def test_each_seam_takes_a_registered_name_and_an_entry_point(
    seam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, place, name = OWN[seam]
    kind = registry.choose(f"{EXAMPLES}/{place}").kind
    own: KindRegistry[object] = KindRegistry(registry.noun, group=registry.group, kinds={})
    own.register(name, kind)
    assert own.choose(name).kind is kind
    point = metadata.EntryPoint(f"{name}-installed", f"{__name__}:Parrot", registry.group)
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [point])
    fresh: KindRegistry[object] = KindRegistry(registry.noun, group=registry.group, kinds={})
    assert isinstance(fresh.make(f"{name}-installed"), Parrot)


def test_a_backend_is_taken_as_an_object() -> None:
    solution = solve_sync("Say parrot", backend=Parrot(), strategy="self-consistency", n=3)
    assert (solution.answer, solution.model) == ("parrot", "Parrot")


WRONG = """
from dataclasses import dataclass
from reasoning import Strategy, TextBackend

class NoBase: ...

@dataclass(frozen=True, kw_only=True)
class ReturnsNothing(Strategy):
    async def solve(self, run): ...

class Unready(TextBackend):
    def __init__(self, words: int = 1) -> None:
        self.words = words

    async def write(self, messages, sampling, *, most):
        yield "x"
"""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "NoBase"}, "is no Strategy; derive it from Strategy"),
        ({"policy": "NoBase"}, "is no Policy; derive it from Policy"),
        ({"strategy": "ReturnsNothing"}, "'ReturnsNothing' returned None from solve; return self"),
        ({"backend": "Unready:words=2"}, "call super"),
        ({"strategy": "Missing"}, "no class 'Missing'"),
    ],
)
def test_the_mistakes_of_authors_are_told_in_a_line(
    tmp_path: Path, options: dict[str, str], words: str
) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(WRONG)
    with pytest.raises(ReasonError, match=words):
        solve_sync("Compute 2 + 3", **{key: f"{file}:{name}" for key, name in options.items()})  # type: ignore[arg-type]


def test_a_file_that_can_not_be_loaded_is_told_with_its_error(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import nothing_like_this")
    with pytest.raises(ReasonError, match=r"can't be loaded .ModuleNotFoundError"):
        solve_sync("Compute 2 + 3", strategy=f"{file}:Name")


def test_an_error_of_a_task_comes_without_another_before_it() -> None:
    def bad() -> None:
        raise ValueError("boom")

    graph = TaskGraph()
    with pytest.raises(ValueError, match="boom") as caught:
        graph.run_sync(graph.add(bad))
    assert not isinstance(caught.value.__context__, RuntimeError)


@pytest.mark.parametrize("problem", [None, 5, b"x"])
def test_what_is_no_problem_is_told(problem: object) -> None:
    with pytest.raises(ReasonError, match="neither a text nor a Problem"):
        solve_sync(problem)  # type: ignore[arg-type]
