"""The ``reason`` command: its subcommands, and what every one of them does at its end."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

import click

from reasoning.cli.interrupts import INTERRUPTED, leave_when_interrupted
from reasoning.cli.printing import print_error, show_logs_plainly, warn

COMMANDS = (
    *("calibrate", "config", "doctor", "eval", "graph", "hub", "judge", "plan", "replay"),
    *("report", "runs", "secret", "serve", "solve", "token", "view", "worker"),
)
"""Each is a module of `reasoning.cli.commands`, which holds a command of the same name."""

FOLDERS = {
    "runs": "kept.runs",
    "secret": "access.secret",
    "token": "access.token",
    "view": "kept.view",
}
"""Those that stand in a folder with others."""


class Commands(click.Group):
    """Imports a command when it is needed, and makes one line and an exit code of every error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = FOLDERS.get(cmd_name, cmd_name)
        command = getattr(import_module(f"reasoning.cli.commands.{module}"), cmd_name)
        assert isinstance(command, click.Command)
        if isinstance(command, click.Group) or cmd_name == "config" or _is_configured(command):
            return command
        from reasoning.cli.commands.config.stored import configured

        return configured(cmd_name, command, COMMANDS)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        for name in ("stdout", "stderr"):  # closed by the shell: nobody is listening
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        arguments = kwargs.get("args") or (args[0] if args else None) or sys.argv[1:]
        if sys.stdout is sys.__stdout__:  # a process of its own
            leave_when_interrupted()
            show_logs_plainly()
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, TextIOWrapper):  # what the console can't show is spelled out
                    stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False}) or 0
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "")
            code = 0
        except (click.Abort, KeyboardInterrupt):
            warn("interrupted")
            code = INTERRUPTED
        except BrokenPipeError:
            # What is left in the buffer can't be written; don't let the exit try again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except Exception as error:
            code = print_error(error, as_json="--json" in arguments)
        sys.exit(code)


def _is_configured(command: click.Command) -> bool:
    return any(one.name == "config" for one in command.params)


def _print_version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from importlib import metadata  # slow: only here

    try:
        version = metadata.version("parallel-reason")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"reason, version {version}")
    context.exit()


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Reason in parallel: split a problem into threads, join them, print one verified answer."""
