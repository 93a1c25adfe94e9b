"""Where keys and values live: one flat store, cut into extents."""

from __future__ import annotations

from collections import defaultdict

import torch

from reasoning.engine.config import ModelConfig
from reasoning.errors import PoolFull

PAGE = 64
"""Tokens of the smallest extent."""


class Pool:
    """Keys and values of all layers, ``[layers, tokens, 2 * kv_heads, dim]``, keys first.

    Extents are powers of two of `PAGE` tokens, handed out and merged again as buddies (Knuth,
    TAOCP 1, 2.5).  The store doubles as needed, up to ``most`` tokens.

    Attributes:
        poison: Fill freed extents with NaN, so that a test sees any use of them.
    """

    def __init__(
        self, config: ModelConfig, dtype: torch.dtype, *, most: int, device: str = "cpu"
    ) -> None:
        self._orders: dict[int, set[int]] = defaultdict(set)
        self._taken: dict[int, int] = {}
        self._most = most
        self.poison = False
        tail = (2 * config.kv_heads, config.head_dim)
        size = max(PAGE, 1 << (min(4096, most).bit_length() - 1))
        self.store = torch.zeros(config.layers, size, *tail, dtype=dtype, device=device)
        self._orders[size].add(0)

    @property
    def used(self) -> int:
        """Tokens of the extents that are taken."""
        return sum(self._taken.values())

    def take(self, tokens: int) -> tuple[int, int]:
        """An extent for at least this many tokens: its first slot, and how many it has.

        Raises:
            PoolFull: there is no room, and the store may not grow.
        """
        found = size = max(PAGE, 1 << (tokens - 1).bit_length())
        while not self._orders[found]:
            found *= 2
            if found > self.store.shape[1]:
                self._grow()
                found = size
        start = min(self._orders[found])
        self._orders[found].remove(start)
        while found > size:
            found //= 2
            self._orders[found].add(start + found)
        self._taken[start] = size
        return start, size

    def free(self, start: int) -> None:
        """Give an extent back."""
        size = self._taken.pop(start)
        if self.poison:
            self.store[:, start : start + size] = torch.nan
        while size < self.store.shape[1] and (start ^ size) in self._orders[size]:
            self._orders[size].remove(start ^ size)
            start = min(start, start ^ size)
            size *= 2
        self._orders[size].add(start)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first ``tokens`` of one extent into another."""
        self.store[:, target : target + tokens] = self.store[:, source : source + tokens]

    def _grow(self) -> None:
        size = self.store.shape[1]
        if 2 * size > self._most:
            raise PoolFull(
                f"the engine's store of {self._most:,} tokens is full; run fewer threads, lower "
                "--max-tokens, or load the model with a larger store"
            )
        self.store = torch.cat([self.store, torch.zeros_like(self.store)], 1)
        if 0 in self._orders[size]:  # the whole old store was free
            self._orders[size].remove(0)
            self._orders[2 * size].add(0)
        else:
            self._orders[size].add(size)


def store_tokens(config: ModelConfig, dtype: torch.dtype, gib: float) -> int:
    """How many tokens' keys and values fit into so many GiB."""
    each = 2 * config.layers * config.kv_heads * config.head_dim * dtype.itemsize
    return max(PAGE, int(gib * 2**30) // each)
