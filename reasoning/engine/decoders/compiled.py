"""The native decoder's step as one C++ function, built for the model's shapes where g++ is at hand.

It is several times faster than the same step in torch, whose calls cost more than a small model's
arithmetic.  It computes in float32 and reads weights in the narrowest type in which they are what
they were; the torch decoder is the reference and the fallback.
``REASON_COMPILE=0`` does without it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from reasoning.engine.decoders.compiling import build
from reasoning.engine.decoders.llama import Layer, NativeDecoder
from reasoning.engine.pool import Pool
from reasoning.engine.step import ForwardStep

SOURCE = Path(__file__).with_name("step.cpp")
PANEL = 32
"""Columns of a packed panel of weights."""
TYPES = (torch.bfloat16, torch.float16, torch.float32)
"""What weights may be read as, in the order of the macro ``WEIGHT``."""

_Pointer = ctypes.c_void_p


class _LayerPointers(ctypes.Structure):
    _fields_ = [
        (name, _Pointer)
        for name in (
            *("attention_norm", "bias", "q_norm", "k_norm", "mlp_norm"),
            *("qkv", "output", "gate_up", "down"),
        )
    ]


class _StepPointers(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("tokens", "reads", "outputs")),
        *((name, _Pointer) for name in ("ids", "positions", "slots", "paths")),
        *((name, _Pointer) for name in ("output", "read", "range")),
        *((name, _Pointer) for name in ("store", "logits", "scratch")),
        ("layer_stride", ctypes.c_int64),
    ]


class CompiledDecoder:
    """A `Decoder` that runs a `NativeDecoder`'s weights through the compiled step."""

    def __init__(self, native: NativeDecoder, library: ctypes.CDLL, weights: torch.dtype) -> None:
        self.config = config = native.config
        self.dtype = torch.float32
        self.device = "cpu"
        self.paths = native.paths
        self._call = library.step
        self.weights = weights
        self._kept: list[Tensor] = []
        self._intermediate = native.layers[0].down.shape[1]

        class ModelPointers(ctypes.Structure):
            _fields_ = [
                *((name, _Pointer) for name in ("embedding", "norm", "rotations", "identities")),
                ("rows", ctypes.c_int64),
                ("head", _Pointer),
                ("layers", _LayerPointers * config.layers),
            ]

        self._model = ModelPointers(
            embedding=self._keep(native.embedding),
            norm=self._keep(native.norm),
            rotations=self._keep(torch.view_as_real(native.rotations)),
            identities=None if native.identities is None else self._keep(native.identities),
            rows=0 if native.identities is None else native.identities.shape[1],
            head=self._keep(pack(native.head, weights)),
            layers=(_LayerPointers * config.layers)(*map(self._layer, native.layers)),
        )
        heads = (config.heads + 2 * config.kv_heads) * config.head_dim
        sizes = [config.hidden, config.hidden, padded(config.hidden), padded(heads)]
        sizes += [padded(2 * self._intermediate), config.heads * (2 * config.head_dim + 2)]
        self._scratch = sum(sizes)

    @classmethod
    def build(cls, native: NativeDecoder) -> CompiledDecoder | None:
        """The compiled form of a decoder, or None where it can't be built."""
        if native.dtype != torch.float32 or native.device != "cpu":
            return None
        matrices = [m for layer in native.layers for m in layer if m is not None and m.dim() == 2]
        weights = next(kind for kind in TYPES if _exact(kind, [*matrices, native.head]))
        config = native.config
        library = build(
            SOURCE,
            {
                "HIDDEN": config.hidden,
                "LAYERS": config.layers,
                "HEADS": config.heads,
                "KV_HEADS": config.kv_heads,
                "DIM": config.head_dim,
                "INTER": native.layers[0].down.shape[1],
                "VOCABULARY": config.vocabulary,
                "EPS": f"{config.norm_eps}f",
                "WEIGHT": TYPES.index(weights),
            },
        )
        return None if library is None else cls(native, library, weights)

    def __call__(self, step: ForwardStep, pool: Pool) -> Tensor:
        groups: list[int] = []
        ranges: list[int] = []
        for read in step.reads:
            first = len(ranges) // 3
            for one in read.ranges:
                ranges += one
            groups += [read.start, first, len(ranges) // 3]
        tables = [step.tokens, step.positions, step.slots, step.paths]
        tables += [step.outputs, groups, ranges]
        arrays = [(ctypes.c_int32 * len(table))(*table) for table in tables]
        count = len(step.tokens)
        logits = torch.empty(len(step.outputs), padded(self.config.vocabulary))
        scratch = torch.empty(count * self._scratch + 8 * PANEL)
        self._call(
            ctypes.byref(self._model),
            ctypes.byref(
                _StepPointers(
                    *(count, len(step.reads), len(step.outputs)),
                    *(ctypes.addressof(array) for array in arrays),
                    *(pool.store.data_ptr(), logits.data_ptr(), scratch.data_ptr()),
                    pool.store.stride(0),
                )
            ),
        )
        return logits[:, : self.config.vocabulary]

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()

    def _layer(self, layer: Layer) -> _LayerPointers:
        norms = (layer.attention_norm, layer.qkv_bias, layer.q_norm, layer.k_norm, layer.mlp_norm)
        matrices = (layer.qkv, layer.output, layer.gate_up, layer.down)
        return _LayerPointers(
            *(None if norm is None else self._keep(norm) for norm in norms),
            *(self._keep(pack(matrix, self.weights)) for matrix in matrices),
        )


def padded(size: int) -> int:
    return -(-size // PANEL) * PANEL


def _exact(kind: torch.dtype, matrices: Sequence[Tensor]) -> bool:
    return all(torch.equal(matrix, matrix.to(kind).float()) for matrix in matrices)


def pack(weight: Tensor, kind: torch.dtype) -> Tensor:
    """``[out, in]`` as panels ``[out / PANEL, in, PANEL]``."""
    out, size = weight.shape
    wide = torch.nn.functional.pad(weight.to(kind), (0, 0, 0, padded(out) - out))
    return wide.view(-1, PANEL, size).transpose(1, 2).contiguous()
