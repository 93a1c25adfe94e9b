"""What the engine needs of a model."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from reasoning.engine.config import ModelConfig
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
