"""Attention in the form that a GPU's kernels take, on the cache's layout of vLLM's GPU backends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("vllm", reason="vllm is not installed; CI runs these with it")
pytestmark = pytest.mark.filterwarnings("default")

BLOCK, HEADS, SHARED, DIM = 16, 2, 2, 32


@pytest.mark.parametrize("neox", [True, False])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (1, 0, 2, 3)], ids=str)
def test_one_batch_of_spans_equals_row_after_row(order: tuple[int, ...], neox: bool) -> None:
    """Three members with prompts of their own look at three segments, some of them unaligned."""
    from reasoning.vllm_plugin.attention.cache import Cache
    from reasoning.vllm_plugin.attention.rotation import Turner
    from reasoning.vllm_plugin.attention.spans import attend_spans, torch_partials
    from reasoning.vllm_plugin.attention.tables import AttentionTables, attend

    torch.manual_seed(0)
    logical = torch.randn(40, HEADS, BLOCK, 2 * DIM)
    stored = logical.permute(order).contiguous()  # as it may stand in memory
    cache = Cache.of_strided(stored.permute(*np.argsort(order)))
    angles = torch.arange(64)[:, None] * torch.rand(DIM // 2)
    turner = Turner(torch.stack([angles.cos(), angles.sin()], 1), neox)
    blocks = np.arange(1, 25, dtype=np.int32)
    segments = [(0, 5, 40), (4, 0, 16), (6, 15, 33)]
    rows, starts, parts = [], [0], []
    for member in range(3):
        for count in range(1, 3):
            rows.append(1 + 3 * member + count)
            shared = [(*one, (member - other) * 7) for other, one in enumerate(segments)]
            parts += [*shared, (10 + 2 * member, 0, 20 + count, 0)]
            starts.append(len(parts))
    arrays = (np.array(one, dtype=np.int32) for one in (rows, starts, parts))
    tables = AttentionTables(*arrays, blocks)
    query = torch.randn(12, HEADS * SHARED, DIM)
    wanted, found = torch.zeros(2, 12, HEADS * SHARED, DIM)
    attend(tables, cache, turner, query, wanted, DIM**-0.5)
    attend_spans(tables, cache, turner, query, found, DIM**-0.5, partials=torch_partials)
    assert wanted[rows].abs().min() > 0
    assert torch.equal(found == 0, wanted == 0)
    assert (found - wanted).abs().max() < 2e-6


def test_copies_work_on_any_order_of_a_cache() -> None:
    from reasoning.vllm_plugin.attention.cache import Cache

    stored = torch.randn(20, BLOCK, HEADS, 2 * DIM).transpose(1, 2)
    before = stored.clone()
    cache = Cache.of_strided(stored)
    cache.copy([3, 4, 5], 5, [9, 8, 7], 2, 37)
    for index in range(37):
        source, target = 5 + index, 2 + index
        wanted = before[[3, 4, 5][source // BLOCK], :, source % BLOCK]
        assert torch.equal(stored[[9, 8, 7][target // BLOCK], :, target % BLOCK], wanted)
    assert torch.equal(stored[10:], before[10:])
