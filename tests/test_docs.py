"""What the documents show runs, and what they claim stands in a results file."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from protocol import Report
from reasoning import BACKENDS, DOMAINS, POLICIES, STRATEGIES
from reasoning.cli import main
from tests.support import option_tables

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.S | re.M)


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page registers is forgotten after it."""
    for registry in (STRATEGIES, POLICIES, BACKENDS, DOMAINS):
        monkeypatch.setattr(registry, "_kinds", dict(vars(registry)["_kinds"]))


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text()) if kind == language]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")))
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.py")), ids=lambda example: example.name
)
def test_every_example_runs(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_every_figure_comes_from_a_results_file_or_is_declared() -> None:
    script = ROOT / "benchmarks" / "report.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_documented_json_fits_the_schema() -> None:
    (example,) = blocks(ROOT / "docs" / "cli.md", "json")
    Report.model_validate(json.loads(example))


def test_the_documented_options_are_those_of_the_commands() -> None:
    page = option_tables.PAGE.read_text()
    assert page == option_tables.filled(page)
    documented = {name.partition(" ")[0] for _, name, _, _ in option_tables.BLOCK.findall(page)}
    assert documented == {name.partition(" ")[0] for name in option_tables.commands(main)}


def test_the_public_names_are_these() -> None:
    import reasoning

    for name in dir(reasoning):
        assert getattr(reasoning, name) is not None


def test_the_tests_that_the_threat_model_names_are_there() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text()
    files: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):  # some are of one name
        files[path.stem] = files.get(path.stem, "") + path.read_text()
    named = re.findall(r"`(test_\w+)::(test_\w+)`", page)
    assert len(named) > 40
    assert [test for file, test in named if f"def {test}(" not in files.get(file, "")] == []
