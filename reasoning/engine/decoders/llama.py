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

from reasoning.engine.config import ModelConfig
from reasoning.engine.decoders.attention import Attend
from reasoning.engine.identities import marks_all, most_paths, read_identities, without_vectors
from reasoning.engine.pool import Pool
from reasoning.engine.step import ForwardStep
from reasoning.errors import ModelUnusable


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
    """Feeds a `ForwardStep`, and returns the logits ``[outputs, V]``."""

    def __init__(
        self,
        config: ModelConfig,
        weights: dict[str, Tensor],
        dtype: torch.dtype,
        device: str = "cpu",
    ) -> None:
        self.config = config
        self.dtype = dtype
        self.device = device
        wide = (config.vocabulary, config.hidden)
        self.embedding = self._take(weights, "model.embed_tokens.weight", *wide)
        self.head = self.embedding if config.tied else self._take(weights, "lm_head.weight", *wide)
        self.norm = self._take(weights, "model.norm.weight", config.hidden)
        self.layers = [self._layer(weights, index) for index in range(config.layers)]
        positions = torch.arange(config.context, dtype=torch.float32, device=device)
        halves = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device)
        angles = torch.outer(positions, config.rope_theta ** -(halves / config.head_dim))
        self.rotations = torch.polar(torch.ones_like(angles), angles)
        self.identities: Tensor | None = None
        """``[layers, 1 + paths, 2, dim]``: what marks keys (interleaved) and values; row 0 marks
        those of no path."""
        self.paths: int | None = None
        self.marks_all = False

    @classmethod
    def load(
        cls, folder: Path, config: ModelConfig, dtype: torch.dtype, device: str = "cpu"
    ) -> NativeDecoder:
        """Load a folder's safetensors.

        Raises:
            ModelUnusable: a file or tensor is missing or broken.
        """
        weights = load_weights(folder)
        try:
            decoder = cls(config, weights, dtype, device)
            decoder.identify(read_identities(folder, config.layers, config.head_dim))
        except (KeyError, ValueError) as error:
            raise ModelUnusable(
                f"the weights in {folder} do not fit its config.json ({error}); download it again"
            ) from error
        unused = [name for name in weights if not name.endswith("rotary_emb.inv_freq")]
        if config.tied and "lm_head.weight" in unused:
            unused.remove("lm_head.weight")
        if unused:
            raise ModelUnusable(
                f"{folder} has tensors of no {config.model_type} model ({unused[0]}); give another"
            )
        return decoder

    def identify(self, identities: Tensor | None) -> None:
        """Mark keys and values from now on, as `read_identities` says."""
        if identities is None:
            return
        found = identities.to(self.device, self.dtype)
        keys = interleave(found.reshape(-1), found.shape[2]).view(found.shape)
        self.identities = torch.stack([keys, found], 2)
        self.paths, self.marks_all = most_paths(found), marks_all(found)

    def __call__(self, step: ForwardStep, pool: Pool) -> Tensor:
        config = self.config
        attend = Attend(step, pool, self.turn)
        count = len(step.tokens)
        x = functional.embedding(torch.tensor(step.tokens, device=self.device), self.embedding)
        rotation = self.rotations[step.positions].unsqueeze(1)
        turned = config.heads + config.kv_heads
        size = (config.hidden,)
        for index, layer in enumerate(self.layers):
            y = functional.rms_norm(x, size, layer.attention_norm, config.norm_eps)
            qkv = functional.linear(y, layer.qkv, layer.qkv_bias)
            qkv = qkv.view(count, turned + config.kv_heads, config.head_dim)
            if layer.q_norm is not None and layer.k_norm is not None:
                self._norm_heads(qkv, layer.q_norm, layer.k_norm)
            if self.identities is not None and (self.marks_all or any(step.paths)):
                self._identify(qkv, self.identities[index], step.paths)
            rotate(qkv[:, :turned], rotation)
            q, k, v = qkv[:, : config.heads], qkv[:, config.heads : turned], qkv[:, turned:]
            x = x + functional.linear(attend(index, q, k, v), layer.output)
            y = functional.rms_norm(x, size, layer.mlp_norm, config.norm_eps)
            gate, up = functional.linear(y, layer.gate_up).chunk(2, -1)
            x = x + functional.linear(functional.silu(gate) * up, layer.down)
        x = functional.rms_norm(x[step.outputs], size, self.norm, config.norm_eps)
        return functional.linear(x, self.head).float()

    def turn(self, query: Tensor, positions: Tensor) -> Tensor:
        """Rotate queries ``[n, heads, dim]`` by ``positions [n]``, which may be negative."""
        rotation = self.rotations[positions.abs()]
        rotation = torch.where(positions[:, None] < 0, rotation.conj(), rotation)
        turned = query.clone()
        rotate(turned, rotation.unsqueeze(1))
        return turned

    def _identify(self, qkv: Tensor, identities: Tensor, paths: list[int]) -> None:
        """Mark keys and values by their paths (ParaThinker, arXiv 2509.04475, section 3.4)."""
        marks, heads = identities[paths], self.config.kv_heads
        qkv[:, -2 * heads : -heads] += marks[:, :1]
        qkv[:, -heads:] += marks[:, 1:]

    def _norm_heads(self, qkv: Tensor, q_norm: Tensor, k_norm: Tensor) -> None:
        config = self.config
        size = (config.head_dim,)
        q = qkv[:, : config.heads]
        k = qkv[:, config.heads : config.heads + config.kv_heads]
        q.copy_(functional.rms_norm(q, size, q_norm, config.norm_eps))
        k.copy_(functional.rms_norm(k, size, k_norm, config.norm_eps))

    def _take(self, weights: dict[str, Tensor], name: str, *shape: int) -> Tensor:
        """Remove a tensor from ``weights``, checked; -1 stands for any size."""
        tensor = weights.pop(name)
        if len(shape) != tensor.dim() or any(
            size not in (-1, found) for size, found in zip(shape, tensor.shape, strict=True)
        ):
            raise ValueError(f"{name} is {list(tensor.shape)}, not {list(shape)}")
        return tensor.to(self.device, self.dtype)

    def _layer(self, weights: dict[str, Tensor], index: int) -> Layer:
        def take(name: str, *shape: int) -> Tensor:
            return self._take(weights, f"model.layers.{index}.{name}", *shape)

        config = self.config
        dim, hidden = config.head_dim, config.hidden
        sizes = {"q": config.heads * dim, "k": config.kv_heads * dim, "v": config.kv_heads * dim}
        q, k, v = (take(f"self_attn.{n}_proj.weight", size, hidden) for n, size in sizes.items())
        bias = q_norm = k_norm = None
        if config.qkv_bias:
            parts = [take(f"self_attn.{n}_proj.bias", size) for n, size in sizes.items()]
            bias = torch.cat([interleave(parts[0], dim), interleave(parts[1], dim), parts[2]])
        if config.qk_norm:
            q_norm = interleave(take("self_attn.q_norm.weight", dim), dim)
            k_norm = interleave(take("self_attn.k_norm.weight", dim), dim)
        gate, up = take("mlp.gate_proj.weight", -1, hidden), take("mlp.up_proj.weight", -1, hidden)
        return Layer(
            attention_norm=take("input_layernorm.weight", hidden),
            qkv=torch.cat([interleave(q, dim), interleave(k, dim), v]),
            qkv_bias=bias,
            q_norm=q_norm,
            k_norm=k_norm,
            output=take("self_attn.o_proj.weight", hidden, sizes["q"]),
            mlp_norm=take("post_attention_layernorm.weight", hidden),
            gate_up=torch.cat([gate, up]),
            down=take("mlp.down_proj.weight", hidden, len(up)),
        )


def rotate(x: Tensor, rotation: Tensor) -> None:
    """Rotate ``x [..., heads, dim]`` in place by ``rotation [..., 1, dim / 2]``."""
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
    """All tensors of a folder's safetensors files, but those that mark paths.

    Raises:
        ModelUnusable: there are none, or one is broken.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelUnusable(f"{folder} has no *.safetensors file; download the model again")
    weights: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as handle:
                names = without_vectors(handle.keys())
                weights |= {name: handle.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise ModelUnusable(f"{path} is broken ({error}); download the model again") from error
    return weights
