"""Attention to other segments as one batch of variable lengths: the form that a GPU's kernels take.

All rows that see the same stored tokens are one sequence of queries, each turned by its own angle;
a row's parts are merged by their log-sum-exp.  So a block is read once for all members of a gang.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from reasoning.vllm_plugin.attention.cache import Cache
from reasoning.vllm_plugin.attention.rotation import Turner, rotated
from reasoning.vllm_plugin.attention.tables import AttentionTables


class SeenSpan(NamedTuple):
    """Stored tokens that several queries see, and the blocks in which they are."""

    blocks: list[int]
    first: int
    size: int


class SpanBatch:
    """A step's pairs of a query and a span, those of one span side by side.

    Attributes:
        spans: What is seen.
        starts: ``[spans + 1]``, where the queries of each begin.
        rows: ``[pairs]``, the rows of `AttentionTables` that look.
        turns: ``[pairs]``, by how many positions each query is turned.
    """

    def __init__(self, tables: AttentionTables) -> None:
        pairs: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        starts, parts = tables.starts.tolist(), tables.parts.tolist()
        for row in range(len(tables.rows)):
            for offset, first, count, turn in parts[starts[row] : starts[row + 1]]:
                pairs.setdefault((offset, first, count), []).append((row, turn))
        blocks = tables.blocks.tolist()
        self.spans = [SeenSpan(blocks[offset:], first, count) for offset, first, count in pairs]
        lengths = torch.tensor([0, *map(len, pairs.values())])
        self.starts = lengths.cumsum(0)
        every = torch.tensor([one for found in pairs.values() for one in found])
        self.rows, self.turns = every.unbind(1)


Partials = Callable[[SpanBatch, Cache, Tensor, float], tuple[Tensor, Tensor]]
"""Results ``[pairs, heads, dim]`` and log-sum-exps ``[pairs, heads]`` of turned queries."""


def attend_spans(
    tables: AttentionTables,
    cache: Cache,
    turner: Turner,
    query: Tensor,
    output: Tensor,
    scale: float,
    *,
    partials: Partials,
) -> None:
    """As `reasoning.vllm_plugin.attention.tables.attend`, in one batch."""
    batch = SpanBatch(tables)
    device, rows = query.device, torch.from_numpy(tables.rows).to(query.device, torch.int64)
    index, turns = batch.rows.to(device), batch.turns.to(device)
    table = turner.table.to(device)[turns.abs()]
    cosine, sine = table[:, 0, None], table[:, 1, None] * turns.sign()[:, None, None]
    turned = rotated(query[rows[index]].float(), cosine, sine, turner.neox).to(query.dtype)
    found, weights = partials(batch, cache, turned, scale)
    output[rows] = merged(index, len(rows), found.float(), weights.float()).to(output.dtype)


def merged(index: Tensor, rows: int, found: Tensor, weights: Tensor) -> Tensor:
    """The results of each row's parts, as one softmax over all that it sees."""
    each = index[:, None].expand_as(weights)
    top = weights.new_full((rows, weights.shape[1]), -torch.inf)
    top = top.scatter_reduce(0, each, weights, "amax")
    mass = (weights - top[index]).exp()
    total = torch.zeros_like(top).index_add(0, index, mass)
    summed = found.new_zeros(rows, *found.shape[1:]).index_add(0, index, found * mass[..., None])
    return summed / total[..., None]


def torch_partials(
    batch: SpanBatch, cache: Cache, query: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """`Partials` in plain torch, on any device."""
    found, weights = [], []
    starts = batch.starts.tolist()
    for number, span in enumerate(batch.spans):
        own = query[starts[number] : starts[number + 1]].float()
        shared = own.shape[1] // cache.keys.shape[1]
        key, value = (
            one.float().repeat_interleave(shared, 1)
            for one in cache.read(span.blocks, span.first, span.size)
        )
        scores = torch.einsum("ihd,jhd->ihj", own, key) * scale
        weights.append(scores.logsumexp(-1))
        found.append(torch.einsum("ihj,jhd->ihd", scores.softmax(-1), value))
    return torch.cat(found), torch.cat(weights)


def flash_partials(
    batch: SpanBatch, cache: Cache, query: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """`Partials` by one call of FlashAttention; it was never run, for want of a GPU.

    What is seen is gathered first, for segments may begin inside a block.
    """
    from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func

    read = [cache.read(span.blocks, span.first, span.size) for span in batch.spans]
    counts = torch.tensor([0, *(span.size for span in batch.spans)])
    lengths = batch.starts.diff()
    found, weights, *_ = flash_attn_varlen_func(
        q=query,
        k=torch.cat([key for key, _ in read]),
        v=torch.cat([value for _, value in read]),
        max_seqlen_q=int(lengths.max()),
        cu_seqlens_q=batch.starts.to(query.device, torch.int32),
        max_seqlen_k=int(counts.max()),
        cu_seqlens_k=counts.cumsum(0).to(query.device, torch.int32),
        softmax_scale=scale,
        causal=False,
        return_softmax_lse=True,
    )
    return found, weights.transpose(0, 1)
