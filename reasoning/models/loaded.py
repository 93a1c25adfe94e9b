"""A model that is ready to reason: its language, on a backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
        sampling: The model's own way of drawing tokens, by fields of `Sampling`, as its
            ``generation_config.json`` has it.
        samples_itself: Whether the backend draws tokens in the model's own way where nothing is
            said, as servers do; None where it has a way of its own that nobody knows.
    """

    name: str
    dialect: Dialect
    context: int
    backend: Backend
    sampling: Mapping[str, float] = field(default_factory=dict)
    samples_itself: bool | None = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model and the backend can do together."""
        return self.dialect.capabilities | self.backend.capabilities
