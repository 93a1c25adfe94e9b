"""Reasoning on devices: a model whose threads workers generate, and what else workers can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from protocol import ModelOffer, Registry
from reasoning.engine.config import ModelConfig, read_config
from reasoning.language.dialects import Dialect, load_dialect
from reasoning.models.catalog import find
from reasoning.problems import recognise
from reasoning.values.capabilities import Capability

if TYPE_CHECKING:
    from protocol import Client, Hub
    from reasoning.backends.remote import RemoteBackend


@dataclass(frozen=True, kw_only=True)
class RemoteModel:
    """A model of which this process knows only the language; workers have the weights."""

    name: str
    config: ModelConfig
    dialect: Dialect
    _backend: RemoteBackend = field(repr=False)

    @classmethod
    def load(
        cls,
        model: str | Path | None,
        submitter: Hub | Client,
        *,
        patience_s: float = 60.0,
    ) -> RemoteModel:
        """A shipped model by name, or any folder, on the workers of a hub.

        ``submitter`` is entered and left with the backend.

        Raises:
            ModelUnusable: there is no such model, or its folder can't be used.
        """
        from reasoning.backends.remote import RemoteBackend
        from reasoning.backends.thread_host import fingerprint

        folder = find(model)
        config = read_config(folder)
        return cls(
            name=folder.name,
            config=config,
            dialect=load_dialect(folder, config),
            _backend=RemoteBackend(
                submitter,
                folder.name,
                context=config.context,
                fingerprint=fingerprint(folder),
                patience_s=patience_s,
            ),
        )

    @property
    def context(self) -> int:
        """The most tokens that a thread may see."""
        return self.config.context

    @property
    def shipped(self) -> bool:
        """Whether it speaks our markup."""
        return self.config.markup is not None

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the model and the workers can do together."""
        return self.dialect.capabilities | self._backend.capabilities

    def backend(self) -> RemoteBackend:
        """The backend, to be entered with ``async with``."""
        return self._backend


def offer_of(model: str | Path | None, *, backend: str, slots: int) -> ModelOffer:
    """What a worker with this model tells its hub.

    Raises:
        ModelUnusable: there is no such model, or its folder can't be used.
    """
    from reasoning.backends.thread_host import fingerprint

    folder = find(model)
    return ModelOffer(
        name=folder.name,
        backend=backend,
        fingerprint=fingerprint(folder),
        context=read_config(folder).context,
        slots=slots,
    )


registry = Registry()
"""What every ``reason worker`` can do, besides generating."""


@registry.tool
def verify(problem: str, answer: str) -> bool | None:
    """Whether an answer to a problem is right; null if the problem has no verifier."""
    verdict = recognise(problem).verify(answer)
    return None if verdict is None else verdict.ok
