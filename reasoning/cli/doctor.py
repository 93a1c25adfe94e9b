"""``reason doctor``: the command and its options."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--base-url",
    "base_urls",
    multiple=True,
    required=True,
    metavar="URL",
    help="An OpenAI-compatible server, as http://localhost:8000/v1; may be repeated.",
)
@click.option("--model", metavar="NAME", help="The model there; by default the first listed.")
@click.option(
    "--engine", "settings", multiple=True, metavar="NAME=VALUE", help="A setting, as for solve."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def doctor(
    base_urls: tuple[str, ...], model: str | None, settings: tuple[str, ...], as_json: bool
) -> int:
    """Find out what a server can do, by a few requests of one token, and which strategies run.

    \b
    reason doctor --base-url http://localhost:8000/v1
    """
    from reasoning.cli.doctor_report import run

    return run(base_urls, model, settings, as_json=as_json)
