"""``reason plan``: a language model plans a request over the devices of a hub."""

from __future__ import annotations

from typing import Any

import click

from reasoning.cli.hub import PORT
from reasoning.cli.options import backend_options


@click.command()
@click.argument("request", required=False)
@click.option("--model", metavar="NAME|PATH", help="The chat model that plans.")
@backend_options
@click.option(
    "--hub",
    "url",
    metavar="URL",
    envvar="REASON_HUB",
    help=f"The hub whose devices are used; without it one opens here, on port {PORT}.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Holds the token for --hub, with the scope submit; or it is in REASON_TOKEN.",
)
@click.option(
    "--devices",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="How many devices to wait for before planning begins, up to a minute.",
)
@click.option(
    "--turns",
    type=click.IntRange(1, 10_000),
    default=30,
    show_default=True,
    help="How often the planner may be asked.",
)
@click.option(
    "--journal",
    metavar="FILE",
    help="Records edits, results and turns, so that a run that was cut off can go on.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run in --journal, if it holds one; REQUEST may then be left out.",
)
@click.option("--timeout", metavar="TIME", help="As 90s or 10m; then it ends with what there is.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="The planner's.")
@click.option(
    "--held/--not-held",
    default=None,
    help="Whether replies must be held to the schema of plans while they are generated; by default "
    "where the backend can.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The planner's.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of the answer."
)
@click.option("--quiet", "-q", is_flag=True, help="Nothing on stderr while it runs.")
def plan(request: str | None, **options: Any) -> int:
    """Have REQUEST carried out by devices, as a language model plans.

    The answer goes to stdout; each edit of the plan, and what becomes of it, to stderr.  Exits with
    0 for an answer and 1 for none.

    \b
    reason plan "Compare the logs of all machines" --base-url http://localhost:8000/v1
    reason plan --journal run.db --resume --base-url http://localhost:8000/v1
    """
    from reasoning.cli.planner import run

    return run(request, **options)
