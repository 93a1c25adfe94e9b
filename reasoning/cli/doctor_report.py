"""What a server can do, and which strategies run on it, as an object and as tables."""

from __future__ import annotations

from typing import Literal

import anyio
import click
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from reasoning.backends.openai.server_probe import Facts
from reasoning.backends.openai.settings import OpenaiSettings
from reasoning.backends.settings import parse
from reasoning.models.loading import HttpModel
from reasoning.strategies import STRATEGIES


class StrategyReport(BaseModel):
    """Whether a strategy runs, what it lacks, and what it does instead of what it lacks."""

    model_config = ConfigDict(frozen=True)

    strategy: str
    runs: bool
    lacks: tuple[str, ...]
    emulations: tuple[str, ...]


class DoctorReport(BaseModel):
    """What ``reason doctor --json`` prints."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_: Literal["reason.doctor/1"] = Field(default="reason.doctor/1", alias="schema")
    mode: str
    """How it is talked to: in token ids, in text, or as a chat."""
    capabilities: tuple[str, ...]
    strategies: tuple[StrategyReport, ...]
    facts: tuple[Facts, ...]
    """One for each address."""


async def diagnose(settings: OpenaiSettings) -> DoctorReport:
    """Ask every address; the first one decides what runs."""
    models = [
        await HttpModel.connect(settings.model_copy(update={"base_urls": (url,)}))
        for url in settings.base_urls
    ]
    first = models[0]
    backend = first.backend()
    strategies = []
    for name, kind in STRATEGIES.items():
        missing = kind.needs - first.capabilities
        lacks = tuple(sorted(missing - kind.emulates.keys()))
        emulations = tuple(kind.emulates[one] for one in sorted(missing & kind.emulates.keys()))
        strategies.append(
            StrategyReport(strategy=name, runs=not lacks, lacks=lacks, emulations=emulations)
        )
    return DoctorReport(
        mode=backend.mode,
        capabilities=tuple(sorted(first.capabilities)),
        strategies=tuple(strategies),
        facts=tuple(model.facts for model in models),
    )


def run(
    base_urls: tuple[str, ...], model: str | None, settings: tuple[str, ...], *, as_json: bool
) -> int:
    """Probe, print, and return the exit code."""
    known = {"base_urls": base_urls} | ({"model": model} if model else {})
    report = anyio.run(diagnose, parse(OpenaiSettings, settings, **known))
    if as_json:
        click.echo(report.model_dump_json(by_alias=True, indent=2))
    else:
        _print(report)
    return 0


def _print(report: DoctorReport) -> None:
    console = Console()
    for facts in report.facts:
        table = Table("capability", "found", title=f"{facts.model} at {facts.url}")
        for name, value in facts.model_dump(exclude={"url", "model", "models"}).items():
            table.add_row(name.replace("_", " "), _word(value))
        console.print(table)
    console.print(f"mode {report.mode}: {', '.join(report.capabilities) or 'plain text only'}")
    for one in report.strategies:
        how = f", emulated: {', '.join(one.emulations)}" if one.emulations else ""
        lacks = f"needs {', '.join(one.lacks)}" if one.lacks else f"runs{how}"
        console.print(f"  {one.strategy}: {lacks}")


def _word(value: object) -> str:
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
