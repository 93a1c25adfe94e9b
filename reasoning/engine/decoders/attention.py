"""Attention over segments in torch: partial results by segment, merged by log-sum-exp, exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reasoning.engine.pool import Pool
from reasoning.engine.step import ForwardStep, SegmentReads, VisibleRange

HIDDEN = -1e30
"""What a key that is not seen scores: its weight is zero wherever another key is seen."""

Turn = Callable[[Tensor, Tensor], Tensor]
"""Rotates queries ``[n, heads, dim]`` by positions ``[n]``, without any scale of the model's."""


class _AttentionCall(NamedTuple):
    """One call over segments: queries as ``[segments, each]``, and the keys that they score."""

    queries: Tensor
    turns: Tensor | None
    slots: Tensor | slice
    limits: Tensor | None
    """How many keys each query sees, ``[segments, each, 1]``; None where it is all of them."""
    distance: Tensor
    """From each query to the segment's first key, ``[segments, each, 1]``."""


class Attend:
    """Stores a layer's new keys and values in a pool and answers the queries of a `ForwardStep`.

    A segment is read once for all tokens that look at it.  Those that only one token looks at are
    batched, those of about equal length together.
    """

    def __init__(self, step: ForwardStep, pool: Pool, turn: Turn) -> None:
        self._pool = pool
        self._turn = turn
        self._device = pool.store.device
        self._slots = self._table(step.slots)
        self._positions = step.positions
        narrow: dict[int, list[SegmentReads]] = defaultdict(list)
        self._calls: list[_AttentionCall] = []
        for read in step.reads:
            if len(read.ranges) == 1:
                narrow[read.longest.bit_length()].append(read)
            else:
                self._calls.append(self._wide(read))
        self._calls += map(self._narrow, narrow.values())
        owners = torch.cat([call.queries.flatten() for call in self._calls])
        self._owners = owners
        self._once = len(owners) == len(step.tokens)
        self._order = owners.argsort() if self._once else owners

    def _wide(self, read: SegmentReads) -> _AttentionCall:
        longest = read.longest
        same = all(one.limit == longest for one in read.ranges)
        return _AttentionCall(
            queries=self._table([[one.query for one in read.ranges]]),
            turns=self._turns(read.ranges),
            slots=slice(read.start, read.start + longest),
            limits=None if same else self._table([[[one.limit] for one in read.ranges]]),
            distance=self._table([[[self._distance(read, one)] for one in read.ranges]]),
        )

    def _narrow(self, reads: list[SegmentReads]) -> _AttentionCall:
        longest = max(read.longest for read in reads)
        ranges = [read.ranges[0] for read in reads]
        limits = self._table([[one.limit] for one in ranges])
        keys = torch.arange(longest, device=self._device)
        # Beyond its limit a segment repeats its first key, which is surely written.
        slots = self._table([[read.start] for read in reads]) + keys * (keys < limits)
        return _AttentionCall(
            queries=self._table([[one.query] for one in ranges]),
            turns=self._turns(ranges),
            slots=slots,
            limits=limits[:, None],
            distance=self._table(
                [[[self._distance(r, one)]] for r, one in zip(reads, ranges, strict=True)]
            ),
        )

    def _table(self, values: list[Any]) -> Tensor:
        return torch.tensor(values, device=self._device)

    def _turns(self, ranges: list[VisibleRange]) -> Tensor | None:
        turns = [one.turn for one in ranges]
        return self._table(turns) if any(turns) else None

    def _distance(self, read: SegmentReads, seen: VisibleRange) -> int:
        return self._positions[seen.query] + seen.turn - read.home

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
        for call in self._calls:
            out, weight = self._partial(store, query, call, scale, window)
            outs.append(out)
            weights.append(weight)
        out, weight = torch.cat(outs), torch.cat(weights)
        if self._once and sinks is None:
            return out[self._order].flatten(1)
        return self._merge(out, weight, len(query), sinks).to(query.dtype).flatten(1)

    def _partial(
        self, store: Tensor, query: Tensor, call: _AttentionCall, scale: float, window: int | None
    ) -> tuple[Tensor, Tensor]:
        """Outputs ``[n, heads, dim]`` and log-sum-exps ``[n, heads]`` of one call's queries."""
        q = query[call.queries.flatten()]
        if call.turns is not None:
            q = self._turn(q, call.turns)
        keyed = store[call.slots]
        keyed = keyed[None] if isinstance(call.slots, slice) else keyed
        key, value = keyed.transpose(1, 2).chunk(2, 1)  # [segments, kv_heads, keys, dim]
        segments, each = call.queries.shape
        kv_heads, heads, dim = key.shape[1], q.shape[1], q.shape[2]
        shared = heads // kv_heads
        q = q.view(segments, each, kv_heads, shared, dim).permute(0, 2, 3, 1, 4)
        scores = (q.reshape(segments, kv_heads, shared * each, dim) @ key.mT).float() * scale
        scores = scores.view(segments, kv_heads, shared, each, -1)
        hidden = _hidden(call, key.shape[2], window)
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


def _hidden(call: _AttentionCall, keys: int, window: int | None) -> Tensor | None:
    """Which keys each query does not see, ``[segments, each, keys]``; None where it sees all."""
    index = torch.arange(keys, device=call.distance.device)
    hidden = None if call.limits is None else index >= call.limits
    if window is not None:
        # Keys ahead of the query, as in overlapping branches, are never out of the window.
        far = call.distance - index >= window
        hidden = far if hidden is None else hidden | far
    return hidden
