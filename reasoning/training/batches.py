"""Batches of a few fixed shapes, packed from a task's stream of sequences."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from reasoning.training.encoding import TrainingSequence
from reasoning.training.recipe import TrainingRecipe, TrainingTask, find_task

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Tokens, positions, path identities ``[rows, length]``, masks ``[rows, length, length]`` and loss
weights ``[rows, length]``."""

STRETCH = 100
"""So many batches are drawn from one seed, so that a run can go on in the middle of it."""


def batches(recipe: TrainingRecipe, step: int = 0, *, basics: int | None = None) -> Iterator[Batch]:
    """Endless batches of packed rows, from that of ``step`` on.

    Each process of a group draws its own.

    Args:
        basics: Tokens of basics that are left where the stretch of ``step`` begins; by default
            the recipe's.
    """
    task, left = find_task(recipe.model), recipe.basics if basics is None else basics
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    for stretch in count(step // STRETCH):
        rng = random.Random(f"{recipe.seed}/{stretch}/{rank}")
        drawn = islice(_stretch(task, recipe, rng, max(left, 0) // size), STRETCH)
        for index, batch in enumerate(drawn, stretch * STRETCH):
            left -= batch[0].numel() * size
            if index >= step:
                yield batch


def _stretch(
    task: TrainingTask, recipe: TrainingRecipe, rng: random.Random, basics: int
) -> Iterator[Batch]:
    """Endless batches from one generator."""
    lengths = [length for _, length in recipe.shapes]
    queues: list[list[TrainingSequence]] = [[] for _ in lengths]
    waiting = [0] * len(lengths)
    for item in task.stream(rng, lengths, basics):
        index = next(i for i, length in enumerate(lengths) if len(item.tokens) <= length)
        queues[index].append(item)
        waiting[index] += len(item.tokens)
        rows, length = recipe.shapes[index]
        if waiting[index] < 2 * rows * length:  # twice as many, so that rows are packed tightly
            continue
        packed = [pack(queues[index], length, task.pad) for _ in range(rows)]
        waiting[index] = sum(len(item.tokens) for item in queues[index])
        yield tuple(torch.stack(column) for column in zip(*packed, strict=True))  # type: ignore[misc]


def pack(queue: list[TrainingSequence], length: int, pad: int) -> Batch:
    """Fill one row: take the sequence that waited longest, then always the longest that fits.

    Sequences are removed from ``queue`` and do not see each other.
    """
    tokens = torch.full((length,), pad)
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
