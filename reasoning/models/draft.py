"""A second model in a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reasoning.backends.base import Backend
from reasoning.language.dialects import Dialect


@dataclass(frozen=True, kw_only=True)
class Side:
    """A model beside a run's own, entered by whoever opened the run.

    Attributes:
        memory: What strategies of two have learnt of the pair, by policy, for the runs to come.
    """

    name: str
    backend: Backend
    dialect: Dialect
    max_tokens: int
    memory: dict[str, Any] = field(default_factory=dict)
