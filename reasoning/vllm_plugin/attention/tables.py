"""Attention of a step's tokens to other requests' segments: its tables, and layers that use them.

Stored keys keep the positions at which they were written.  A query is turned by how much further
off a segment stands for it, a row of the model's own rotation; partial results are merged by
log-sum-exp, which is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.vllm_plugin.attention.cache import Cache
from reasoning.vllm_plugin.attention.kernel import load_kernel
from reasoning.vllm_plugin.attention.patches import PatchedMethod
from reasoning.vllm_plugin.attention.rotation import Turner
from reasoning.vllm_plugin.scheduling.plan import StepPlan

BACKENDS = ("CPUAttentionBackendImpl", "FlashAttentionImpl")
"""Attention whose ``forward`` was read, and may be stood for."""
Ints = npt.NDArray[np.int32]


class AttentionTables:
    """One step's attention to other segments, as arrays.

    Attributes:
        rows: ``[R]``, the fed tokens that attend, by index in the batch.
        starts: ``[R + 1]``, where the parts of each begin.
        parts: ``[P, 4]``: offset of a table in ``blocks``, first token, count, turn.
        blocks: Ids of the blocks of all tables.
    """

    def __init__(self, rows: Ints, starts: Ints, parts: Ints, blocks: Ints) -> None:
        self.rows, self.starts, self.parts, self.blocks = rows, starts, parts, blocks

    @classmethod
    def of(cls, plan: StepPlan, index: Mapping[str, int], batch: Sequence[int]) -> AttentionTables:
        """The arrays of a plan, given each request's row and where its tokens begin."""
        offsets: dict[str, int] = {}
        blocks: list[int] = []
        for key, table in plan.tables.items():
            offsets[key] = len(blocks)
            blocks += table
        rows: list[int] = []
        starts, parts = [0], []
        for id, one in plan.attention.items():
            shared = [(offsets[part.table], *part[1:]) for part in one.parts]
            row = index[id]
            for count, token in enumerate(range(batch[row], batch[row + 1]), one.used + 1):
                rows.append(token)
                parts += shared
                parts.append((offsets[one.table], 0, count, 0))
                starts.append(len(parts))
        arrays = (np.array(one, dtype=np.int32) for one in (rows, starts, parts, blocks))
        return cls(*arrays)


def attend(
    tables: AttentionTables,
    cache: Cache,
    turner: Turner,
    query: Tensor,
    output: Tensor,
    scale: float,
) -> None:
    """Attention in torch, one row after the other; the kernel's reference and fallback.

    ``query`` and ``output`` are ``[tokens, heads, dim]``.
    """
    blocks = tables.blocks.tolist()
    for index, row in enumerate(tables.rows.tolist()):
        keys, values, queries = [], [], []
        for part in tables.parts[tables.starts[index] : tables.starts[index + 1]].tolist():
            offset, first, count, turn = part
            key, value = cache.read(blocks[offset:], first, count)
            keys.append(key)
            values.append(value)
            queries.append(turner(query[row].float(), turn))
        shared = query.shape[1] // keys[0].shape[1]
        scores = torch.cat(
            [
                torch.einsum("hd,nhd->hn", one, key.float().repeat_interleave(shared, 1))
                for one, key in zip(queries, keys, strict=True)
            ],
            -1,
        )
        mass = (scores * scale).softmax(-1)
        value = torch.cat(values).float().repeat_interleave(shared, 1)
        output[row] = torch.einsum("hn,nhd->hd", mass, value).to(output.dtype)


def attend_in_one(*args: Any) -> None:
    """As `attend`, by one call of a GPU's kernel."""
    from reasoning.vllm_plugin.attention.spans import attend_spans, flash_partials

    attend_spans(*args, partials=flash_partials)


def patch_attention(config: Any, model: torch.nn.Module) -> PatchedMethod:
    """What lets the attention layers of a loaded model follow a step's attention tables.

    Raises:
        InvalidValue: a layer does more than plain attention.
    """
    from vllm.config import get_layers_from_vllm_config
    from vllm.model_executor.layers.attention import Attention

    turner, replaced = Turner.of(model), PatchedMethod("forward")
    for name, layer in get_layers_from_vllm_config(config, Attention).items():
        impl = layer.impl
        if type(impl).__name__ not in BACKENDS:
            kind = type(impl).__name__
            raise InvalidValue(f"vllm plugin: live segments need another attention than {kind}")
        special = (impl.alibi_slopes, impl.sinks, impl.logits_soft_cap or None)
        windowed = impl.sliding_window not in (-1, None, (-1, -1))
        if any(one is not None for one in special) or windowed:
            raise InvalidValue(f"vllm plugin: {name} has ALiBi, sinks, a soft cap or a window")
        replaced.add(impl, PatchedForward(impl, turner))
    return replaced


class PatchedForward:
    """Stands for a layer's attention: rows that see other segments are computed by the kernel."""

    def __init__(self, impl: Any, turner: Turner) -> None:
        self._stock = impl.forward
        self._turner = turner
        self._scale = float(impl.scale)
        self._kernel = load_kernel(impl.head_size) if turner.table.device.type == "cpu" else None

    def __call__(
        self,
        layer: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kv_cache: Tensor,
        attn_metadata: Any,
        output: Tensor,
        *args: Any,
        **options: Any,
    ) -> Tensor:
        tables = getattr(attn_metadata, "attention_tables", None)
        if tables is None or len(tables.rows) < attn_metadata.num_actual_tokens:
            self._stock(layer, query, key, value, kv_cache, attn_metadata, output, *args, **options)
        if tables is not None:
            self._look(tables, query, kv_cache, output.view(query.shape))
        return output

    def _look(
        self, tables: AttentionTables, query: Tensor, kv_cache: Tensor, output: Tensor
    ) -> None:
        if self._kernel is not None:
            self._kernel(tables, kv_cache, self._turner, query, output, self._scale)
            return
        way = attend if query.device.type == "cpu" else attend_in_one
        way(tables, Cache.of(kv_cache), self._turner, query, output, self._scale)
