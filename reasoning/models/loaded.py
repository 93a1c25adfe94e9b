"""A model that is ready to reason: its language, on a backend."""

from __future__ import annotations

from dataclasses import dataclass

from reasoning.backends.base import Backend
from reasoning.language.dialect import Dialect
from reasoning.values.capabilities import Capability


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model with its language, on whatever backend.

    Attributes:
        dialect: How it is spoken to.
        context: The most tokens that a thread may see.
        backend: What generates, to be entered with ``async with``.
    """

    name: str
    dialect: Dialect
    context: int
    backend: Backend

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model and the backend can do together."""
        return self.dialect.capabilities | self.backend.capabilities
