"""Batches of a few fixed shapes, packed from the stream of demonstrations."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from reasoning.language import markup
from reasoning.training.encoding import TrainingSequence, stream
from reasoning.training.recipe import TrainingRecipe

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Tokens, positions, path identities ``[rows, length]``, masks ``[rows, length, length]`` and loss
weights ``[rows, length]``."""


def batches(
    recipe: TrainingRecipe, first: int = 0, *, basics: int | None = None
) -> Iterator[Batch]:
    """Endless batches of packed rows.

    A run that is resumed at step ``first`` draws new demonstrations instead of repeating the old
    ones, and each process of a group draws its own.

    Args:
        basics: Tokens of basics at first; by default the recipe's, and none when resumed.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    rng = random.Random(f"{recipe.seed}/{first}/{rank}" if first or rank else recipe.seed)
    lengths = [length for _, length in recipe.shapes]
    queues: list[list[TrainingSequence]] = [[] for _ in lengths]
    waiting = [0] * len(lengths)
    if basics is None:
        basics = 0 if first else recipe.basics
    for item in stream(rng, lengths, basics=basics):
        index = next(i for i, length in enumerate(lengths) if len(item.tokens) <= length)
        queues[index].append(item)
        waiting[index] += len(item.tokens)
        rows, length = recipe.shapes[index]
        if waiting[index] < 2 * rows * length:  # twice as many, so that rows are packed tightly
            continue
        packed = [pack(queues[index], length) for _ in range(rows)]
        waiting[index] = sum(len(item.tokens) for item in queues[index])
        yield tuple(torch.stack(column) for column in zip(*packed, strict=True))  # type: ignore[misc]


def pack(queue: list[TrainingSequence], length: int) -> Batch:
    """Fill one row: take the sequence that waited longest, then always the longest that fits.

    Sequences are removed from ``queue`` and do not see each other.
    """
    tokens = torch.full((length,), markup.VOCABULARY.index(markup.PAD))
    positions, weights = torch.zeros(length), torch.zeros(length)
    paths = torch.zeros(length, dtype=torch.long)
    mask = torch.eye(length, dtype=torch.bool)  # padding sees itself, so that no row is empty
    start = 0
    index: int | None = 0
    while index is not None:
        item = queue.pop(index)
        end = start + len(item.tokens)
        tokens[start:end] = torch.tensor(item.tokens)
        positions[start:end] = torch.tensor(item.positions, dtype=torch.float32)
        paths[start:end] = torch.tensor(item.paths)
        # The first token of a sequence is never predicted from the sequence before it.
        weights[start:end] = torch.tensor([0.0, *item.weights[1:]])
        causal = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        mask[start:end, start:end] = causal if item.mask is None else item.mask
        start = end
        index = max(
            (i for i, other in enumerate(queue) if len(other.tokens) <= length - start),
            key=lambda i: len(queue[i].tokens),
            default=None,
        )
    return tokens, positions, paths, mask, weights
