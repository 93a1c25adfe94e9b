"""The ``reason`` command: its subcommands, and what every one of them does at its end."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import click

from reasoning.cli.bench import bench
from reasoning.cli.calibrate import calibrate
from reasoning.cli.doctor import doctor
from reasoning.cli.hub import hub
from reasoning.cli.interrupts import INTERRUPTED, leave_when_interrupted
from reasoning.cli.judge import judge
from reasoning.cli.plan import plan
from reasoning.cli.printing import print_error, warn
from reasoning.cli.replay import replay
from reasoning.cli.sample import sample
from reasoning.cli.serve import serve
from reasoning.cli.solve import solve
from reasoning.cli.token import token
from reasoning.cli.worker import worker


class OneLineErrors(click.Group):
    """Turns every error, click's own included, into one line and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        for name in ("stdout", "stderr"):  # closed by the shell: nobody is listening
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        arguments = kwargs.get("args") or (args[0] if args else None) or sys.argv[1:]
        if sys.stdout is sys.__stdout__:  # a process of its own
            leave_when_interrupted()
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False}) or 0
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
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
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


for _command in (
    *(solve, bench, doctor, serve, replay, sample, judge, calibrate),
    *(plan, hub, worker, token),
):
    main.add_command(_command)
