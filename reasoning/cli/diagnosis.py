"""What a server can do, and which strategies run on it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reasoning.backends.openai.profile import ServerProfile
from reasoning.backends.openai.replicas.addresses import Addresses
from reasoning.models.server import ServerSource
from reasoning.strategies import STRATEGIES
from reasoning.strategies.support import StrategySupport, support


class DoctorReport(BaseModel):
    """What ``reason doctor --json`` prints."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_: Literal["reason.doctor/1"] = Field(default="reason.doctor/1", alias="schema")
    mode: str
    """How it is talked to: in token ids, in text, or as a chat."""
    capabilities: tuple[str, ...]
    strategies: tuple[StrategySupport, ...]
    facts: tuple[ServerProfile, ...]
    """One for each address."""


async def diagnose(settings: ServerSource) -> DoctorReport:
    """Ask every address; the first one decides what runs."""
    addresses = await Addresses(settings.base_urls).now()
    sources = [settings.model_copy(update={"base_urls": (url,)}) for url in addresses]
    models = [one.with_profile(await one.examine(thorough=True)) for one in sources]
    first = models[0]
    backends: list[Any] = [model.backend for model in models]
    return DoctorReport(
        mode=backends[0].mode,
        capabilities=tuple(sorted(first.capabilities)),
        strategies=tuple(support(STRATEGIES.make(name), first) for name in STRATEGIES.names),
        facts=tuple(backend.profile for backend in backends),
    )
