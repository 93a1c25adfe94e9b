"""ParaThinker's path identities in vLLM: vectors that mark the keys and values of a path's tokens.

The embedded engine adds them to keys before they are rotated.  A rotation is linear, so here each
is rotated to its token's position and added to a key that is rotated already, on its way to the
cache; every attention reads it from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.engine.identities import most_paths, read_identities, refuse_path
from reasoning.vllm_plugin.attention.patches import PatchedMethod
from reasoning.vllm_plugin.attention.rotation import rotary_of, rotated
from reasoning.vllm_plugin.scheduling.plan import StepPlan


def identities_of(config: Any) -> Tensor | None:
    """The identities ``[layers, 1 + paths, dim]`` of a loaded model; None where it has none.

    Raises:
        ModelUnusable: as `read_identities`.
        InvalidValue: as `weights_folder`.
    """
    model = config.model_config
    layers, dim = model.get_total_num_hidden_layers(), model.get_head_size()
    folder = weights_folder(config)
    return None if folder is None else read_identities(folder, layers, dim)


def weights_folder(config: Any) -> Path | None:
    """The folder of a loaded model's weights: the one that was named, or the snapshot of a name on
    a hub; None where the weights were made up.

    Raises:
        InvalidValue: nobody knows it, so that nobody could say whether the model marks paths.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    from vllm.model_executor.model_loader.weight_utils import maybe_download_from_modelscope

    model, loading = config.model_config, config.load_config
    if Path(model.model).exists():
        return Path(model.model)
    if loading.load_format == "dummy":
        return None
    if there := maybe_download_from_modelscope(model.model, model.revision):
        return Path(there)
    try:
        found = snapshot_download(
            model.model,
            revision=model.revision,
            cache_dir=loading.download_dir,
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise InvalidValue(
            f"vllm plugin: the weights of {model.model} are in no folder that is known, so it "
            "can't be said whether they mark paths; download them and serve their folder"
        ) from error
    return Path(found)


def refuse_marks(config: Any, identities: Tensor | None, path: int) -> str | None:
    """Why an engine can't mark a path's tokens; None where it can, or has nothing to mark with."""
    if identities is None:
        return None
    graphs = config.compilation_config.cudagraph_mode
    captured = graphs is not None and graphs.has_full_cudagraphs()
    if captured and not config.use_v2_model_runner:
        return 'path: not inside full CUDA graphs; start vLLM with "cudagraph_mode": "PIECEWISE"'
    return refuse_path(path, most_paths(identities))


class Vectors(NamedTuple):
    """One layer's identities ``[1 + paths, dim]``, as they are and turned by a right angle."""

    plain: Tensor
    turned: Tensor

    @classmethod
    def of(cls, identities: Tensor, rotary: Any) -> Vectors:
        half = torch.ones(rotary.rotary_dim // 2).to(identities)
        turned = rotated(identities, 0 * half, half, rotary.is_neox_style)
        turned[:, rotary.rotary_dim :] = 0
        return cls(identities, turned)


class Marks(NamedTuple):
    """What is marked in one step.

    Attributes:
        rows, paths: ``[R]``, fed tokens by index in the batch, and each one's identity.
        cosine, sine: ``[R, dim]``, of their positions; with the scale that the model's rotation
            has, since keys have it too.
    """

    rows: Tensor
    paths: Tensor
    cosine: Tensor
    sine: Tensor

    def add(self, vectors: Vectors, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of keys and values ``[tokens, kv_heads, dim]`` that are marked."""
        plain = vectors.plain[self.paths]
        turned = torch.addcmul(plain * self.cosine, vectors.turned[self.paths], self.sine)
        return self._added(key, turned), self._added(value, plain)

    def _added(self, to: Tensor, marks: Tensor) -> Tensor:
        # Not in place: compiled graphs don't expect that.
        return to.index_add(0, self.rows, marks.to(to.dtype)[:, None].expand(-1, to.shape[1], -1))


class Marker:
    """Finds a step's marks, for a model with identities.

    Attributes:
        rotary: The model's rotation.
        update: What marks them, where layers write to their cache.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.rotary = rotary_of(model)
        self.update = PatchedMethod("do_kv_cache_update")

    def __call__(
        self, plan: StepPlan, index: Mapping[str, int], batch: Sequence[int], positions: Tensor
    ) -> Marks:
        """The marks of a plan's paths, given each request's row and where its tokens begin."""
        rows = [np.arange(batch[row := index[id]], batch[row + 1]) for id in plan.paths]
        counts = [len(one) for one in rows]
        paths = np.repeat(list(plan.paths.values()), counts)
        where = torch.from_numpy(np.concatenate(rows)).to(positions.device)
        found = torch.from_numpy(paths).to(positions.device)
        return Marks(where, found, *self._angles(positions[where]))

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines ``[R, dim]``; what a model leaves unturned has 1 and 0."""
        rotary = self.rotary
        cosine, sine = rotary.cos_sin_cache[positions].chunk(2, -1)
        rest = cosine.new_zeros(len(positions), rotary.head_size - rotary.rotary_dim)
        if rotary.is_neox_style:
            return torch.cat([cosine, cosine, rest + 1], 1), torch.cat([sine, sine, rest], 1)
        cosine, sine = cosine.repeat_interleave(2, 1), sine.repeat_interleave(2, 1)
        return torch.cat([cosine, rest + 1], 1), torch.cat([sine, rest], 1)


class PatchedCacheUpdate:
    """Stands for how a layer writes to its cache: tokens of paths are marked on the way."""

    def __init__(self, impl: Any, vectors: Vectors) -> None:
        self._stock = impl.do_kv_cache_update
        self._vectors = vectors

    def __call__(self, layer: Any, key: Tensor, value: Tensor, *args: Any, **options: Any) -> None:
        marks = _present(layer.layer_name)
        if marks is not None:
            key, value = marks.add(self._vectors, key, value)
        self._stock(layer, key, value, *args, **options)


def _present(layer: str) -> Marks | None:
    from vllm.forward_context import get_forward_context, is_forward_context_available

    if not is_forward_context_available():
        return None
    metadata = get_forward_context().attn_metadata
    return getattr(metadata.get(layer), "marks", None) if isinstance(metadata, dict) else None


def patch_cache_updates(config: Any, model: torch.nn.Module) -> Marker | None:
    """What lets the layers of a loaded model mark paths; None where it has no identities.

    Raises:
        InvalidValue: it has some, and more than one rotation.
    """
    from vllm.config import get_layers_from_vllm_config
    from vllm.model_executor.layers.attention import Attention
    from vllm.model_executor.models.utils import extract_layer_index

    identities = identities_of(config)
    if identities is None:
        return None
    marker, weight = Marker(model), next(model.parameters())
    for name, layer in get_layers_from_vllm_config(config, Attention).items():
        if layer.kv_sharing_target_layer_name is not None:
            continue  # it reads what another layer has written
        if getattr(layer, "kv_cache_update_bypass", False):
            raise InvalidValue(f"vllm plugin: {name} writes its cache in a fused kernel; no paths")
        own = identities[extract_layer_index(name)].to(weight.device, config.model_config.dtype)
        vectors = Vectors.of(own, marker.rotary)
        marker.update.add(layer.impl, PatchedCacheUpdate(layer.impl, vectors))
    return marker
