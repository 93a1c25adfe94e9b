"""From a model folder to a decoder, where it is to run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from orchestrator.errors import InvalidValue
from reasoning.engine.config import ModelConfig, read_config
from reasoning.engine.pool import Pool
from reasoning.engine.step import ForwardStep


class Decoder(Protocol):
    """A model: feeds a step, keeping its keys and values, and gives the logits of its outputs.

    Attributes:
        paths: How many path identities it has; None where it ignores paths.
    """

    config: ModelConfig
    dtype: torch.dtype
    device: str
    paths: int | None

    def __call__(self, step: ForwardStep, pool: Pool) -> Tensor: ...


def load_decoder(folder: Path, dtype: torch.dtype, device: str) -> Decoder:
    """The decoder of a model folder: native where that is exact, else through transformers.

    On a CPU in float32 its step is compiled where that can be done without loss.

    Raises:
        InvalidValue: there is no such device.
        ModelUnusable: the folder is missing, broken or of an unsupported kind.
    """
    _check(device)
    config = read_config(folder)
    if config.native:
        from reasoning.engine.decoders.compiled import CompiledDecoder
        from reasoning.engine.decoders.llama import NativeDecoder

        native = NativeDecoder.load(folder, config, dtype, device)
        return CompiledDecoder.build(native) or native
    from reasoning.engine.decoders.hugging_face import TransformersDecoder

    return TransformersDecoder.load(folder, config, dtype, device)


def free_lanes(decoder: Decoder) -> int:
    """How often this process could run the decoder's threads beside each other."""
    if not decoder.config.native or decoder.device != "cpu":
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // torch.get_num_threads())


def _check(device: str) -> None:
    kind = device.partition(":")[0]
    if kind == "cpu" or (kind == "cuda" and torch.cuda.is_available()):
        return
    known = "cpu or cuda" if torch.cuda.is_available() else "cpu, for this torch sees no GPU"
    raise InvalidValue(f"device: {device!r} is not there; give {known}")
