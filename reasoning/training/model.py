"""The model as it is trained: a plain PyTorch Llama, its parameters named as in Hugging Face."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reasoning.training.recipe import ModelShape

EMBEDDING = 0.1
"""Initial scale of the embedding.  The output is tied to it and needs about this scale; from the
usual 0.02 it would grow by drifting, which destroys the waves that numbers may start from."""


class Attention(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, identity: Tensor
    ) -> Tensor:
        rows, length, hidden = x.shape
        q, k, v = (
            projection(x).view(rows, length, self.heads, -1).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        k, v = k + identity, v + identity
        q, k, v = rotate(q, rope).bfloat16(), rotate(k, rope).bfloat16(), v.bfloat16()
        scores = (q @ k.transpose(-1, -2)).float() * (q.shape[-1] ** -0.5)
        y = scores.masked_fill(~mask, -1e9).softmax(-1).bfloat16() @ v
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(rows, length, hidden).to(x.dtype))
        return out


class MLP(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class LlamaLayer(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=1e-5)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=1e-5)
        self.mlp = MLP(shape)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, identity: Tensor
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, identity)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class LlamaDecoder(nn.Module):
    """A Llama decoder whose keys and values carry the identity of a token's path.

    It maps tokens, positions and path identities ``[rows, length]`` and masks
    ``[rows, length, length]`` to hidden states ``[rows, length, hidden]``.
    """

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(LlamaLayer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=1e-5)
        self.path_identity = nn.Parameter(torch.zeros(shape.layers, shape.paths, shape.head_dim))

    def forward(self, tokens: Tensor, positions: Tensor, paths: Tensor, mask: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        rope = rope_tables(positions, self.shape, x.dtype)
        none = self.path_identity.new_zeros(self.shape.layers, 1, self.shape.head_dim)
        identities = torch.cat([none, self.path_identity], 1)[:, paths].unsqueeze(2)
        for layer, identity in zip(self.layers, identities, strict=True):
            x = layer(x, rope, mask[:, None], identity)
        out: Tensor = self.norm(x)
        return out


class TrainableModel(nn.Module):
    """A `LlamaDecoder` with its output tied to the embedding, and the loss to train it by."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.model = LlamaDecoder(shape)
        self._initialise(shape)

    def forward(
        self, tokens: Tensor, positions: Tensor, paths: Tensor, mask: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The weighted mean loss of predicting ``tokens[:, 1:]``, and the share predicted right."""
        x = self.model(tokens, positions, paths, mask)[:, :-1]
        logits = functional.linear(x, self.model.embed_tokens.weight).float().flatten(0, 1)
        targets, weight = tokens[:, 1:].flatten(), weights[:, 1:].flatten()
        losses = functional.cross_entropy(logits, targets, reduction="none")
        right = (logits.argmax(-1) == targets).float()
        total = weight.sum()
        return (losses * weight).sum() / total, (right * (weight > 0)).sum() / (weight > 0).sum()

    def _initialise(self, shape: ModelShape) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                scale = EMBEDDING if "embed" in name else shape.hidden**-0.5 / math.sqrt(2)
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= math.sqrt(2 * shape.layers)
                nn.init.normal_(parameter, std=scale)


def rope_tables(positions: Tensor, shape: ModelShape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``[rows, 1, length, head_dim]`` of rotary position embedding."""
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = positions[:, None, :, None] * (1.0 / shape.rope_theta**half)
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rope
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin
