"""What a shell offers when a key is pressed: names that are there, and paths where none fits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from reasoning import BACKENDS, DOMAINS, POLICIES, STRATEGIES, Strategy
from reasoning.cli import main
from reasoning.models.catalog import shipped


def offered(words: str, incomplete: str = "") -> list[str]:
    """What stands there to choose behind some words; of paths, their kind."""
    shell = ShellComplete(main, {}, "reason", "_REASON_COMPLETE")
    found = shell.get_completions(words.split(), incomplete)
    return [one.value if one.type == "plain" else f"a {one.type}" for one in found]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("solve --strategy", STRATEGIES.names),
        ("solve --policy", POLICIES.names),
        ("solve --backend", BACKENDS.names),
        ("solve --domain", DOMAINS.names),
        ("eval mine.jsonl --policy sc --strategy", STRATEGIES.names),
    ],
)
def test_names_of_registries_are_offered(words: str, names: list[str]) -> None:
    assert offered(words) == names
    assert offered(words, names[0][:2]) == [name for name in names if name[:2] == names[0][:2]]


def test_a_name_that_was_registered_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STRATEGIES, "_kinds", dict(vars(STRATEGIES)["_kinds"]))
    STRATEGIES.register("mine", Strategy)
    assert offered("solve --strategy", "mi") == ["mine"]


def test_where_no_name_fits_the_shell_completes_files() -> None:
    assert offered("solve --strategy", "./my") == ["a file"]


@pytest.mark.parametrize("command", ["solve", "serve", "worker --hub URL", "eval FILE", "plan X"])
def test_models_on_this_machine_are_offered(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name, whole in (("org--kept", True), ("org--half", False)):
        snapshot = tmp_path / f"models--{name}" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (tmp_path / f"models--{name}" / "refs").mkdir()
        (tmp_path / f"models--{name}" / "refs" / "main").write_text("abc")
        (snapshot / "config.json").write_text("{}")
        if whole:
            (snapshot / "model.safetensors").write_bytes(b"")
    assert offered(f"{command} --model") == [*shipped(), "org/kept"]
    assert offered(f"{command} --model", "org/") == ["org/kept"]
    assert offered(f"{command} --model", "./mo") == ["a dir"]


def test_commands_and_options_are_offered() -> None:
    assert {"solve", "serve", "eval"} <= set(offered("", ""))
    assert "--base-url" in offered("solve", "--b")


def test_bash_is_answered_by_the_command_itself() -> None:
    asked = {"_REASON_COMPLETE": "bash_complete", "COMP_WORDS": "reason solve --strategy hog"}
    done = subprocess.run(
        [sys.executable, "-c", "from reasoning.cli import main; main(prog_name='reason')"],
        env={**asked, "COMP_CWORD": "3", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "plain,hogwild\n", done.stderr
