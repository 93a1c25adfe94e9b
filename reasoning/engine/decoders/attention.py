"""Attention over segments in torch: partial results by segment, merged by log-sum-exp, exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reasoning.engine.pool import Pool
from reasoning.engine.step import Group, Sight, Step

HIDDEN = -1e30
"""What a key that is not seen scores: its weight is zero wherever another key is seen."""

Turn = Callable[[Tensor, Tensor], Tensor]
"""Rotates queries ``[n, heads, dim]`` by positions ``[n]``, without any scale of the model's."""


class _Part(NamedTuple):
    """One call over segments: queries as ``[segments, each]``, and the keys that they score."""

    queries: Tensor
    turns: Tensor | None
    slots: Tensor | slice
    limits: Tensor | None
    """How many keys each query sees, ``[segments, each, 1]``; None where it is all of them."""
    distance: Tensor
    """From each query to the segment's first key, ``[segments, each, 1]``."""


class Attend:
    """Stores a layer's new keys and values in a pool and answers the queries of a `Step`.

    A segment is read once for all tokens that look at it.  Those that only one token looks at are
    batched, those of about equal length together.
    """

    def __init__(self, step: Step, pool: Pool, turn: Turn) -> None:
        self._pool = pool
        self._turn = turn
        self._device = pool.store.device
        self._slots = self._table(step.slots)
        self._positions = step.positions
        narrow: dict[int, list[Group]] = defaultdict(list)
        self._parts: list[_Part] = []
        for group in step.groups:
            if len(group.sights) == 1:
                narrow[group.longest.bit_length()].append(group)
            else:
                self._parts.append(self._wide(group))
        self._parts += map(self._narrow, narrow.values())
        owners = torch.cat([part.queries.flatten() for part in self._parts])
        self._owners = owners
        self._once = len(owners) == len(step.tokens)
        self._order = owners.argsort() if self._once else owners

    def _wide(self, group: Group) -> _Part:
        longest = group.longest
        same = all(sight.limit == longest for sight in group.sights)
        return _Part(
            queries=self._table([[sight.query for sight in group.sights]]),
            turns=self._turns(group.sights),
            slots=slice(group.start, group.start + longest),
            limits=None if same else self._table([[[s.limit] for s in group.sights]]),
            distance=self._table([[[self._distance(group, s)] for s in group.sights]]),
        )

    def _narrow(self, groups: list[Group]) -> _Part:
        longest = max(group.longest for group in groups)
        sights = [group.sights[0] for group in groups]
        limits = self._table([[sight.limit] for sight in sights])
        keys = torch.arange(longest, device=self._device)
        # Beyond its limit a segment repeats its first key, which is surely written.
        slots = self._table([[group.start] for group in groups]) + keys * (keys < limits)
        return _Part(
            queries=self._table([[sight.query] for sight in sights]),
            turns=self._turns(sights),
            slots=slots,
            limits=limits[:, None],
            distance=self._table(
                [[[self._distance(g, s)]] for g, s in zip(groups, sights, strict=True)]
            ),
        )

    def _table(self, values: list[Any]) -> Tensor:
        return torch.tensor(values, device=self._device)

    def _turns(self, sights: list[Sight]) -> Tensor | None:
        turns = [sight.turn for sight in sights]
        return self._table(turns) if any(turns) else None

    def _distance(self, group: Group, sight: Sight) -> int:
        return self._positions[sight.query] + sight.turn - group.home

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None = None,
        window: int | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Attention of ``query [T, heads, dim]``; ``key`` and ``value [T, kv_heads, dim]`` are new.

        ``window`` bounds how far back a token sees, in positions of its own view; ``sinks
        [heads]`` are scores that take weight and give nothing.  Returns ``[T, heads * dim]``.
        """
        store = self._pool.store[layer]
        store[self._slots] = torch.cat([key, value], 1).to(store.dtype)
        scale = scale or query.shape[-1] ** -0.5
        outs, weights = [], []
        for part in self._parts:
            out, weight = self._partial(store, query, part, scale, window)
            outs.append(out)
            weights.append(weight)
        out, weight = torch.cat(outs), torch.cat(weights)
        if self._once and sinks is None:
            return out[self._order].flatten(1)
        return self._merge(out, weight, len(query), sinks).to(query.dtype).flatten(1)

    def _partial(
        self, store: Tensor, query: Tensor, part: _Part, scale: float, window: int | None
    ) -> tuple[Tensor, Tensor]:
        """Outputs ``[n, heads, dim]`` and log-sum-exps ``[n, heads]`` of one part's queries."""
        q = query[part.queries.flatten()]
        if part.turns is not None:
            q = self._turn(q, part.turns)
        keyed = store[part.slots]
        keyed = keyed[None] if isinstance(part.slots, slice) else keyed
        key, value = keyed.transpose(1, 2).chunk(2, 1)  # [segments, kv_heads, keys, dim]
        segments, each = part.queries.shape
        kv_heads, heads, dim = key.shape[1], q.shape[1], q.shape[2]
        shared = heads // kv_heads
        q = q.view(segments, each, kv_heads, shared, dim).permute(0, 2, 3, 1, 4)
        scores = (q.reshape(segments, kv_heads, shared * each, dim) @ key.mT).float() * scale
        scores = scores.view(segments, kv_heads, shared, each, -1)
        hidden = _hidden(part, key.shape[2], window)
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, None], HIDDEN)
        weight = scores.logsumexp(-1)
        mass = (scores - weight[..., None]).exp_().to(value.dtype)
        out = mass.view(segments, kv_heads, shared * each, -1) @ value
        out = out.view(segments, kv_heads, shared, each, dim).permute(0, 3, 1, 2, 4)
        return (
            out.reshape(segments * each, heads, dim),
            weight.permute(0, 3, 1, 2).reshape(segments * each, heads),
        )

    def _merge(self, out: Tensor, weight: Tensor, count: int, sinks: Tensor | None) -> Tensor:
        owners = self._owners
        top = weight.new_full((count, weight.shape[1]), HIDDEN)
        top = top.scatter_reduce(0, owners[:, None].expand_as(weight), weight, "amax")
        if sinks is not None:
            top = torch.maximum(top, sinks.float())
        share = (weight - top[owners]).exp_()
        total = torch.zeros_like(top).index_add_(0, owners, share)
        if sinks is not None:
            total += (sinks.float() - top).exp()
        merged = torch.zeros(count, *out.shape[1:], device=out.device)
        merged.index_add_(0, owners, out * share[..., None])
        return merged / total[..., None]


def _hidden(part: _Part, keys: int, window: int | None) -> Tensor | None:
    """Which keys each query does not see, ``[segments, each, keys]``; None where it sees all."""
    index = torch.arange(keys, device=part.distance.device)
    hidden = None if part.limits is None else index >= part.limits
    if window is not None:
        # Keys ahead of the query, as in overlapping branches, are never out of the window.
        far = part.distance - index >= window
        hidden = far if hidden is None else hidden | far
    return hidden
