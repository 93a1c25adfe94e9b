"""The native decoder: Llama, Qwen2 and Qwen3 in one module, without transformers.

Weights are fused at loading (q, k and v; gate and up), and the rotary halves of q and k are
interleaved so that a rotation is one complex product: scores do not change when both sides are
permuted alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from orchestrator.errors import ModelUnusable
from reasoning.engine.attention import Attend
from reasoning.engine.config import ModelConfig


class Layer(NamedTuple):
    """One layer's weights."""

    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


class NativeDecoder:
    """Tokens and positions ``[rows, length]`` in, the last position's logits ``[rows, V]`` out."""

    def __init__(self, config: ModelConfig, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        self.config = config
        self.dtype = dtype
        self._embedding = weights["model.embed_tokens.weight"].to(dtype)
        self._head = self._embedding if config.tied else weights["lm_head.weight"].to(dtype)
        self._norm = weights["model.norm.weight"].to(dtype)
        self._layers = [self._layer(weights, index) for index in range(config.layers)]
        frequency = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        angles = torch.outer(
            torch.arange(config.context, dtype=torch.float32), config.rope_theta**-frequency
        )
        self._rotations = torch.polar(torch.ones_like(angles), angles)

    @classmethod
    def load(cls, folder: Path, config: ModelConfig, dtype: torch.dtype) -> NativeDecoder:
        """Load a folder's safetensors.

        Raises:
            ModelUnusable: a file or tensor is missing or broken.
        """
        try:
            return cls(config, load_weights(folder), dtype)
        except (KeyError, RuntimeError) as error:
            raise ModelUnusable(
                f"the weights in {folder} do not fit its config.json ({error}); download it again"
            ) from error

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        config = self.config
        rows, length = tokens.shape
        x = functional.embedding(tokens, self._embedding)
        rotation = self._rotations[positions].unsqueeze(2)
        turned = config.heads + config.kv_heads
        size = (config.hidden,)
        for index, layer in enumerate(self._layers):
            y = functional.rms_norm(x, size, layer.attention_norm, config.norm_eps)
            qkv = functional.linear(y, layer.qkv, layer.qkv_bias)
            qkv = qkv.view(rows, length, turned + config.kv_heads, config.head_dim)
            if layer.q_norm is not None and layer.k_norm is not None:
                self._norm_heads(qkv, layer.q_norm, layer.k_norm)
            rotate(qkv[:, :, :turned], rotation)
            y = attend(index, qkv[:, :, : config.heads], qkv[:, :, config.heads :])
            x = x + functional.linear(y, layer.output)
            y = functional.rms_norm(x, size, layer.mlp_norm, config.norm_eps)
            gate, up = functional.linear(y, layer.gate_up).chunk(2, -1)
            x = x + functional.linear(functional.silu(gate) * up, layer.down)
        x = functional.rms_norm(x[:, -1], size, self._norm, config.norm_eps)
        return functional.linear(x, self._head).float()

    def _norm_heads(self, qkv: Tensor, q_norm: Tensor, k_norm: Tensor) -> None:
        config = self.config
        size = (config.head_dim,)
        q = qkv[:, :, : config.heads]
        k = qkv[:, :, config.heads : config.heads + config.kv_heads]
        q.copy_(functional.rms_norm(q, size, q_norm, config.norm_eps))
        k.copy_(functional.rms_norm(k, size, k_norm, config.norm_eps))

    def _layer(self, weights: dict[str, Tensor], index: int) -> Layer:
        def get(name: str) -> Tensor:
            return weights[f"model.layers.{index}.{name}"].to(self.dtype)

        def optional(name: str) -> Tensor | None:
            return get(name) if f"model.layers.{index}.{name}" in weights else None

        config = self.config
        dim = config.head_dim
        q, k, v = (get(f"self_attn.{name}_proj.weight") for name in "qkv")
        bias = None
        if config.qkv_bias:
            parts = [get(f"self_attn.{name}_proj.bias") for name in "qkv"]
            bias = torch.cat([interleave(parts[0], dim), interleave(parts[1], dim), parts[2]])
        q_norm, k_norm = optional("self_attn.q_norm.weight"), optional("self_attn.k_norm.weight")
        return Layer(
            attention_norm=get("input_layernorm.weight"),
            qkv=torch.cat([interleave(q, dim), interleave(k, dim), v]),
            qkv_bias=bias,
            q_norm=None if q_norm is None else interleave(q_norm, dim),
            k_norm=None if k_norm is None else interleave(k_norm, dim),
            output=get("self_attn.o_proj.weight"),
            mlp_norm=get("post_attention_layernorm.weight"),
            gate_up=torch.cat([get("mlp.gate_proj.weight"), get("mlp.up_proj.weight")]),
            down=get("mlp.down_proj.weight"),
        )


def rotate(x: Tensor, rotation: Tensor) -> None:
    """Rotate ``x [rows, length, heads, dim]`` in place by ``rotation [rows, length, 1, dim/2]``."""
    if x.dtype == torch.float32:
        view = torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
        view.mul_(rotation)
        return
    wide = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2)) * rotation
    x.copy_(torch.view_as_real(wide).flatten(-2))


def interleave(weight: Tensor, dim: int) -> Tensor:
    """Reorder each head's rows from (first half, second half) to alternating pairs."""
    halves = weight.view(-1, 2, dim // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files.

    Raises:
        ModelUnusable: there are none, or one is broken.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelUnusable(
            f"{folder} has no *.safetensors file; convert or download the model again"
        )
    weights: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as handle:
                weights |= {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelUnusable(f"{path} is broken ({error}); download the model again") from error
    return weights
