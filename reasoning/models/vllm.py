"""Models on vLLM in a process of its own."""

from __future__ import annotations

from pathlib import Path

from reasoning.backends.vllm.settings import VllmSettings
from reasoning.engine.config import read_config
from reasoning.errors import ModelUnusable
from reasoning.language.loading import authors_sampling, load_dialect
from reasoning.models.catalog import find, name_of, shipped
from reasoning.models.loaded import LoadedModel


class VllmSource(VllmSettings):
    """Loads shipped models by name, and any other from its folder; the engine starts on entry."""

    def load(self, model: str | Path | None = None) -> LoadedModel:
        """The model ``model``; by default the larger shipped one.

        Raises:
            ModelUnusable: there is no such model, or its folder can't be used.
        """
        from reasoning.backends.vllm.backend import VllmBackend

        folder = find(model)
        config = read_config(folder)
        if config.path_vectors and self.plugin is None:
            raise ModelUnusable(
                f"{folder} marks paths (seg_embeddings), which vLLM does by the plugin alone; add "
                "--engine plugin=join"
            )
        kind = VllmBackend
        if self.plugin is not None:
            from reasoning.vllm_plugin.backend import SharedVllmBackend as kind
        dialect = load_dialect(folder, config, native=self.dialect)
        return LoadedModel(
            name=name_of(folder),
            dialect=dialect,
            context=min(config.context, self.context or config.context),
            backend=kind(folder, config, self._with_folders()),
            sampling={**config.sampling, **authors_sampling(dialect)},
        )

    def _with_folders(self) -> VllmSource:
        """These settings, where a shipped draft is named by its folder."""
        draft = self.speculative
        if draft is None or draft.model not in shipped():
            return self
        folder = str(shipped()[draft.model])
        return self.model_copy(update={"speculative": draft.model_copy(update={"model": folder})})
