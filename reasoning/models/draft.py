"""A smaller model beside a run's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reasoning.backends.base import Backend
from reasoning.language.dialect import Dialect


@dataclass(frozen=True, kw_only=True)
class DraftModel:
    """A model that drafts for a run's own, entered by whoever opened the run.

    Attributes:
        memory: What strategies of two models have learnt of the pair, by policy, for later runs.
    """

    name: str
    backend: Backend
    dialect: Dialect
    max_tokens: int
    memory: dict[str, Any] = field(default_factory=dict)
