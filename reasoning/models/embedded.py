"""Models on the embedded engine."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from orchestrator.errors import importing
from reasoning.backends.settings import EmbeddedSettings
from reasoning.engine.config import read_config
from reasoning.language.loading import authors_sampling, load_dialect
from reasoning.models.catalog import find, name_of
from reasoning.models.loaded import LoadedModel


class EmbeddedSource(EmbeddedSettings):
    """Loads shipped models by name, and any other from its folder.

    Attributes:
        threads: CPU threads, by default as many as there are cores.  A small batch uses one of
            them, unless OMP_NUM_THREADS lets torch use more.
    """

    threads: int | None = Field(default=None, ge=1)

    def load(self, model: str | Path | None = None) -> LoadedModel:
        """The model ``model``; by default the larger shipped one.

        Raises:
            InvalidValue: there is no such device.
            ModelUnusable: there is no such model, or its folder can't be used.
            ExtraMissing: torch is not installed.
        """
        folder = find(model)
        config = read_config(folder)
        # Two OpenMP threads beside a busy process make a small step many times slower, because
        # each waits for the other by spinning; the policy is read when torch is first imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("KMP_BLOCKTIME", "0")
        with importing("local", "the embedded engine"):
            import safetensors  # noqa: F401
            import tokenizers  # noqa: F401
            import torch
        from reasoning.backends.embedded import EmbeddedBackend
        from reasoning.engine.engine import Engine

        if self.threads or "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)
        dialect = load_dialect(folder, config, native=self.dialect)
        engine = Engine.load(
            folder,
            dtype=getattr(torch, self.type),
            lanes=self.threads,
            store_gib=self.store_gib,
            device=self.device,
        )
        return LoadedModel(
            name=name_of(folder),
            dialect=dialect,
            context=config.context,
            backend=EmbeddedBackend(engine),
            sampling={**config.sampling, **authors_sampling(dialect)},
        )
