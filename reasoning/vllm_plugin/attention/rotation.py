"""A model's own rotation of keys and queries, as the plugin needs it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from orchestrator.errors import InvalidValue

_PLAIN = {
    *("RotaryEmbedding", "Llama3RotaryEmbedding", "LinearScalingRotaryEmbedding"),
    *("NTKScalingRotaryEmbedding", "YaRNScalingRotaryEmbedding"),
}


def rotary_of(model: torch.nn.Module) -> Any:
    """The one rotary embedding of a model.

    Raises:
        InvalidValue: it has none, several, or one that is not a plain rotation.
    """
    from vllm.model_executor.layers.rotary_embedding import base

    found = {id(m): m for m in model.modules() if isinstance(m, base.RotaryEmbeddingBase)}
    kinds = {type(m).__name__ for m in found.values()}
    if len(found) != 1 or not kinds <= _PLAIN:
        raise InvalidValue(
            "vllm plugin: live segments and path identities need one plain rotary embedding; the "
            f"model has {len(found)}: {', '.join(sorted(kinds)) or 'none'}"
        )
    (rotary,) = found.values()
    return rotary


def rotated(x: Tensor, cosine: Tensor, sine: Tensor, neox: bool) -> Tensor:
    """``x [..., dim]``, its leading ``2 * half`` turned by ``[..., half]`` cosines and sines.

    With ``neox`` a pair's halves stand ``half`` apart, otherwise side by side.
    """
    turned, half = x.clone(), cosine.shape[-1]
    low, high = (
        (slice(half), slice(half, 2 * half))
        if neox
        else (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    )
    turned[..., low] = x[..., low] * cosine - x[..., high] * sine
    turned[..., high] = x[..., high] * cosine + x[..., low] * sine
    return turned


class Turner:
    """Turns queries by whole positions: the model's own rotations, without its scale.

    Attributes:
        table: ``[turns, 2, rotated / 2]``, cosines and sines.
        neox: As in `rotated`.
    """

    def __init__(self, table: Tensor, neox: bool) -> None:
        self.table, self.neox = table.contiguous(), neox

    @classmethod
    def of(cls, model: torch.nn.Module) -> Turner:
        """The turner of a model's rotary embedding.

        Raises:
            InvalidValue: as `rotary_of`.
        """
        rotary = rotary_of(model)
        cosine, sine = rotary.cos_sin_cache.double().chunk(2, -1)
        turns = torch.complex(cosine, sine)
        turns = turns / turns.abs()
        turns = torch.cat([turns, turns[-1:] * turns[1:]])  # a view may be as long again
        return cls(torch.stack([turns.real, turns.imag], 1).float(), rotary.is_neox_style)

    def __call__(self, query: Tensor, turn: int) -> Tensor:
        """Queries ``[heads, dim]``, turned."""
        if not turn:
            return query
        cosine, sine = self.table[abs(turn)]
        return rotated(query, cosine, sine if turn > 0 else -sine, self.neox)
