"""Demonstrations as token ids, mixed into one endless stream."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from reasoning.language import markup
from reasoning.training.demonstrations import Demonstration, Piece
from reasoning.training.mixture import BASICS, MIXTURE
from reasoning.training.shared import Laid
from reasoning.values.layout import flatten


class Encoded(NamedTuple):
    """Token ids with their positions, path identities and loss weights, all of one length.

    ``mask [length, length]`` says what each token attends to; None is all before it.
    """

    tokens: list[int]
    positions: list[int]
    paths: list[int]
    weights: list[float]
    mask: Tensor | None = None


class Encoder:
    """Encodes demonstrations; one longer than a row is cut to a window at its true positions."""

    def __init__(self) -> None:
        self._ids = {token: index for index, token in enumerate(markup.VOCABULARY)}

    def __call__(self, demonstration: Demonstration, row: int, rng: random.Random) -> Encoded:
        head = self._pieces(demonstration.head)
        blocks = [(level, self._pieces(pieces)) for level, pieces in demonstration.body]
        starts, position = [], len(head.tokens)
        for _, block in blocks:
            starts.append(position)
            position += len(block.tokens)
        chosen: Sequence[int] = range(len(blocks))
        if position > row:
            chosen = self._window(blocks, row - len(head.tokens), rng)
        tokens, weights = list(head.tokens), list(head.weights)
        positions = list(range(len(tokens)))
        for index in chosen:
            block = blocks[index][1]
            tokens += block.tokens
            weights += block.weights
            positions += range(starts[index], starts[index] + len(block.tokens))
        shared = len(demonstration.head[0].text.split())
        paths = [0] * shared + [demonstration.path] * (len(tokens) - shared)
        return Encoded(tokens[:row], positions[:row], paths[:row], weights[:row])

    def _pieces(self, pieces: list[Piece]) -> Encoded:
        tokens: list[int] = []
        weights: list[float] = []
        for text, weight in pieces:
            ids = [self._ids[token] for token in text.split()]
            tokens += ids
            weights += [weight] * len(ids)
        return Encoded(tokens, [], [], weights)

    @staticmethod
    def _window(blocks: list[tuple[int, Encoded]], room: int, rng: random.Random) -> list[int]:
        first = rng.randrange(len(blocks))
        if rng.random() < 0.25:  # make sure that endings are seen
            first, length = len(blocks), 0
            while first and length + len(blocks[first - 1][1].tokens) <= room - 24:
                first -= 1
                length += len(blocks[first][1].tokens)
        kept: list[int] = []
        level = blocks[first][0] if first < len(blocks) else 1
        for index in range(first - 1, -1, -1):
            if blocks[index][0] < level:
                kept.insert(0, index)
                level = blocks[index][0]
        room -= sum(len(blocks[index][1].tokens) for index in kept)
        for index in range(first, len(blocks)):
            kept.append(index)
            room -= len(blocks[index][1].tokens)
            if room <= 0:
                break
        return kept


def lay_out(laid: Laid) -> Encoded:
    """Segments as one flat sequence, with the mask and positions of the layout that serves them."""
    flat = flatten(laid.segments)
    return Encoded(
        flat.tokens.tolist(),
        flat.positions.tolist(),
        [segment.path for segment in laid.segments for _ in segment.tokens],
        [weight for weights in laid.weights for weight in weights],
        flat.mask,
    )


def stream(
    rng: random.Random, encode: Encoder, rows: Sequence[int], *, basics: int = 0
) -> Iterator[Encoded]:
    """An endless, seeded stream of encoded demonstrations; ``rows`` are the row lengths.

    The first ``basics`` tokens are of the kinds in `BASICS` only, densest in arithmetic.
    A demonstration longer than the row drawn for it is cut to a window: mostly the shortest row,
    which is cheap, and one time in four the longest, so that distant context is seen too.
    """
    drawn = dict.fromkeys(MIXTURE, 1.0)
    early = True
    while True:
        if early and sum(drawn.values()) >= basics:
            early, drawn = False, dict.fromkeys(MIXTURE, 1.0)
        # The kind furthest behind its share of tokens comes next.
        kind = min(BASICS if early else MIXTURE, key=lambda k: drawn[k] / MIXTURE[k])
        demonstration = kind(rng)
        if isinstance(demonstration, Laid):
            encoded = lay_out(demonstration)
        else:
            windowed = len(demonstration.body) > 1
            row = rows[0] if windowed and rng.random() < 0.75 else rows[-1]
            encoded = encode(demonstration, row, rng)
        drawn[kind] += len(encoded.tokens)
        yield encoded
