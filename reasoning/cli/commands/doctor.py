"""``reason doctor``: what a server can do, and which strategies run on it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from reasoning.cli.options import json_option, option, options, settings_class
from reasoning.cli.printing import print_object, print_tables, table

if TYPE_CHECKING:
    from reasoning.cli.diagnosis import DoctorReport


@settings_class
class DoctorSettings:
    """The servers that are examined."""

    base_urls: tuple[str, ...] = option(
        "An OpenAI-compatible server, as http://localhost:8000/v1; may be repeated.",
        "--base-url",
        multiple=True,
        required=True,
        metavar="URL",
    )
    model: str | None = option("The model there; by default the first listed.", metavar="NAME")
    engine: tuple[str, ...] = option(
        "A setting, as for solve.", multiple=True, metavar="NAME=VALUE"
    )
    as_json: bool = json_option("tables")


@click.command()
@options(DoctorSettings)
def doctor(settings: DoctorSettings) -> None:
    """Find out what a server can do, by a few requests of one token, and which strategies run.

    \b
    reason doctor --base-url http://localhost:8000/v1
    """
    import anyio

    from reasoning.cli.diagnosis import diagnose
    from reasoning.models.loading import model_source

    source = model_source(base_urls=settings.base_urls, settings=settings.engine)
    report = anyio.run(diagnose, source.model_copy(update={"model": settings.model}))
    if settings.as_json:
        print_object(report)
    else:
        _print(report)


def _print(report: DoctorReport) -> None:
    for facts in report.facts:
        made = table(f"{facts.model} at {facts.url}", "capability", "found")
        apart = {"url", "model", "models", "learnt", "older"}
        for name, value in facts.model_dump(exclude=apart).items():
            age = f" ({_age(facts.older[name])})" if name in facts.older else ""
            made.add_row(name.replace("_", " "), _word(value) + age)
        print_tables(made)
    click.echo(f"mode {report.mode}: {', '.join(report.capabilities) or 'plain text only'}")
    for one in report.strategies:
        click.echo(f"  {one.strategy}: {one.word}")


def _age(since: datetime) -> str:
    """How long ago something was learnt that the server did not say now."""
    minutes = round((datetime.now(UTC) - since).total_seconds() / 60)
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"


def _word(value: object) -> str:
    match value:
        case None:
            return "unknown"
        case ():
            return "nothing"
        case tuple():
            return ", ".join(map(str, value))
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
