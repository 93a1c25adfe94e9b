"""Settings beside flags: variables, then a file; what is misspelt is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from reasoning.cli import main

TOML = """
base-url = "http://localhost:8000/v1"
temperature = 0.6
chat-template-kwargs = {a = 1}

[solve]
n = 8
stop = ["END", "a b"]
quiet = true

[serve]
port = 9
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "reason").mkdir()
    return tmp_path / "reason" / "config.toml"


def shown(*arguments: str) -> dict[str, list[object]]:
    done = CliRunner().invoke(main, ["config", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return {one["name"]: [one["value"], one["source"]] for one in json.loads(done.stdout)}


def test_a_variable_wins_over_the_file_and_all_say_where_they_stand(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text(TOML)
    monkeypatch.setenv("REASON_TEMPERATURE", "0.9")
    monkeypatch.setenv("REASON_SOLVE_SEED", "3")
    assert shown() == {
        "base-url": [["http://localhost:8000/v1"], str(home)],
        "temperature": ["0.9", "REASON_TEMPERATURE"],
        "chat-template-kwargs": [{"a": 1}, str(home)],
        "n": [8, str(home)],
        "stop": [["END", "a b"], str(home)],
        "quiet": [True, str(home)],
        "seed": ["3", "REASON_SOLVE_SEED"],
    }
    assert shown("serve")["port"] == [9, str(home)]
    assert "n" not in shown("serve")


def test_nothing_is_set_where_there_is_no_file(home: Path) -> None:
    assert shown() == {}
    assert shown("--all")["seed"] == [0, "default"]
    assert f"{home}" in CliRunner().invoke(main, ["config"]).output


def test_settings_reach_a_command_and_a_flag_wins(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text("[solve]\nstrategy = 'apr'\nn = 99\n")
    refused = CliRunner().invoke(main, ["solve", "Use 3, 10, 21 and 23 to make 50"])
    assert "n: 99 is out of range" in refused.stderr
    monkeypatch.setenv("REASON_SOLVE_N", "98")
    refused = CliRunner().invoke(main, ["solve", "Use 3, 10, 21 and 23 to make 50"])
    assert "n: 98 is out of range" in refused.stderr
    refused = CliRunner().invoke(main, ["solve", "Use 3, 10 and 21 to make 50", "--n", "97"])
    assert "n: 97 is out of range" in refused.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("temprature = 1", "'temprature', which is no setting; did you mean 'temperature'?"),
        ("[solve]\nstratgy = 'apr'", "'stratgy', which is no setting; did you mean 'strategy'?"),
        ("[slove]\nn = 1", "did you mean 'solve'?"),
        ("n = 8", "'n', which is no setting"),
        ("solve = 3", "write [solve]"),
        ("= 3", "can't be read"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_its_key(home: Path, text: str, said: str) -> None:
    home.write_text(text)
    done = CliRunner().invoke(main, ["solve", "Use 3, 10, 21 and 23 to make 50"])
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_named_file_must_be_there_and_a_misspelt_variable_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = CliRunner().invoke(main, ["solve", "x", "--config", str(home)])
    assert "can't be read" in missing.stderr
    monkeypatch.setenv("REASON_TEMPRATURE", "1")
    refused = CliRunner().invoke(main, ["solve", "x"])
    assert "did you mean 'REASON_TEMPERATURE'?" in refused.stderr


def test_variables_of_others_stop_no_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHON", "TEST_MODEL", "WORKER_TIMEOUTS", "OUTCOME_OF_THE_DAY"):
        monkeypatch.setenv(f"REASON_{name}", "1")
    done = CliRunner().invoke(main, ["config", "solve"])
    assert done.exit_code == 0, done.stderr
    refused = CliRunner().invoke(main, ["solve", "x", "--domain", "nosuch"])
    assert "no setting" not in refused.stderr
