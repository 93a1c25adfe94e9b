"""Reasoning on devices: a model whose threads workers generate, and what else workers can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protocol import ModelOffer, Registry
from reasoning.engine.config import read_config
from reasoning.language.loading import load_dialect
from reasoning.models.catalog import find, name_of
from reasoning.models.loaded import LoadedModel
from reasoning.problems import recognise

if TYPE_CHECKING:
    from protocol import Client, Hub, ShardedClient
    from reasoning.backends.base import Backend


@dataclass(frozen=True, kw_only=True)
class DevicesSource:
    """Models of which this process knows only the language; workers have the weights.

    Attributes:
        submitter: The hub's side here, entered and left with the backend.
        patience_s: How long a thread waits for a worker that has the model, in seconds.
    """

    submitter: Hub | Client | ShardedClient
    patience_s: float = 60.0

    def load(self, model: str | Path | None = None) -> LoadedModel:
        """A shipped model by name, or any folder, on the workers of a hub.

        Raises:
            ModelUnusable: there is no such model, or its folder can't be used.
        """
        from reasoning.backends.remote import RemoteBackend
        from reasoning.backends.thread_host import fingerprint

        folder = find(model)
        config = read_config(folder)
        backend = RemoteBackend(
            self.submitter,
            name_of(folder),
            context=config.context,
            fingerprint=fingerprint(folder),
            patience_s=self.patience_s,
        )
        return LoadedModel(
            name=name_of(folder),
            dialect=load_dialect(folder, config),
            context=config.context,
            backend=backend,
            sampling=config.sampling,
        )


def offer_of(
    model: str | Path | None, *, backend: Backend, kind: str = "embedded", slots: int
) -> ModelOffer:
    """What a worker with this model, on a backend of this kind, tells its hub.

    Raises:
        ModelUnusable: there is no such model, or its folder can't be used.
    """
    from reasoning.backends.thread_host import fingerprint

    folder = find(model)
    return ModelOffer(
        name=name_of(folder),
        backend=kind,
        fingerprint=fingerprint(folder),
        context=read_config(folder).context,
        slots=slots,
        capabilities=frozenset(backend.capabilities),
    )


registry = Registry()
"""What every ``reason worker`` can do, besides generating."""


@registry.tool
def verify(problem: str, answer: str) -> bool | None:
    """Whether an answer to a problem is right; null if the problem has no verifier."""
    verdict = recognise(problem).verify(answer)
    return None if verdict is None else verdict.ok
