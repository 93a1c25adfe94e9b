"""The compiled attention of the live half on a CPU; without a compiler torch does the same."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from reasoning.engine.decoders.compiling import build

if TYPE_CHECKING:
    from reasoning.vllm_plugin.attention.rotation import Turner
    from reasoning.vllm_plugin.attention.tables import AttentionTables

SOURCE = Path(__file__).with_name("kernel.cpp")

_Pointer = ctypes.c_void_p


class _Tables(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int32) for n in ("count", "heads", "kv_heads", "block", "half", "neox")),
        ("scale", ctypes.c_float),
        *((n, ctypes.c_int64) for n in ("query_stride", "output_stride")),
        *((n, ctypes.c_int64) for n in ("block_stride", "head_stride")),
        *((n, _Pointer) for n in ("cache", "query", "output", "turns")),
        *((n, _Pointer) for n in ("rows", "starts", "parts", "tables")),
    ]


class Kernel:
    """Calls the compiled attention for heads of one width."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._call = library.attend

    def __call__(
        self,
        tables: AttentionTables,
        cache: Tensor,
        turner: Turner,
        query: Tensor,
        output: Tensor,
        scale: float,
    ) -> None:
        """As `attend`, on a cache ``[blocks, kv_heads, block, 2 * dim]``."""
        assert query.stride(2) == output.stride(2) == 1
        assert query.stride(1) == output.stride(1) == query.shape[2]
        arrays = (tables.rows, tables.starts, tables.parts, tables.blocks)
        self._call(
            ctypes.byref(
                _Tables(
                    *(len(tables.rows), query.shape[1], cache.shape[1], cache.shape[2]),
                    *(turner.table.shape[2], turner.neox, scale),
                    *(query.stride(0), output.stride(0), cache.stride(0), cache.stride(1)),
                    *(one.data_ptr() for one in (cache, query, output, turner.table)),
                    *(array.ctypes.data for array in arrays),
                )
            )
        )


@functools.cache
def load_kernel(dim: int) -> Kernel | None:
    """The kernel for heads of this width, from the cache or newly compiled; None without g++."""
    library = build(SOURCE, {"DIM": dim}, options=["-fopenmp"])
    return None if library is None else Kernel(library)
