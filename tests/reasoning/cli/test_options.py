"""Options are read alike in every command."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from reasoning.cli import main
from reasoning.cli.options import Duration
from reasoning.models.loading import BACKENDS
from reasoning.policies import POLICIES
from reasoning.problems import DOMAINS
from reasoning.strategies import STRATEGIES
from tests.support.option_tables import commands

TIMES = {"timeout", "drain", "lease", "expires", "grace", "patience"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("1.5m", 90)],
)
def test_a_time_is_a_number_of_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


def test_times_are_read_alike_in_every_command() -> None:
    found = {
        (name, option.name): option.type
        for name, command in commands(main).items()
        for option in command.params
        if option.name in TIMES
    }
    assert {name for _, name in found} == TIMES
    assert {key for key, kind in found.items() if not isinstance(kind, Duration)} == set()


@pytest.mark.parametrize("text", ["", "soon", "s", "1w", "0", "-1s", "nan", "inf", "1e99"])
@pytest.mark.parametrize("command", ["solve x", "plan x", "serve"])
def test_what_is_no_time_is_one_line_that_names_the_option(command: str, text: str) -> None:
    done = CliRunner().invoke(main, [*command.split(), f"--timeout={text}"])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("reason: timeout: ")


def test_a_time_out_of_an_options_range_says_the_range() -> None:
    done = CliRunner().invoke(main, ["hub", "--lease", "2h"])
    assert "lease: 2h is out of range; give from 0.5 to 3600 seconds" in done.stderr


STRATEGY_COMMANDS = ("solve", "eval")
POLICY_COMMANDS = (*STRATEGY_COMMANDS, "replay")


@pytest.mark.parametrize(
    ("commands", "option", "told"),
    [
        (STRATEGY_COMMANDS, "--strategy=apr:m=3", "strategy: apr has no setting 'm'"),
        (STRATEGY_COMMANDS, "--strategy=apr:n=2,n=3", "strategy: n is given twice"),
        (STRATEGY_COMMANDS, "--strategy=apr:n", "strategy: 'n' is not key=value"),
        (STRATEGY_COMMANDS, "--strategy=aprr", "did you mean 'apr'?"),
        (POLICY_COMMANDS, "--policy=async:m=3", "policy: async has no setting 'm'"),
        (POLICY_COMMANDS, "--policy=async:k=2,k=3", "policy: k is given twice"),
        (POLICY_COMMANDS, "--policy=deepprune:judge=/no/such", "/no/such"),
    ],
)
def test_strategies_and_policies_are_read_alike_in_every_command(
    commands: tuple[str, ...], option: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "traces").write_text('{"traces": [{"tokens": 1, "answer": "1"}], "gold": "1"}')
    given = {"solve": "Compute 3+4", "eval": "countdown", "replay": str(tmp_path / "traces")}
    for command in commands:
        done = CliRunner().invoke(main, [command, given[command], option])
        assert done.exit_code in (1, 2)
        (line,) = done.stderr.splitlines()
        assert told in line


def test_help_lists_what_the_registries_hold() -> None:
    shown = "".join(CliRunner().invoke(main, ["solve", "--help"]).stdout.split())
    for registry in (STRATEGIES, POLICIES, BACKENDS, DOMAINS):
        assert f"Oneof{','.join(registry.names)};or" in shown


def test_every_option_says_what_it_is_for() -> None:
    silent = {
        (name, option.name)
        for name, command in commands(main).items()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    }
    assert silent == set()


@pytest.mark.parametrize("arguments", [[], ["token"], ["judge"]])
def test_a_command_without_arguments_shows_its_help(arguments: list[str]) -> None:
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0
    assert shown.stdout == CliRunner().invoke(main, [*arguments, "--help"]).stdout
