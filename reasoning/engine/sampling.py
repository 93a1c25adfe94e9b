"""Choosing the next token: greedy, or seeded sampling that does not depend on the batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from reasoning.sampling import Sampling


class Sampler:
    """One thread's stream of uniform numbers and its temperature."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self._random = random.Random(sampling.seed)

    def uniform(self) -> float:
        return self._random.random()


def sample(logits: Tensor, samplers: Sequence[Sampler]) -> tuple[list[int], list[float]]:
    """One token for each row of ``logits [rows, V]``, with its log-probability at temperature 1."""
    tokens = logits.argmax(-1)
    drawn = [row for row, sampler in enumerate(samplers) if sampler.temperature > 0]
    if drawn:
        heat = torch.tensor([[samplers[row].temperature] for row in drawn], dtype=torch.float64)
        uniform = torch.tensor([[samplers[row].uniform()] for row in drawn], dtype=torch.float64)
        rows = slice(None) if len(drawn) == len(samplers) else drawn
        # Double precision: the cumulative sum of a large vocabulary must still reach one.
        shifted = (logits[rows] - logits[rows].amax(-1, keepdim=True)).double()
        mass = torch.softmax(shifted / heat, -1).cumsum(-1)
        found = torch.searchsorted(mass, uniform * mass[:, -1:]).squeeze(-1)
        tokens[rows] = found.clamp(max=logits.shape[-1] - 1)
    chosen = logits.gather(-1, tokens[:, None]).squeeze(-1)
    logprobs = chosen - torch.logsumexp(logits, -1)
    return tokens.tolist(), logprobs.tolist()
