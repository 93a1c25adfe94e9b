"""The usual way to attend: each thread's keys and values gathered into one padded batch, and SDPA.

Shared tokens are copied for every thread that sees them; `benchmarks.engine` compares.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from reasoning.engine.pool import Pool
from reasoning.engine.step import ForwardStep


class GatherAttend:
    """Stands in for `reasoning.engine.decoders.attention.Attend` where no query is turned."""

    def __init__(
        self, step: ForwardStep, pool: Pool, turn: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self._slots = torch.tensor(step.slots)
        self._pool = pool
        seen: list[list[int]] = [[] for _ in step.tokens]
        for read in step.reads:
            for one in read.ranges:
                assert not one.turn
                seen[one.query] += range(read.start, read.start + one.limit)
        longest = max(map(len, seen))
        self._index = torch.tensor([slots + [0] * (longest - len(slots)) for slots in seen])
        lengths = torch.tensor([len(slots) for slots in seen])
        self._mask = (torch.arange(longest) < lengths[:, None])[:, None, None]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store the step's keys and values and attend, ``[tokens, heads * dim]``."""
        store = self._pool.store[layer]
        store[self._slots] = torch.cat([key, value], 1)
        keys, values = store[self._index].transpose(1, 2).chunk(2, 1)  # [tokens, kv_heads, ...]
        out = functional.scaled_dot_product_attention(
            query[:, :, None], keys, values, attn_mask=self._mask, enable_gqa=True
        )
        return out.flatten(1)
