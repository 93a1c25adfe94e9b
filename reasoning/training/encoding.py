"""Demonstrations as token ids."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from reasoning.training.demonstrations import Demonstration, tokenize
from reasoning.training.shared import SharedDemonstration
from reasoning.values.layout import flatten


class TrainingSequence(NamedTuple):
    """Token ids with their positions, path identities and loss weights, all of one length.

    Attributes:
        mask: ``[length, length]``, true where a token attends to another; None for all before it.
    """

    tokens: list[int]
    positions: list[int]
    paths: list[int]
    weights: list[float]
    mask: Tensor | None = None


def encode(demonstration: Demonstration, row: int, rng: random.Random) -> TrainingSequence:
    """A demonstration of at most ``row`` tokens, at their true positions.

    One that is longer is cut to a window of it.
    """
    tokens, weights = tokenize(demonstration.head)
    blocks = [(level, *tokenize(texts)) for level, texts in demonstration.body]
    starts = list(accumulate((len(block) for _, block, _ in blocks), initial=len(tokens)))
    chosen: Sequence[int] = range(len(blocks))
    if starts[-1] > row:
        lengths = [(level, len(block)) for level, block, _ in blocks]
        chosen = _window(lengths, row - len(tokens), rng)
    positions = list(range(len(tokens)))
    for index in chosen:
        _, block, block_weights = blocks[index]
        tokens += block
        weights += block_weights
        positions += range(starts[index], starts[index] + len(block))
    shared = len(demonstration.head[0].text.split())
    paths = [0] * shared + [demonstration.path] * (len(tokens) - shared)
    return TrainingSequence(tokens[:row], positions[:row], paths[:row], weights[:row])


def _window(blocks: list[tuple[int, int]], room: int, rng: random.Random) -> list[int]:
    """The indices of blocks, given as (nesting level, tokens), that make a random window."""
    first = rng.randrange(len(blocks))
    if rng.random() < 0.25:  # make sure that endings are seen
        first, length = len(blocks), 0
        while first and length + blocks[first - 1][1] <= room - 24:
            first -= 1
            length += blocks[first][1]
    kept: list[int] = []
    level = blocks[first][0] if first < len(blocks) else 1
    for index in range(first - 1, -1, -1):
        if blocks[index][0] < level:
            kept.insert(0, index)
            level = blocks[index][0]
    room -= sum(blocks[index][1] for index in kept)
    for index in range(first, len(blocks)):
        kept.append(index)
        room -= blocks[index][1]
        if room <= 0:
            break
    return kept


def lay_out(demonstration: SharedDemonstration) -> TrainingSequence:
    """Segments as one flat sequence, with the mask and positions that `flatten` gives them."""
    flat = flatten(demonstration.segments)
    return TrainingSequence(
        flat.tokens.tolist(),
        flat.positions.tolist(),
        [segment.path for segment in demonstration.segments for _ in segment.tokens],
        [weight for weights in demonstration.weights for weight in weights],
        flat.mask,
    )
