"""How vLLM loads a model with tensors that mark paths: by its own loader, which never sees them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from reasoning.engine.identities import find_vectors, is_vector
from reasoning.vllm_plugin.checks.symbols import refuse_symbols

PREFIX = "reason-"
FORMATS = "auto", "hf", "safetensors"
"""vLLM's own formats that its default loader reads from safetensors."""


class PathlessLoader(DefaultModelLoader):
    """vLLM's default loader, without what marks paths: no model of vLLM's has a place for it."""

    def __init__(self, load_config: Any) -> None:
        known = load_config.load_format.removeprefix(PREFIX)
        super().__init__(replace(load_config, load_format=known))

    def get_all_weights(self, *args: Any, **options: Any) -> Generator[tuple[str, Tensor]]:
        for name, tensor in super().get_all_weights(*args, **options):
            if not is_vector(name):
                yield name, tensor


@contextmanager
def without_vectors(config: Any) -> Iterator[None]:
    """Let a runner that loads its model leave out what marks paths, where there is some.

    A name on a hub is no folder before it is loaded, so that nobody knows yet whether there is.

    Raises:
        InvalidValue: vLLM's loader is not the one that was read.
    """
    loading = config.load_config
    known = loading.load_format
    folder = Path(config.model_config.model)
    marked = bool(find_vectors(folder))
    if marked:
        refuse_symbols("paths")
    if known in FORMATS and (marked or not folder.exists()):
        register_model_loader(f"{PREFIX}{known}")(PathlessLoader)
        loading.load_format = f"{PREFIX}{known}"
    try:
        yield
    finally:
        loading.load_format = known
