"""An independent reference for any layout of segments."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reasoning.engine.identities import PATHS_FILE, VECTORS
from reasoning.values.layout import Flat


class Reference:
    """A stock model of transformers whose attention follows a `Flat` layout.

    It turns every key for every query, where what is checked against it turns queries.
    """

    def __init__(self, folder: Path, window: int | None = None) -> None:
        import transformers

        name = f"flat {folder.name} {id(self)}"
        transformers.AttentionInterface.register(name, self._attention)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation=name, dtype=torch.float32
        ).eval()
        self.window = window
        self.identities: Tensor | None = None
        """``[layers, 1 + paths, dim]``, added to keys before they are rotated and to values."""
        self.frequencies = next(
            m.inv_freq for m in self.model.modules() if hasattr(m, "inv_freq")
        ).double()

    def identify(self, folder: Path, seed: int, *, published: bool = False) -> Path:
        """Give three paths an identity each, here and in a copy of the model's folder.

        As ``published`` there are 31; they stand among the weights, and what is no path's has one.
        """
        config = self.model.config
        torch.manual_seed(seed)
        dim = getattr(config, "head_dim", 0) or config.hidden_size // config.num_attention_heads
        self.identities = torch.randn(config.num_hidden_layers, 32 if published else 4, dim)
        if not published:
            self.identities[:, 0] = 0
        copy = folder.with_name(f"{folder.name}-{'published' if published else 'identified'}")
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        if published:
            weights = load_file(folder / "model.safetensors")
            for layer, rows in enumerate(self.identities):
                weights[VECTORS.format(layer)] = rows.clone()
            save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        else:
            save_file({"path_identity": self.identities[:, 1:].contiguous()}, copy / PATHS_FILE)
        for index, layer in enumerate(self.model.model.layers):
            attention = layer.self_attn
            for part in (getattr(attention, "k_norm", attention.k_proj), attention.v_proj):
                part.register_forward_hook(self._mark(index))
        return copy

    def _mark(self, layer: int) -> Callable[..., Tensor]:
        def hook(module: Any, inputs: Any, out: Tensor) -> Tensor:
            assert self.identities is not None
            marks = self.identities[layer][self.paths]
            heads = out.view(1, len(self.paths), -1, marks.shape[1])
            return (heads + marks[None, :, None]).view_as(out)

        return hook

    @torch.inference_mode()
    def __call__(self, flat: Flat, paths: Sequence[int] = ()) -> Tensor:
        """The logits that follow each token, ``[T, vocabulary]``."""
        self.flat, self.paths = flat, list(paths)
        out = self.model(
            input_ids=flat.tokens[None], position_ids=flat.positions[None], use_cache=False
        )
        logits: Tensor = out.logits[0]
        return logits

    def _attention(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any
    ) -> tuple[Tensor, None]:
        flat, groups = self.flat, query.shape[1] // key.shape[1]
        key, value = (part[0].repeat_interleave(groups, 0) for part in (key, value))
        scores = self._scores(query[0], key, flat.turns) * options["scaling"]
        mask = flat.mask
        if self.window is not None:
            distance = flat.positions[:, None] - flat.positions + flat.turns
            mask = mask & (distance < self.window)
        mass = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        return torch.einsum("hqk,hkd->qhd", mass, value)[None], None

    def _scores(self, query: Tensor, key: Tensor, turns: Tensor) -> Tensor:
        """Products ``[heads, T, T]``, each with its key turned away from its query."""
        if not turns.any():
            return query @ key.mT
        # A key that stands further back is turned back.
        angles = -turns[:, :, None].double() * self.frequencies
        cos, sin = angles.cos().float(), angles.sin().float()
        low, high = key[:, None].chunk(2, -1)
        keys = torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
        return torch.einsum("hqd,hqkd->hqk", query, keys)
