"""Choosing the next token: greedy, or seeded sampling that does not depend on the batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from reasoning.values.sampling import Sampling


class Sampler:
    """One thread's stream of uniform numbers and its temperature."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self.confidence = sampling.confidence
        self._random = random.Random(sampling.seed)

    def uniform(self) -> float:
        return self._random.random()


def sample(logits: Tensor, samplers: Sequence[Sampler]) -> tuple[list[int], list[float]]:
    """One token for each row of ``logits [rows, V]``, with its log-probability at temperature 1."""
    tokens = logits.argmax(-1)
    drawn = [row for row, sampler in enumerate(samplers) if sampler.temperature > 0]
    if drawn:
        draws = [(samplers[row].temperature, samplers[row].uniform()) for row in drawn]
        drawing = torch.tensor(draws, dtype=torch.float64, device=logits.device)
        heat, uniform = drawing[:, :1], drawing[:, 1:].contiguous()
        rows = slice(None) if len(drawn) == len(samplers) else drawn
        # Double precision: the cumulative sum of a large vocabulary must still reach one.
        shifted = (logits[rows] - logits[rows].amax(-1, keepdim=True)).double()
        mass = torch.softmax(shifted / heat, -1).cumsum(-1)
        found = torch.searchsorted(mass, uniform * mass[:, -1:]).squeeze(-1)
        tokens[rows] = found.clamp(max=logits.shape[-1] - 1)
    chosen = logits.gather(-1, tokens[:, None]).squeeze(-1)
    logprobs = chosen - torch.logsumexp(logits, -1)
    return tokens.tolist(), logprobs.tolist()


def confidences(logits: Tensor, samplers: Sequence[Sampler]) -> list[float | None]:
    """How confident each row of ``logits [rows, V]`` is, where its sampler asks for it.

    C = -(1/k) Σ log P(j), j the k most probable tokens: DeepConf (arXiv 2508.15260).
    """
    found: list[float | None] = [None] * len(samplers)
    for most in {sampler.confidence for sampler in samplers} - {0}:
        rows = [row for row, sampler in enumerate(samplers) if sampler.confidence == most]
        top = logits[rows].topk(min(most, logits.shape[-1])).values
        means = torch.logsumexp(logits[rows], -1) - top.mean(-1)
        for row, mean in zip(rows, means.tolist(), strict=True):
            found[row] = mean
    return found
