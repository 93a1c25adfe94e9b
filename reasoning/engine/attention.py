"""Attention over segments: what a step writes, what it reads, and how partial results merge."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from reasoning.engine.pool import Pool, Segment

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


class Attend(Protocol):
    """Stores a layer's new keys and values and answers its queries.

    ``query [rows, length, heads, dim]`` and ``keyed [rows, length, 2 * kv_heads, dim]`` (rotated
    keys, then values) in; ``[rows, length, heads * dim]`` out.
    """

    def __call__(self, layer: int, query: Tensor, keyed: Tensor) -> Tensor: ...


class Prefill:
    """Causal attention of whole new segments, one a row; keeps their keys and values."""

    def __init__(self) -> None:
        self.layers: list[Tensor] = []

    def __call__(self, layer: int, query: Tensor, keyed: Tensor) -> Tensor:
        self.layers.append(keyed)
        key, value = keyed.chunk(2, 2)
        out = torch.nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            is_causal=query.shape[1] > 1,
            enable_gqa=query.shape[2] != key.shape[2],
        )
        return out.transpose(1, 2).flatten(2)

    def segment(self, row: int) -> Segment:
        """The frozen segment of one row."""
        return Segment([keyed[row].clone() for keyed in self.layers])


class Shared(NamedTuple):
    """A frozen segment and the rows of this step that see it."""

    segment: Segment
    rows: Tensor


class Extend:
    """Each row appends ``length`` tokens to its own slab row and attends to all it can see.

    A row sees its own tokens up to each new one and, whole, the frozen segment before them.
    Attention over both is computed apart and merged by log-sum-exp, which is exact; a segment
    is read once for all rows that see it.
    """

    def __init__(self, pool: Pool, rows: list[int], length: int, shared: list[Shared]) -> None:
        self._pool = pool
        self._shared = shared
        together = rows == list(range(rows[0], rows[0] + len(rows)))
        self._span = slice(rows[0], rows[0] + len(rows)) if together else None
        self._index = torch.tensor(rows)
        used = torch.tensor([pool.used[row] for row in rows])
        new = used[:, None] + torch.arange(length)
        self._slots = (self._index[:, None] * pool.capacity + new).flatten()
        self._limit = int(new.max()) + 1
        self._mask: Tensor | None = None
        if length > 1 or int(used.min()) + 1 != self._limit:
            hidden = torch.arange(self._limit) > new[:, None, :, None]
            self._mask = torch.zeros(hidden.shape, dtype=pool.dtype).masked_fill_(
                hidden, float("-inf")
            )

    def __call__(self, layer: int, query: Tensor, keyed: Tensor) -> Tensor:
        slab = self._pool.slabs[layer]
        flat = slab.view(-1, slab.shape[2] * slab.shape[3])
        flat.index_copy_(0, self._slots, keyed.flatten(2).flatten(0, 1))
        rows = self._index if self._span is None else self._span
        own = slab[rows, : self._limit]
        query = query.transpose(1, 2)
        out, weight = attention(query, own, self._mask)
        if self._shared:
            out = self._merge(layer, query, out, weight)
        return out.transpose(1, 2).flatten(2)

    def _merge(self, layer: int, query: Tensor, own: Tensor, own_weight: Tensor) -> Tensor:
        out = own.clone()
        for segment, rows in self._shared:
            # All viewers' queries become the query rows of one call over the segment.
            viewers, heads, length, dim = query[rows].shape
            stacked = query[rows].transpose(0, 1).reshape(1, heads, viewers * length, dim)
            part, weight = attention(stacked, segment.layers[layer][None], None)
            part = part.view(heads, viewers, length, dim).transpose(0, 1)
            weight = weight.view(heads, viewers, length).transpose(0, 1)
            share = torch.sigmoid(weight - own_weight[rows]).unsqueeze(-1).to(own.dtype)
            out[rows] = torch.lerp(own[rows], part, share)
        return out


def attention(query: Tensor, keyed: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention with its log-sum-exp.

    ``query [rows, heads, length, dim]``, ``keyed [rows, keys, 2 * kv_heads, dim]``; returns
    ``[rows, heads, length, dim]`` and the weights' logarithm ``[rows, heads, length]``.
    """
    key, value = keyed.transpose(1, 2).chunk(2, 1)
    out, weight = _flash(query, key, value, 0.0, False, attn_mask=mask)
    return out, weight
