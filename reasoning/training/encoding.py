"""Demonstrations as token ids, in one endless stream of the mixture."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from reasoning.training.demonstrations import Demonstration, tokenize
from reasoning.training.mixture import BASICS, MIXTURE
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


def stream(
    rng: random.Random, rows: Sequence[int], *, basics: int = 0
) -> Iterator[TrainingSequence]:
    """An endless stream of encoded demonstrations, which follows from ``rng`` alone.

    A demonstration that is longer than its row is cut to a window.  Its row is mostly the
    shortest, which is cheap, and one time in four the longest, so that distant context is seen.

    Args:
        rows: The row lengths, in ascending order.
        basics: The first tokens are of the kinds in `BASICS` only, which have most arithmetic.
    """
    drawn = dict.fromkeys(MIXTURE, 1.0)
    early = True
    while True:
        if early and sum(drawn.values()) >= basics:
            early, drawn = False, dict.fromkeys(MIXTURE, 1.0)
        # The kind furthest behind its share of tokens comes next.
        kind = min(BASICS if early else MIXTURE, key=lambda k: drawn[k] / MIXTURE[k])
        demonstration = kind(rng)
        if isinstance(demonstration, SharedDemonstration):
            encoded = lay_out(demonstration)
        else:
            windowed = len(demonstration.body) > 1
            row = rows[0] if windowed and rng.random() < 0.75 else rows[-1]
            encoded = encode(demonstration, row, rng)
        drawn[kind] += len(encoded.tokens)
        yield encoded
