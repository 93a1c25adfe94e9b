"""Commands and their options."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import Any, NoReturn

import click

from orchestrator.errors import InvalidValue, ReasonError, leaf
from reasoning.cli import hub, plan, server
from reasoning.cli import traces as stored
from reasoning.cli.doctor import doctor
from reasoning.cli.interrupts import INTERRUPTED, leave_when_interrupted
from reasoning.cli.options import backend_options

MOST_INPUT = 1_000_000  # bytes of standard input; a longer one is refused by its length


def _version() -> str:
    try:
        return metadata.version("parallel-reason")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _fail(error: Exception, *, as_json: bool) -> int:
    """Print one line (and an object, where asked for) and return the exit code."""
    cause = leaf(error)
    message = " ".join(str(cause).split())
    code, exit_code = type(cause).__name__, 1
    if isinstance(cause, ReasonError):
        code, exit_code = cause.code, cause.exit_code
    elif isinstance(cause, click.ClickException):
        code, exit_code = "InvalidValue", cause.exit_code
        message = f"{' '.join(cause.format_message().split())} See --help."
    else:
        if os.environ.get("REASON_DEBUG"):
            traceback.print_exception(error)
        message = f"internal error: {code}: {message}; REASON_DEBUG=1 shows where"
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message}}))
    click.echo(f"reason: {message}", err=True)
    return exit_code


class _OneLineErrors(click.Group):
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
            click.echo("reason: interrupted", err=True)
            code = INTERRUPTED
        except BrokenPipeError:
            # What is left in the buffer can't be written; don't let the exit try again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except Exception as error:
            code = _fail(error, as_json="--json" in arguments)
        sys.exit(code)


@click.group(
    cls=_OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(_version(), prog_name="reason")
def main() -> None:
    """Reason in parallel: split a problem into threads, join them, print one verified answer."""


@main.command()
@click.argument("problem")
@click.option(
    "--strategy",
    metavar="NAME",
    help="single, self-consistency or apr; by default the best that the model has.",
)
@click.option(
    "--n",
    type=int,
    help="Samples of self-consistency (16), or each apr thread's budget of children (24).",
)
@click.option(
    "--model",
    metavar="NAME|PATH",
    help="A shipped model (reason-5m), a Hugging Face folder, or a model's name on a server.",
)
@click.option(
    "--draft", metavar="NAME|PATH|URL", help="A smaller model that drafts, for --strategy atts."
)
@backend_options
@hub.device_options
@click.option(
    "--policy",
    metavar="NAME[:param=…]",
    help="When to stop samples of self-consistency, as async:k=8; reason replay knows the same.",
)
@click.option("--temperature", type=float, help="0 is greedy; by default the strategy's own.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed gives the same tokens."
)
@click.option(
    "--max-tokens",
    type=int,
    help="The context of each thread, prompt included; by default the model's.",
)
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="Stop then, and answer with what there is."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of the answer."
)
@click.option("--quiet", "-q", is_flag=True, help="No tree of threads on stderr.")
def solve(problem: str, as_json: bool, quiet: bool, **options: Any) -> int:
    """Solve PROBLEM, stated in words; - reads it from standard input.

    The answer goes to stdout; the threads and the cost go to stderr.  Exits with 0 for an answer
    that the verifier did not reject, 1 for none or a rejected one or an error, 2 for wrong usage
    and 130 for Ctrl-C.

    \b
    reason solve "Use 3, 10, 21 and 23 to make 50"
    reason solve "Compute (17*3+5)*4-12" --strategy self-consistency --n 8
    """
    from reasoning.cli.solve import run

    if problem == "-":
        problem = _standard_input()
    return run(problem, as_json=as_json, quiet=quiet, **options)


def _standard_input() -> str:
    if sys.stdin is None:
        raise InvalidValue("standard input is closed; give the problem as an argument")
    try:
        return sys.stdin.buffer.read(MOST_INPUT).decode()
    except UnicodeDecodeError as error:
        raise InvalidValue("standard input is not UTF-8; encode it as such") from error


@main.group(name="bench")
def bench() -> None:
    """Measure strategies on held-out problems."""


def _bench_options(*strategies: str, count: int = 50) -> Callable[[Any], Any]:
    """The options that every domain's bench has."""
    options: list[Any] = [
        click.option(
            "--n",
            "--problems",
            "count",
            type=int,
            default=count,
            show_default=True,
            help="How many held-out problems.",
        ),
        click.option(
            "--strategy",
            "strategies",
            multiple=True,
            metavar="NAME[:n=N]",
            default=strategies,
            show_default=True,
            help="A strategy and its n; may be repeated.",
        ),
        click.option(
            "--policy",
            "policies",
            multiple=True,
            metavar="NAME[:param=…]",
            help="Also self-consistency steered by this policy; may be repeated.",
        ),
        click.option(
            "--max-tokens",
            "contexts",
            type=click.IntRange(min=16),
            multiple=True,
            default=(512,),
            show_default=True,
            help="Context of each thread; may be repeated.",
        ),
        click.option(
            "--model", metavar="NAME|PATH", help="A shipped model or a Hugging Face folder."
        ),
        click.option("--temperature", type=float, help="By default the strategy's own."),
        click.option(
            "--seed",
            type=int,
            default=0,
            show_default=True,
            help="Chooses the problems and the samples.",
        ),
        click.option(
            "--parallel",
            type=click.IntRange(1, 256),
            default=8,
            show_default=True,
            help="Problems solved at once.",
        ),
        click.option(
            "--json", "as_json", is_flag=True, help="Print one JSON object instead of a table."
        ),
    ]

    def decorate(command: Any) -> Any:
        for option in options[::-1]:
            command = option(command)
        return command

    return decorate


@bench.command()
@click.option(
    "--numbers",
    type=click.IntRange(4, 5),
    default=4,
    show_default=True,
    help="Numbers in each problem; 5 is the harder set.",
)
@_bench_options("single", "apr")
def countdown(**options: Any) -> int:
    """Countdown: accuracy, work, span and wall time of each strategy at each context."""
    from reasoning.bench.bench import run

    return run("countdown", **options)


@bench.command()
@_bench_options("single", "self-consistency")
def arithmetic(**options: Any) -> int:
    """Multi-step arithmetic: accuracy, work, span and wall time of each strategy."""
    from reasoning.bench.bench import run

    return run("arithmetic", **options)


@bench.command()
@click.option(
    "--numbers",
    type=click.IntRange(2, 12),
    default=5,
    show_default=True,
    help="Expressions in each problem.",
)
@_bench_options("single", "multiverse", "hogwild")
def several(**options: Any) -> int:
    """Several expressions in one prompt: accuracy, coverage, work and span."""
    from reasoning.bench.bench import run

    return run("several", **options)


@bench.command()
@click.option(
    "--numbers",
    type=click.IntRange(2, 100),
    default=40,
    show_default=True,
    help="Items in a problem, at most.",
)
@_bench_options("group-think:n=1", "group-think", count=40)
def enumeration(**options: Any) -> int:
    """So many different items: accuracy, coverage, work and span."""
    from reasoning.bench.bench import run

    return run("enumeration", **options)


@bench.command(name="shortest-paths")
@click.option(
    "--numbers",
    type=click.IntRange(3, 4),
    default=4,
    show_default=True,
    help="Nodes of each graph.",
)
@_bench_options("group-think:n=1", "group-think")
def shortest(**options: Any) -> int:
    """Floyd-Warshall on small graphs: accuracy, coverage, work and span."""
    from reasoning.bench.bench import run

    return run("shortest-paths", **options)


for _command in (
    doctor,
    server.serve,
    stored.replay,
    stored.sample,
    stored.judge,
    stored.calibrate,
    plan.plan,
    *hub.commands,
):
    main.add_command(_command)
