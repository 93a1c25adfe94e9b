"""Where keys and values live: one slab row per thread, and frozen segments shared by reference."""

from __future__ import annotations

import torch
from torch import Tensor

from reasoning.engine.config import ModelConfig


class Segment:
    """A frozen run of tokens with its keys and values, per layer ``[n, 2 * kv_heads, dim]``."""

    def __init__(self, tokens: tuple[int, ...], layers: list[Tensor]) -> None:
        self.tokens = tokens
        self.layers = layers

    def __len__(self) -> int:
        return len(self.tokens)


class Pool:
    """Slab rows ``[rows, capacity, 2 * kv_heads, dim]`` per layer.

    Rows 0..running-1 belong to the running threads, so that a decoding step reads a view and
    copies nothing; parked threads (waiting for children) keep rows behind them.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype, *, rows: int = 8) -> None:
        self.dtype = dtype
        self.capacity = 128
        self.used: list[int] = [0] * rows
        self._tail = (2 * config.kv_heads, config.head_dim)
        # Zeros, because a masked key still meets a zero weight, and 0 * nan is nan.
        self.slabs = [
            torch.zeros(rows, self.capacity, *self._tail, dtype=dtype)
            for _ in range(config.layers)
        ]

    @property
    def rows(self) -> int:
        return len(self.used)

    def reserve(self, *, rows: int, capacity: int) -> None:
        """Grow (by doubling) to hold at least this many rows of this many tokens."""
        new_rows, new_capacity = self.rows, self.capacity
        while new_rows < rows:
            new_rows *= 2
        while new_capacity < capacity:
            new_capacity *= 2
        if (new_rows, new_capacity) == (self.rows, self.capacity):
            return
        for index, old in enumerate(self.slabs):
            slab = torch.zeros(new_rows, new_capacity, *self._tail, dtype=self.dtype)
            slab[: self.rows, : self.capacity] = old
            self.slabs[index] = slab
        self.used += [0] * (new_rows - self.rows)
        self.capacity = new_capacity

    def write(self, row: int, segment: Segment) -> None:
        """Copy a segment to the start of a row."""
        for slab, layer in zip(self.slabs, segment.layers, strict=True):
            slab[row, : len(segment)] = layer
        self.used[row] = len(segment)

    def swap(self, a: int, b: int) -> None:
        """Exchange two rows."""
        if a == b:
            return
        length = max(self.used[a], self.used[b])
        pair, reverse = torch.tensor([a, b]), torch.tensor([b, a])
        for slab in self.slabs:
            slab[pair, :length] = slab[reverse, :length]
        self.used[a], self.used[b] = self.used[b], self.used[a]
