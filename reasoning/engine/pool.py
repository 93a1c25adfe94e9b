"""Where keys and values live: one slab row per thread, and frozen segments shared by reference."""

from __future__ import annotations

import torch
from torch import Tensor

from reasoning.engine.config import ModelConfig


class Segment:
    """A frozen run of keys and values, per layer ``[n, 2 * kv_heads, dim]``."""

    def __init__(self, layers: list[Tensor]) -> None:
        self.layers = layers

    def __len__(self) -> int:
        return len(self.layers[0])


class Pool:
    """Slab rows ``[rows, capacity, 2 * kv_heads, dim]`` per layer, one row per running thread.

    The running threads fill the first rows without gaps, so that a decoding step reads a view and
    copies nothing.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype, *, rows: int = 8) -> None:
        self.dtype = dtype
        self.capacity = 128
        self.used: list[int] = [0] * rows
        self._tail = (2 * config.kv_heads, config.head_dim)
        # Zeros, because a masked key still meets a zero weight, and 0 * nan is nan.
        self.slabs = [
            torch.zeros(rows, self.capacity, *self._tail, dtype=dtype) for _ in range(config.layers)
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
        self.reserve(rows=row + 1, capacity=len(segment) + 1)
        for slab, layer in zip(self.slabs, segment.layers, strict=True):
            slab[row, : len(segment)] = layer
        self.used[row] = len(segment)

    def read(self, row: int) -> Segment:
        """A copy of a row, as a segment."""
        length = self.used[row]
        return Segment([slab[row, :length].clone() for slab in self.slabs])

    def move(self, source: int, target: int) -> None:
        """Copy one row over another."""
        length = self.used[source]
        for slab in self.slabs:
            slab[target, :length] = slab[source, :length]
        self.used[target] = length
