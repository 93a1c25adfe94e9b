"""Where a token's key and value stand in vLLM's cache of a layer."""

from __future__ import annotations

import torch
from torch import Tensor


class Cache:
    """One layer's cache as blocks of keys and values, whatever the order in memory.

    Attributes:
        keys, values: Views ``[blocks, kv_heads, tokens, dim]`` of the cache.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values
        self.block = keys.shape[2]

    @classmethod
    def of(cls, cache: Tensor) -> Cache:
        """The cache of a layer on its device."""
        return cls.of_cpu(cache) if cache.device.type == "cpu" else cls.of_strided(cache)

    @classmethod
    def of_strided(cls, cache: Tensor) -> Cache:
        """The logical cache ``[blocks, kv_heads, block, 2 * dim]`` of vLLM's GPU backends.

        A slot keeps its key and then its value, whatever the order of blocks and heads in memory.
        """
        keys, values = cache.chunk(2, -1)
        return cls(keys, values)

    @classmethod
    def of_cpu(cls, cache: Tensor) -> Cache:
        """The cache ``[blocks, kv_heads, block, 2 * dim]`` of vLLM's CPU backend.

        Within a block, its vector kernels keep keys transposed, then values.
        """
        blocks, heads, block, width = cache.shape
        halves = cache.view(blocks, heads, 2, block * width // 2)
        keys = halves[:, :, 0].view(blocks, heads, width // 2, block).transpose(2, 3)
        values = halves[:, :, 1].view(blocks, heads, block, width // 2)
        return cls(keys, values)

    def places(self, table: list[int], first: int, count: int) -> tuple[Tensor, Tensor]:
        """Blocks and offsets of ``count`` tokens of a table from ``first`` on."""
        index = torch.arange(first, first + count)
        where = torch.stack([torch.tensor(table)[index // self.block], index % self.block])
        blocks, offsets = where.to(self.keys.device, non_blocking=True)
        return blocks, offsets

    def read(self, table: list[int], first: int, count: int) -> tuple[Tensor, Tensor]:
        """Keys and values ``[count, kv_heads, dim]``."""
        blocks, offsets = self.places(table, first, count)
        return self.keys[blocks, :, offsets], self.values[blocks, :, offsets]

    def copy(
        self, source: list[int], source_first: int, target: list[int], target_first: int, count: int
    ) -> None:
        """Copy tokens from one table of blocks to another."""
        keys, values = self.read(source, source_first, count)
        blocks, offsets = self.places(target, target_first, count)
        self.keys[blocks, :, offsets] = keys
        self.values[blocks, :, offsets] = values
