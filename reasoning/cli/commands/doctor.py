"""``reason doctor``: what a server can do, and which strategies run on it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from orchestrator.errors import InvalidValue
from reasoning.cli.options import json_option, option, options, settings_class
from reasoning.cli.printing import print_object, print_tables, say, table

if TYPE_CHECKING:
    from reasoning.cli.diagnosis import DoctorReport


@settings_class
class DoctorSettings:
    """The servers that are examined, or the vLLM that is installed."""

    base_urls: tuple[str, ...] = option(
        "An OpenAI-compatible server, as http://localhost:8000/v1; may be repeated.",
        "--base-url",
        multiple=True,
        metavar="URL",
    )
    vllm: bool = option("Examine the vLLM that is installed here instead.", is_flag=True)
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
    reason doctor --vllm
    """
    if settings.vllm:
        _examine_vllm(settings)
        return
    import anyio

    from reasoning.cli.diagnosis import diagnose
    from reasoning.models.loading import model_source

    if not settings.base_urls:
        raise InvalidValue("--base-url: name a server; or ask for --vllm, which is installed here")
    source = model_source(base_urls=settings.base_urls, settings=settings.engine)
    report = anyio.run(diagnose, source.model_copy(update={"model": settings.model}))
    if settings.as_json:
        print_object(report)
    else:
        _print(report)


def _examine_vllm(settings: DoctorSettings) -> None:
    from reasoning.vllm_plugin.checks.compatibility import report as examined

    report = examined()
    if settings.as_json:
        print_object(report)
        raise click.exceptions.Exit(0 if report.usable else 1)
    made = table(f"vLLM {report.version}", "method", "state", "digest", "parameters")
    for one in report.symbols:
        made.add_row(one.name, one.state, one.digest or "", one.parameters)
    print_tables(made)
    say(f"platform {report.platform}; model runner {report.runner}", err=False)
    changed = [one.name for one in report.symbols if one.state == "another body"]
    if changed:
        say(f"warning: {len(changed)} methods have other bodies than were tested")
    if not report.usable:
        raise InvalidValue(f"vllm {report.version}: the plugin does not run on it; see --json")


def _print(report: DoctorReport) -> None:
    for facts in report.facts:
        made = table(f"{facts.model} at {facts.url}", "capability", "found")
        apart = {"url", "model", "models", "learnt", "older"}
        for name, value in facts.model_dump(exclude=apart).items():
            age = f" ({_age(facts.older[name])})" if name in facts.older else ""
            made.add_row(name.replace("_", " "), _word(value) + age)
        print_tables(made)
    say(f"mode {report.mode}: {', '.join(report.capabilities) or 'plain text only'}", err=False)
    for one in report.strategies:
        say(f"  {one.strategy}: {one.word}", err=False)


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
